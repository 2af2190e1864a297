package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"lbcluster/fsm"
)

// LocalStatus is a VIP that this director serves itself, as a real server.
type LocalStatus struct {
	VIP      netip.Addr `json:"vip"`
	Server   netip.Addr `json:"server"`   // which of this host's addresses is the real server
	Loopback bool       `json:"loopback"` // the VIP is on lo
	Ours     bool       `json:"ours"`     // and we put it there
	// Open: packets for it that other members forward reach the local server.
	Open    bool   `json:"open"`
	Problem string `json:"problem,omitempty"`
}

// loopback is what the router loop knows of the VIPs on lo.
type loopback struct {
	want     []local
	ours     []netip.Prefix // what we put on lo, this process or an earlier one
	problems map[netip.Addr]string
	due      time.Duration // next try after a failure; 0: none failed
	on       map[netip.Addr]bool
}

// wants reports whether the address belongs on lo: then it is nobody's mistake
// there, whoever put it.
func (l *loopback) wants(addr netip.Addr) bool {
	return slices.ContainsFunc(l.want, func(w local) bool { return w.vip == addr })
}

// wantLoopback takes in what the table wants on lo.
func (p *Plane) wantLoopback(t *fsm.Table) {
	a := &p.addresses
	if p.cfg.Self != "" {
		a.lo.want = locals(t, ownAddrs(t, p.cfg.Self, a.host))
	}
}

// serveLocally brings lo to what is wanted. The order keeps a VIP on lo silent
// at every moment: the gate has its key, closed; the kernel is told not to
// answer ARP for what is on lo; only then comes the address. Away it goes the
// other way round.
func (p *Plane) serveLocally() {
	a := &p.addresses
	if p.cfg.Self == "" || a.table == nil || !a.known || p.since() < a.lo.due {
		return
	}
	p.openPaths()
	p.mu.Lock()
	open := p.gateLocal
	p.mu.Unlock()
	a.lo.due, a.lo.problems = 0, map[netip.Addr]string{}
	add, remove := planLoopback(a.lo.want, a.lo.ours, a.host, open)
	silent := p.silence(len(a.lo.want) > 0)
	for _, prefix := range add {
		err := silent
		if err == nil || prefix.Addr().Is6() { // NDP never answers for lo
			err = p.addLoopback(prefix)
		}
		if err != nil {
			a.lo.problems[prefix.Addr()] = err.Error()
			p.retryLoopback(err)
		}
	}
	for _, prefix := range remove {
		if err := p.removeLoopback(prefix); err != nil {
			p.retryLoopback(err)
		}
	}
	if len(a.lo.want) == 0 && len(a.lo.ours) == 0 {
		p.unsilence()
	}
	on := map[netip.Addr]bool{}
	for _, l := range a.lo.want {
		if onLoopback(a.host, l.vip) {
			on[l.vip] = true
		}
	}
	if !maps.Equal(on, a.lo.on) {
		a.lo.on = on
		poke(p.wakeTable) // the gate may let members' packets in, or no more
	}
}

func (p *Plane) retryLoopback(err error) {
	pause := longestWait
	if errors.Is(err, errNoKey) {
		pause = firstRetry // it may be on its way
	} else {
		p.failed("serve a VIP on this host", err)
	}
	p.addresses.lo.due = p.since() + pause
}

// loIndex is the index of the loopback interface.
func (a *addressLoop) loIndex() (int, error) {
	for _, l := range a.host.Links {
		if l.Loopback {
			return l.Index, nil
		}
	}
	return 0, errors.New("this host has no loopback interface")
}

// addLoopback notes the address in the record, then puts it on lo. One that
// somebody else put there is as good, and not ours.
func (p *Plane) addLoopback(prefix netip.Prefix) error {
	a := &p.addresses
	index, err := a.loIndex()
	if err != nil {
		return err
	}
	p.noteLoopback(append(slices.Clone(a.lo.ours), prefix))
	if err := p.record.save(recordWait); err != nil {
		p.failed("record", err)
	}
	existed, err := p.withKey(prefix.Addr(), func() (bool, error) { return p.cfg.VIPs.AddLoopback(index, prefix) })
	if err == nil {
		a.changed(addAddress, place{index, prefix})
	}
	if err == nil && !existed {
		if !slices.Contains(a.lo.ours, prefix) {
			a.lo.ours = append(a.lo.ours, prefix)
		}
		p.log.Info("dataplane: this director is a real server, too: put the VIP on lo", "address", prefix)
	}
	p.noteLoopback(a.lo.ours)
	return err
}

func (p *Plane) removeLoopback(prefix netip.Prefix) error {
	a := &p.addresses
	index, err := a.loIndex()
	if err != nil {
		return err
	}
	if err := p.cfg.VIPs.Remove(index, prefix); err != nil {
		return err
	}
	a.changed(removeAddress, place{index, prefix})
	a.lo.ours = slices.DeleteFunc(slices.Clone(a.lo.ours), func(o netip.Prefix) bool { return o == prefix })
	p.noteLoopback(a.lo.ours)
	p.log.Info("dataplane: this director serves the VIP no more: took it off lo", "address", prefix)
	return nil
}

func (p *Plane) noteLoopback(ours []netip.Prefix) {
	p.record.update(func(r *recorded) { r.Loopback = slices.Clone(ours) })
}

// serverSysctls are what a real server of direct routing needs: it must not
// answer ARP for an address of lo, nor name one as its own in ARP requests.
var serverSysctls = []leastSysctl{
	{"net.ipv4.conf.all.arp_ignore", 1},
	{"net.ipv4.conf.all.arp_announce", 2},
}

// silence sets the sysctls, when that is needed, and notes what they were.
func (p *Plane) silence(needed bool) error {
	if !needed {
		return nil
	}
	if err := p.raise(serverSysctls, "set for a real server"); err != nil {
		return fmt.Errorf("a real server needs %w", err)
	}
	return nil
}

// unsilence puts back what silence changed, unless somebody changed it since.
func (p *Plane) unsilence() { p.lower(serverSysctls, "no real server any more: put back") }

// localStatus tells of each VIP that this host serves itself.
func (a *addressLoop) localStatus(open map[netip.Addr]bool) []LocalStatus {
	var out []LocalStatus
	for _, l := range a.lo.want {
		s := LocalStatus{VIP: l.vip, Server: l.server, Loopback: onLoopback(a.host, l.vip), Open: open[l.vip], Problem: a.lo.problems[l.vip],
			Ours: slices.Contains(a.lo.ours, netip.PrefixFrom(l.vip, l.vip.BitLen()))}
		if !s.Loopback {
			why := s.Problem
			if why == "" {
				why = "it is about to be added"
			}
			s.Problem = fmt.Sprintf("this director is a real server (%s) of %s, but the VIP is not on lo: %s", l.server, l.vip, why)
		}
		out = append(out, s)
	}
	return out
}
