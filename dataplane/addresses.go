package dataplane

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// addressLoop is the state of the router loop; nobody else touches it.
type addressLoop struct {
	routers map[uint64]*router
	owned   map[uint64]fence.Permit    // by unit: what the lease said last
	waiters map[uint64][]chan struct{} // by unit: of Lost
	table   *fsm.Table                 // the one that the machines know; nil: none

	host   vip.Snapshot
	known  bool          // host has been read
	looked time.Duration // when, or tried to
	dirty  bool          // host may be out of date

	// left are addresses of an earlier process that are still to be removed.
	left    []recordedAddress
	noted   []recordedAddress // what the record was last told
	speaks  []Speaker         // what VRRP was last told
	foreign map[place]bool    // what was reported
	lo      loopback
	vmacs   vmacs
	pace    pacer

	unitsTold map[uint64]string // why each unit is unfit, as OnRouterFit was told
}

func newAddressLoop(r recorded) addressLoop {
	left := r.Addresses
	return addressLoop{
		routers: map[uint64]*router{}, owned: map[uint64]fence.Permit{}, waiters: map[uint64][]chan struct{}{},
		left: left, noted: left, foreign: map[place]bool{}, looked: -lookEvery,
		lo:    loopback{ours: r.Loopback},
		pace:  pacer{free: map[voice]time.Duration{}},
		vmacs: vmacs{ours: r.VMACs, problems: map[string]error{}, due: map[string]time.Duration{}},
	}
}

// routerLoop carries what the machines want to the interfaces and to VRRP.
func (p *Plane) routerLoop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	stopping := ctx.Done()
	var grace <-chan time.Time
	for {
		select {
		case <-stopping:
			stopping, grace = nil, time.After(stopGrace)
		case <-grace:
			p.log.Warn("dataplane: stopping while still an owner: its addresses stay behind the gate")
			return nil
		case <-p.wakeRouters:
		case <-p.changed:
			p.addresses.dirty = true
		case <-timer.C:
		}
		p.turn()
		if stopping == nil && p.addresses.quiet() {
			return nil
		}
		timer.Reset(max(p.next()-p.since(), 0))
	}
}

// quiet reports that no router is owned or being given up.
func (a *addressLoop) quiet() bool {
	for _, r := range a.routers {
		if r.owned || r.waiting {
			return false
		}
	}
	return true
}

// turn does all that can be done now. What the lease said comes before looking
// at the interfaces, which may take long.
func (p *Plane) turn() {
	p.work()
	p.look()
	p.learn()
	p.work()
	p.serveLocally()
	p.pruneVMACs()
	p.noteAddresses()
	p.publish()
}

// next is when turn must be called again at the latest.
func (p *Plane) next() time.Duration {
	a := &p.addresses
	at := a.looked + lookEvery
	if a.dirty {
		at = a.looked + lookSpacing
	}
	if a.lo.due > 0 {
		at = min(at, a.lo.due)
	}
	for _, r := range a.routers {
		if t, ok := r.wake(); ok {
			at = min(at, t)
		}
	}
	return at
}

// work carries out steps until no machine has one. What the lease says is
// taken in between any two.
func (p *Plane) work() {
	p.takeInbox()
	for again := true; again; {
		again = false
		for _, id := range slices.Sorted(maps.Keys(p.addresses.routers)) {
			for p.oneStep(id) {
				again = true
				p.takeInbox()
			}
		}
	}
}

func (p *Plane) takeInbox() {
	p.mu.Lock()
	events := p.inbox
	p.inbox = nil
	claims := p.claims
	p.claims = nil
	p.mu.Unlock()
	for _, e := range events {
		p.take(e)
	}
	for _, id := range claims {
		if r := p.addresses.routers[id]; r != nil {
			r.claimed(p.since())
		}
	}
}

func (a *addressLoop) machine(id uint64) *router {
	r := a.routers[id]
	if r == nil {
		r = newRouter(id, &a.pace)
		a.routers[id] = r
	}
	return r
}

// release ends the waiting of those who called Lost.
func (a *addressLoop) release(unit uint64) {
	for _, ch := range a.waiters[unit] {
		close(ch)
	}
	delete(a.waiters, unit)
}

// oneStep carries out the router's next step; false: it has none now.
func (p *Plane) oneStep(id uint64) bool {
	r := p.addresses.routers[id]
	s, ok := r.todo(p.since())
	if ok {
		existed, err := p.do(r, s)
		r.done(p.since(), s, existed, err)
	} else if r.idle() {
		delete(p.addresses.routers, id)
	}
	return ok
}

// do carries out one step.
func (p *Plane) do(r *router, s step) (existed bool, err error) {
	id := r.id
	switch s.verb {
	case addAddress:
		existed, err = p.add(r, s)
	case removeAddress:
		err = p.cfg.VIPs.Remove(s.place.index, s.place.prefix)
	case announce: // too many to log
		return false, p.cfg.VIPs.Announce(s.permit, s.link, s.place.prefix.Addr())
	case startAdverts:
		if p.cfg.VRRP != nil {
			p.cfg.VRRP.Acquired(id, s.permit)
		}
	case stopAdverts:
		if p.cfg.VRRP != nil {
			p.cfg.VRRP.Lost(id, s.zero)
		}
	case reportOff:
		r.waiting = false
		p.addresses.releaseIfOff(r.unit)
	}
	if err != nil {
		p.failed(p.name(id)+": "+s.String(), err)
	} else {
		if s.verb == addAddress || s.verb == removeAddress {
			p.addresses.changed(s.verb, s.place)
		}
		p.log.Info("dataplane: done", "router", p.name(id), "step", s.String())
	}
	return existed, err
}

// add notes the router's addresses in the record, then adds this one. One that
// an earlier process of ours left there counts as added.
func (p *Plane) add(r *router, s step) (existed bool, err error) {
	mine := recordedAddress{Dev: s.link.Name, Prefix: s.place.prefix}
	if !p.record.hasAddress(mine) {
		p.record.update(func(c *recorded) {
			for _, h := range r.places {
				if a := h.recorded(); !slices.Contains(c.Addresses, a) {
					c.Addresses = append(c.Addresses, a)
				}
			}
		})
		if err := p.record.save(recordWait); err != nil {
			p.failed("record", err)
		}
	}
	p.addresses.noted = nil // compare anew after this turn
	existed, err = p.withKey(s.place.prefix.Addr(), func() (bool, error) {
		return p.cfg.VIPs.Add(s.permit, s.place.index, s.place.prefix, s.label)
	})
	if i := slices.Index(p.addresses.left, mine); err == nil && i >= 0 {
		p.addresses.left = slices.Delete(p.addresses.left, i, i+1)
		existed = false
	}
	return existed, err
}

// look reads the interfaces if that is due, tells the machines, and removes
// what an earlier process left.
func (p *Plane) look() {
	a := &p.addresses
	now := p.since()
	if now < a.looked+lookEvery && (!a.dirty || now < a.looked+lookSpacing) {
		return
	}
	s, err := p.cfg.VIPs.Snapshot()
	if err != nil {
		a.looked, a.dirty = now+watchRetry-lookEvery, false
		p.failed("look at the interfaces", err)
		return
	}
	a.host, a.known, a.dirty, a.looked = s, true, false, now
	p.clean()
	for _, r := range a.routers {
		r.seen(now, a.host)
	}
	if a.table != nil {
		p.place(a.table)
	}
}

// clean removes what an earlier process of ours left.
func (p *Plane) clean() {
	a := &p.addresses
	a.left = slices.DeleteFunc(a.left, func(l recordedAddress) bool {
		if slices.Contains(p.cfg.Inherited, l.Prefix.Addr()) && p.since() < inheritFor {
			return false // its gate may still be open: see adopt
		}
		link, ok := a.host.Named(l.Dev)
		if !ok || !a.host.Has(link.Index, l.Prefix) {
			return true
		}
		if err := p.cfg.VIPs.Remove(link.Index, l.Prefix); err != nil {
			p.failed("remove what an earlier process left", err)
			return false
		}
		p.log.Info("dataplane: removed an address that an earlier process left", "address", l.Prefix, "dev", l.Dev)
		a.changed(removeAddress, place{link.Index, l.Prefix})
		return true
	})
}

// inheritFor is how long after the start an inherited address is kept that no
// lease speaks of: longer than any lease's ttl.
const inheritFor = 5 * time.Second

// adopt hands the machines what an earlier process left of theirs, if its gate
// may still be open: a restart need not take the address off.
func (a *addressLoop) adopt(inherited []netip.Addr) {
	a.left = slices.DeleteFunc(a.left, func(l recordedAddress) bool {
		link, ok := a.host.Named(l.Dev)
		if !ok || !slices.Contains(inherited, l.Prefix.Addr()) || !a.host.Has(link.Index, l.Prefix) {
			return false
		}
		for _, r := range a.routers {
			if r.inherit(place{link.Index, l.Prefix}, inheritFor) {
				a.noted = nil // the record goes on to have it
				return true
			}
		}
		return false
	})
}

// changed keeps host true to what we did ourselves, until the next look.
func (a *addressLoop) changed(v verb, at place) {
	is := func(o vip.Addr) bool { return o.Index == at.index && o.Prefix == at.prefix }
	a.host.Addrs = slices.DeleteFunc(a.host.Addrs, is)
	if v == addAddress {
		a.host.Addrs = append(a.host.Addrs, vip.Addr{Index: at.index, Prefix: at.prefix})
	}
}

// learn takes the latest table in.
func (p *Plane) learn() {
	a := &p.addresses
	t, _ := p.current()
	if t == nil || t == a.table || !a.known {
		return
	}
	p.place(t)
	a.table = t
}

// place tells the machines and VRRP where the table's addresses belong here.
func (p *Plane) place(t *fsm.Table) {
	a := &p.addresses
	skip := map[netip.Addr]bool{}
	for _, v := range t.VIPs() {
		skip[v] = true
	}
	p.makeVMACs(t, skip)
	places, below := map[uint64][]target{}, map[uint64]vip.Link{}
	for _, r := range t.Routers {
		places[r.ID] = targets(r, p.cfg.NodeInterfaces, a.host, skip, a.vmacs)
		if r.VMAC != nil {
			below[r.ID], _ = baseOf(r, p.cfg.NodeInterfaces, a.host, skip)
		}
	}
	if s := speakers(t, places, below); p.cfg.VRRP != nil && !reflect.DeepEqual(s, a.speaks) {
		p.cfg.VRRP.SetRouters(s)
		for _, sp := range s {
			if !slices.ContainsFunc(a.speaks, func(o Speaker) bool { return o.Router.ID == sp.Router.ID }) {
				a.machine(sp.Router.ID).speaking = false // new to VRRP, whatever was before
			}
		}
		a.speaks = s
	}
	for id := range a.routers {
		if _, stays := places[id]; !stays {
			places[id] = nil
		}
	}
	for id, ts := range places {
		a.machine(id).table(p.since(), ts)
	}
	for _, r := range t.Routers {
		m := a.machine(r.ID)
		m.garp, m.vmac, m.every = r.Peering.GARP, r.VMAC != nil, intervalsOf(t, r)
	}
	a.adopt(p.cfg.Inherited)
	a.regroup(t)
	p.assign()
	p.wantLoopback(t)
}

// noteAddresses keeps the record to what is ours.
func (p *Plane) noteAddresses() {
	a := &p.addresses
	now := slices.Clone(a.left)
	for _, id := range slices.Sorted(maps.Keys(a.routers)) {
		for _, h := range a.routers[id].places {
			if h.on && !h.foreign || h.tried {
				now = append(now, h.recorded())
			}
		}
	}
	if a.noted == nil || !slices.Equal(now, a.noted) {
		p.record.update(func(r *recorded) { r.Addresses = now })
		a.noted = append([]recordedAddress{}, now...)
	}
}

// name is how logs and errors call a router.
func (p *Plane) name(id uint64) string {
	if t := p.addresses.table; t != nil {
		if r, ok := t.Router(id); ok {
			return r.Name
		}
	}
	return "router " + itoa(id)
}
