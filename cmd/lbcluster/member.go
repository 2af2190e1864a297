package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"

	"lbcluster/checks"
	"lbcluster/cluster"
	"lbcluster/cluster/api"
	"lbcluster/cluster/lease"
	"lbcluster/dataplane"
	"lbcluster/dataplane/fwmark"
	"lbcluster/dataplane/gate"
	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/dataplane/vrrp"
	"lbcluster/fsm"
	"lbcluster/tell"
)

// member is what runs while this machine is in a cluster. A witness has the
// lease alone, and so has a director whose kernel can't be used (see broken).
type member struct {
	id      cluster.Identity
	d       *theDaemon
	lease   *lease.Driver
	nets    *networks
	embargo time.Duration // until which what others were granted has run out
	running api.Timing    // of the lease
	broken  error         // why a director has no data plane; nil: it has one
	teller  *tell.Runner

	// nil without a data plane:
	gate   *gate.Gate
	keys   *gateKeys
	kernel *ipvs.Handle
	// traffic reads the kernel's counters.
	traffic *traffic
	vips    *vip.Host
	vrrp    *vrrp.Listener
	plane   *dataplane.Plane
	checks  *checks.Runner
	tenure  *tenures
	judges  *judges
	units   *unitFitness
	watch   *watchers
	stands  *vrrpStands
}

// brokenRetry is how often a director looks whether its kernel can be used now.
const brokenRetry = 10 * time.Second

// newMember builds the parts and, on a director, takes over the gate of the
// process before this one, closed.
func newMember(d *theDaemon, id cluster.Identity, settings fsm.Settings) (*member, error) {
	m := &member{id: id, d: d, nets: &networks{
		self: id.ID, main: id.Addr.Addr(), named: d.cfg.Networks, table: d.node.Table, propose: d.node.Propose,
		look: hostAddrs, changed: make(chan struct{}, 1), log: d.log.With("part", "networks"),
	}}
	m.teller = tell.New(tell.Config{Self: id.ID, Name: d.cfg.Name, Propose: d.node.Propose, Run: m.tellServers, Log: d.log.With("part", "tell")})
	params, err := lease.Profile(settings.Profile)
	if err != nil {
		return nil, err
	}
	params.Guard = settings.Guard.D()
	m.running = api.Timing{Profile: settings.Profile, Guard: settings.Guard}
	m.embargo = params.Embargo()
	lastBoot, err := d.cfg.bootIDs()
	if err != nil {
		d.log.Warn("a reboot cannot be told from a restart: the voter may wait longer than it need", "err", err)
	}
	cfg := lease.Config{
		StateFile: d.cfg.leaseFile(), LastBootID: lastBoot,
		Self: id.ID, Cluster: id.Cluster, Key: id.LeaseKey, Listen: id.Addr, Params: params,
		Floor: d.node.Floor, Relay: d.node.Relay, Journal: d.noteLease, FreshIdentity: id.NewlyEnrolled && d.freshOnce(id), Log: d.log.With("part", "lease"),
	}
	if id.Role == fsm.Director {
		if m.broken = m.buildDataPlane(d.node.Table().VIPs(), true); m.broken != nil {
			d.log.Error("this machine cannot hold VIPs; it votes, and looks again from time to time", "err", m.broken)
		} else {
			cfg.Gate, cfg.Owner, cfg.Inherited = m.gate, m.tenure, m.gate.Inherited()
		}
	}
	if m.lease, err = lease.New(cfg); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// freshOnce says yes once for each identity: its voter has promised nothing
// only before it ran for the first time.
func (d *theDaemon) freshOnce(id cluster.Identity) bool {
	key := id.Cluster + "/" + string(id.ID)
	fresh := d.votedAs != key
	d.votedAs = key
	return fresh
}

// newMarker leaves the gate's marks alone.
func newMarker() *fwmark.Handle { return fwmark.New("", dataplane.LocalMark) }

// newHolder keeps clients from being refused while a service is put back.
func newHolder() *fwmark.Handle { return fwmark.NewHold("") }

// buildDataPlane opens the gate first: without it no VIP may be added (R19). To
// inherit what the process before this one held open is for who holds the
// daemon's lock, which says that it is dead, and adopts or closes it.
func (m *member) buildDataPlane(known []netip.Addr, inherit bool) error {
	d := m.d
	var err error
	m.judges = newJudges()
	fit := newFitness(d.noteFit(func(ok bool, why string) {
		m.judges.setFit(ok, why)
		m.lease.SetFit(ok, why)
	}), "gate", "data plane")
	if m.gate, err = gate.Open(gate.Config{
		PinDir: d.cfg.BPFPinDir, Known: known, Inherit: inherit, Mark: dataplane.LocalMark, OnFit: fit.of("gate"), Log: d.log.With("part", "gate"),
	}); err != nil {
		return fmt.Errorf("open the gate: %w", err)
	}
	m.keys = &gateKeys{gate: theGate{m.gate}, changed: make(chan struct{}, 1)}
	m.kernel, m.traffic = ipvs.New(""), &traffic{kernel: ipvs.New("")}
	if _, err := m.kernel.List(); err != nil {
		m.discard()
		return fmt.Errorf("read the IPVS table: %w", err)
	}
	if m.vips, err = vip.New(netns.None()); err != nil {
		m.discard()
		return fmt.Errorf("watch interfaces: %w", err)
	}
	m.units = newUnitFitness(d.note)
	m.stands = newVRRPStands(m.units.poke)
	m.vrrp = vrrp.New(vrrp.Config{
		Clock: gate.BootNow, Ours: m.isMember, Inherited: slices.Collect(maps.Keys(m.gate.Inherited())),
		Adverts: m.stands.advertedElsewhere, OnBarred: m.stands.bar, OnContested: func(router uint64) { m.plane.Claimed(router) },
		Log: d.log.With("part", "vrrp"),
	})
	m.watch = newWatchers(d.cfg.Interfaces, m.units.poke, d.log)
	m.plane = dataplane.New(dataplane.Config{
		Self: m.id.ID, Inherited: slices.Collect(maps.Keys(m.gate.Inherited())),
		IPVS: m.kernel, VIPs: m.vips, Gate: m.keys, VRRP: speakers{m.vrrp, d.log},
		Marks:     newMarker(),
		Holds:     newHolder(),
		Claims:    m.vips,
		StateFile: d.cfg.stateFile(), NodeInterfaces: d.cfg.Interfaces, Log: d.log.With("part", "dataplane"),
		OnFit: fit.of("data plane"), OnRouterFit: m.units.set, SendZero: asksPeers,
	})
	m.tenure = newTenures(m.plane, m.gate.Inherited(), m.noteTenure, func(unit uint64) fsm.MemberID { return d.node.Table().Owners[unit] })
	m.checks = checks.New(checks.Config{Log: d.log.With("part", "checks"), Propose: d.node.Propose, Paths: m.plane, OnProbe: d.probes.Observe})
	return nil
}

// isMember says whether an address is a member's, on whatever network.
func (m *member) isMember(a netip.Addr) bool { return isMember(m.d.node.Table(), a) }

func isMember(t *fsm.Table, a netip.Addr) bool {
	return slices.ContainsFunc(t.Members, func(o fsm.Member) bool {
		return o.Addr.Addr() == a || slices.ContainsFunc(o.Networks, func(n fsm.Network) bool { return n.Prefix.Addr() == a })
	})
}

// discard undoes a data plane that was built by half: nobody has seen it yet.
func (m *member) discard() {
	m.close()
	m.gate, m.kernel, m.vips = nil, nil, nil
}

// close lets go of what newMember opened. The gate stays in the kernel. Whoever
// still asks a closed part for its status gets what it last knew.
func (m *member) close() {
	if m.gate != nil {
		m.gate.Abandon()
	}
	if m.kernel != nil {
		m.kernel.Close()
		m.traffic.close()
	}
	if m.vips != nil {
		m.vips.Close()
	}
}

// run runs the parts until ctx ends. The lease goes first: it closes the gate,
// has the address removed by the data plane, which therefore still runs, and
// releases, so that another director takes over at once. An error of any part
// ends them all.
func (m *member) run(ctx context.Context) error {
	defer m.close()
	leaseCtx, stopLease := context.WithCancel(ctx)
	defer stopLease()
	restCtx, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRest()

	var g errgroup.Group
	part := func(name string, ctx context.Context, run func(context.Context) error) {
		g.Go(func() error {
			defer stopLease() // whoever ends ends all; the lease first
			return errMember(name, run(ctx))
		})
	}
	g.Go(func() error {
		defer stopRest()
		err := m.lease.Run(leaseCtx)
		if err == nil && errors.Is(context.Cause(leaseCtx), lease.ErrKeep) {
			// Now every millisecond counts against the lease: the other parts, which
			// have nothing to put in order, end with this image.
			err = executeAgain(m.d.lock)
		}
		return errMember("lease", err)
	})
	part("feed", restCtx, m.feed)
	part("networks", restCtx, m.nets.run)
	part("links", restCtx, m.watchLinks)
	part("tell", restCtx, m.teller.Run)
	part("leader", restCtx, m.watchLeader)
	if m.plane != nil {
		part("gate", restCtx, m.gate.Run)
		part("vrrp", restCtx, m.vrrp.Run)
		part("dataplane", restCtx, m.plane.Run)
		part("checks", restCtx, m.checks.Run)
		part("handover", restCtx, m.judge)
		part("track", restCtx, m.watch.track.Run)
		part("notify", restCtx, m.tell)
		part("history", restCtx, func(ctx context.Context) error {
			return m.tenure.report(ctx, m.id.ID, m.d.node.Table, m.d.node.Propose)
		})
	}
	if m.broken != nil {
		part("kernel", restCtx, m.awaitKernel)
	}
	return g.Wait()
}

// errRestart ends a member's parts so that they are built anew.
var errRestart = errors.New("this machine can hold VIPs now")

// awaitKernel waits until the data plane can be built.
func (m *member) awaitKernel(ctx context.Context) error {
	for pause(ctx, brokenRetry) {
		probe := &member{d: m.d}
		if probe.buildDataPlane(m.d.node.Table().VIPs(), false) == nil {
			probe.close()
			return errRestart
		}
	}
	return nil
}

// votersPoll is how often a change of the voters is looked for when the table
// does not change.
const votersPoll = 200 * time.Millisecond

// feed hands each new table, and each change of the voters, to the parts.
func (m *member) feed(ctx context.Context) error {
	tables := m.d.node.Watch(ctx)
	tick := time.NewTicker(votersPoll)
	defer tick.Stop()
	var t *fsm.Table
	var voters []fsm.VoterSet // that the lease has been told
	var guarded, judged, yields <-chan struct{}
	if m.plane != nil {
		guarded, judged, yields = m.keys.changed, m.units.changed, m.judges.changed
	}
	for {
		select {
		case next, ok := <-tables:
			if !ok {
				return nil
			}
			t = next
			m.teller.Update(t)
			if m.plane != nil {
				m.plane.Update(t)
				m.checks.Update(m.id.ID, t)
				m.watch.track.Update(t)
			}
		case <-tick.C:
			if slices.EqualFunc(voters, m.voters(), sameVoters) {
				continue
			}
		case <-guarded:
		case <-judged:
		case <-yields:
		case <-m.nets.changed:
		}
		if t == nil {
			continue
		}
		voters = m.voters()
		want := leaseWant(m.id.ID, t, voters[0], m.guards, m.keptOff)
		want.Appended = voters[1:]
		want.Locals = m.nets.locals()
		for i := range want.Routers {
			if r := &want.Routers[i]; r.Unfit != "" && m.unfit(r.ID) == "" {
				r.Next = nil // it is the cluster that yields, not this member
			}
		}
		m.judges.offer(&want, t, m.id.ID)
		m.lease.Update(want)
	}
}

// voters are the committed configuration, and those that are later in the log.
func (m *member) voters() []fsm.VoterSet {
	later := m.d.node.Appended() // first: what is committed in between counts twice, not never
	committed, _ := m.d.node.Voters()
	return append([]fsm.VoterSet{committed}, later...)
}

func sameVoters(a, b fsm.VoterSet) bool { return a.Tag == b.Tag && slices.Equal(a.Voters, b.Voters) }

// guards says whether this member's gate holds the address: before that the
// member must not ask for it.
func (m *member) guards(addr netip.Addr) bool { return m.keys != nil && m.keys.has(addr) }

// leaseWant is what the table and the voters mean to this member's lease.
// guards says which addresses the gate holds, unfit why a router cannot be held
// here.
func leaseWant(self fsm.MemberID, t *fsm.Table, committed fsm.VoterSet, guards func(netip.Addr) bool, unfit func(uint64) string) lease.Want {
	w := lease.Want{Committed: committed, Peers: map[fsm.MemberID][]netip.AddrPort{}}
	for _, o := range t.Members {
		if o.ID != self {
			w.Peers[o.ID] = addressesOf(o)
		}
	}
	for _, u := range t.Units() {
		lr := lease.Router{ID: u.ID, Rank: -1, Unfit: unfit(u.ID)}
		for _, id := range u.Routers {
			r, _ := t.Router(id)
			for _, a := range r.Addresses {
				if guards(a.Prefix.Addr()) {
					lr.Addrs = append(lr.Addrs, a.Prefix.Addr())
				}
			}
		}
		if len(lr.Addrs) > 0 {
			lr.Rank = rankOf(self, t.Order(u.ID))
		}
		lr.Next = slices.DeleteFunc(t.Order(u.ID), func(id fsm.MemberID) bool { return id == self })
		w.Routers = append(w.Routers, lr)
	}
	return w
}

// addressesOf are the addresses that leases reach a member on, its main one
// first; the port is the same on all. A link-local one would need the name of an
// interface here.
func addressesOf(m fsm.Member) []netip.AddrPort {
	out := []netip.AddrPort{m.Addr}
	for _, n := range m.Networks {
		if a := n.Prefix.Addr(); a != m.Addr.Addr() && !a.IsLinkLocalUnicast() {
			out = append(out, netip.AddrPortFrom(a, m.Addr.Port()))
		}
	}
	return out
}

// rankOf is self's place in order, 0 first; -1: it is not in it.
func rankOf(self fsm.MemberID, order []fsm.MemberID) int {
	for i, id := range order {
		if id == self {
			return i
		}
	}
	return -1
}

// theGate speaks the data plane's words to the gate.
type theGate struct{ *gate.Gate }

// SetVIPs implements dataplane.Gate.
func (g theGate) SetVIPs(guarded []dataplane.Guarded) error {
	vips := make([]gate.VIP, len(guarded))
	for i, v := range guarded {
		vips[i] = gate.VIP{Addr: v.Addr, Local: v.Local}
	}
	return g.Gate.SetVIPs(vips)
}

// gateKeys tells the feed which addresses the gate holds by now.
type gateKeys struct {
	gate    dataplane.Gate
	changed chan struct{} // one slot

	mu    sync.Mutex
	addrs []netip.Addr
}

// SetVIPs implements dataplane.Gate.
func (k *gateKeys) SetVIPs(guarded []dataplane.Guarded) error {
	err := k.gate.SetVIPs(guarded)
	if err != nil && !errors.Is(err, gate.ErrAddressPresent) {
		return err
	}
	k.mu.Lock()
	k.addrs = nil
	for _, g := range guarded {
		k.addrs = append(k.addrs, g.Addr)
	}
	k.mu.Unlock()
	select {
	case k.changed <- struct{}{}:
	default:
	}
	return err
}

// SetMembers implements dataplane.Gate.
func (k *gateKeys) SetMembers(macs []net.HardwareAddr) error { return k.gate.SetMembers(macs) }

func (k *gateKeys) has(addr netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Contains(k.addrs, addr)
}
