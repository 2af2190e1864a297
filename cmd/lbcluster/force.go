package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/lease"
	"lbcluster/dataplane"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// heardWithin is how long a sign of life counts against "powered off".
const heardWithin = 30 * time.Second

// forceCase is what is known when a person wants a unit owned without a
// majority.
type forceCase struct {
	self    fsm.MemberID
	members []fsm.Member
	voters  []fsm.MemberID
	named   []fsm.MemberID // said to be powered off
	// alive are the signs of life of each other member: "TLS", "lease packet from
	// 10.0.0.12 3 s ago". None: it answers on no path.
	alive map[fsm.MemberID][]string
	// claimed are the VIPs that somebody answers for, and his MAC.
	claimed map[netip.Addr]string
}

// check says why it must not be done; nil: nothing that can be seen speaks
// against it. It is pure.
func (c forceCase) check() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	answering := 0
	for _, id := range c.voters {
		if id == c.self || len(c.alive[id]) > 0 {
			answering++
		}
	}
	if need := len(c.voters)/2 + 1; answering >= need {
		refuse("%d of %d voters answer: there is a majority, which decides who owns it", answering, len(c.voters))
	}
	for _, m := range c.members {
		signs, named := c.alive[m.ID], slices.Contains(c.named, m.ID)
		switch {
		case m.ID == c.self && named:
			refuse("%s is this machine", m.Name)
		case m.ID == c.self:
		case named && len(signs) > 0:
			refuse("%s is not powered off: %s", m.Name, strings.Join(signs, ", "))
		case !named && len(signs) == 0:
			refuse("%s does not answer either and is not named: unless it is powered off too, it may own the VIP", m.Name)
		}
	}
	for _, addr := range sortedAddrs(c.claimed) {
		refuse("somebody answers for %s: %s", addr, c.claimed[addr])
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", fsm.ErrDenied, errors.Join(errs...))
	}
	return nil
}

func sortedAddrs(m map[netip.Addr]string) []netip.Addr {
	var out []netip.Addr
	for a := range m {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// ForceOwn implements api.Forcer.
func (d *theDaemon) ForceOwn(ctx context.Context, req api.ForceRequest) (api.ForceReply, error) {
	m := d.part.Load()
	self, ok := d.node.Identity()
	if !ok || m == nil {
		return api.ForceReply{}, api.ErrNotEnrolled
	}
	if m.plane == nil {
		return api.ForceReply{}, fmt.Errorf("%w: this machine holds no VIPs", fsm.ErrDenied)
	}
	t := d.node.Table()
	unit, name, err := findUnit(t, req.Router)
	if err != nil {
		return api.ForceReply{}, err
	}
	if slices.ContainsFunc(m.lease.Status().Routers, func(r lease.RouterStatus) bool { return r.ID == unit && r.Own }) {
		return api.ForceReply{}, fmt.Errorf("%w: this machine owns %s already", fsm.ErrInvalid, name)
	}
	c := forceCase{self: self.ID, members: t.Members, voters: d.node.Status().Voters}
	for _, word := range req.PoweredOff {
		o, err := findMember(t.Members, word)
		if err != nil {
			return api.ForceReply{}, err
		}
		c.named = append(c.named, o.ID)
	}
	c.alive = d.signsOfLife(ctx, m)
	c.claimed, err = d.claims(ctx, m, t, unit)
	if err != nil {
		return api.ForceReply{}, err
	}
	if err := c.check(); err != nil {
		return api.ForceReply{}, err
	}
	reply := api.ForceReply{Router: name, Until: time.Now().Add(req.For.D()), PoweredOff: namesOf(t.Members, c.named), After: fsm.Duration(m.embargo)}
	if req.Check {
		return reply, nil
	}
	d.force(m, unit, c.named, reply)
	return reply, nil
}

// force does it, and tells.
func (d *theDaemon) force(m *member, unit uint64, absent []fsm.MemberID, r api.ForceReply) {
	text := fmt.Sprintf("a person said that %s are powered off; until %s", strings.Join(r.PoweredOff, ", "), r.Until.Format("15:04:05"))
	d.log.Warn("owning without a majority, by force", "router", r.Router, "powered_off", r.PoweredOff, "until", r.Until)
	d.note(journal.Entry{Kind: journal.Forced, Unit: unit, Peers: absent, Text: text})
	m.lease.Force(unit, absent, r.Until)
}

// signsOfLife asks every member on every path: the members' TLS connections,
// gossip, and the packets of the lease.
func (d *theDaemon) signsOfLife(ctx context.Context, m *member) map[fsm.MemberID][]string {
	alive := map[fsm.MemberID][]string{}
	var mu sync.Mutex
	sign := func(id fsm.MemberID, format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		alive[id] = append(alive[id], fmt.Sprintf(format, args...))
	}
	for id, r := range d.Others(ctx) {
		if r.Status != nil {
			sign(id, "it answers over TLS")
		}
	}
	for _, o := range d.node.Status().Members {
		if o.Alive && o.ID != m.id.ID {
			sign(o.ID, "gossip holds it for alive")
		}
	}
	for _, p := range m.lease.Status().Peers {
		for _, path := range p.Paths {
			if path.Alive || path.Heard >= 0 && path.Heard < heardWithin {
				sign(p.ID, "a lease packet came %s %s ago (%v of silence are wanted)", path, journal.Seconds(path.Heard), heardWithin)
			}
		}
	}
	return alive
}

// claimWait is how long somebody has to answer for a VIP.
const claimWait = time.Second

// claims looks on the VIPs' own networks for somebody who answers for them.
func (d *theDaemon) claims(ctx context.Context, m *member, t *fsm.Table, unit uint64) (map[netip.Addr]string, error) {
	snap, err := m.vips.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("read this machine's interfaces: %w", err)
	}
	places, err := placesOf(t, unit, m.plane.Status().VIPs)
	if err != nil {
		return nil, err
	}
	claimed := map[netip.Addr]string{}
	for addr, name := range places {
		link, ok := snap.Named(name)
		if !ok {
			return nil, fmt.Errorf("%w: %s belongs on %s, and this machine has no such interface", fsm.ErrDenied, addr, name)
		}
		mac, err := vip.WhoHas(ctx, link, addr, claimWait)
		if err != nil {
			return nil, fmt.Errorf("look for somebody else with %s: %w", addr, err)
		}
		if mac != nil {
			claimed[addr] = mac.String() + " on " + link.Name
		}
	}
	return claimed, nil
}

// placesOf is the interface of each VIP of a unit. One without is refused:
// nobody can be asked for it, and silence would pass for "nobody has it".
func placesOf(t *fsm.Table, unit uint64, known []dataplane.VIPStatus) (map[netip.Addr]string, error) {
	u, _ := t.Unit(unit)
	places := map[netip.Addr]string{}
	for _, id := range u.Routers {
		r, _ := t.Router(id)
		for _, a := range r.Addresses {
			addr := a.Prefix.Addr()
			for _, v := range known {
				if v.Router == id && v.Prefix.Addr() == addr && v.Interface != "" {
					places[addr] = v.Interface
				}
			}
			if places[addr] == "" {
				return nil, fmt.Errorf("%w: %s has no interface on this machine (yet), so nobody can be asked whether he has it: lbcluster status", fsm.ErrDenied, addr)
			}
		}
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("%w: it has no address", fsm.ErrDenied)
	}
	return places, nil
}

func namesOf(members []fsm.Member, ids []fsm.MemberID) []string {
	var names []string
	for _, m := range members {
		if slices.Contains(ids, m.ID) {
			names = append(names, m.Name)
		}
	}
	return names
}
