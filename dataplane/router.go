package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// place is an address on an interface: what `ip addr add PREFIX dev DEV` names.
type place struct {
	index  int
	prefix netip.Prefix
}

// target is one address of a router as this host would hold it.
type target struct {
	prefix netip.Prefix
	label  string
	link   vip.Link
	err    error // no interface was found: nothing can be done
}

func (t target) place() place { return place{t.link.Index, t.prefix} }

// verb is what a step does.
type verb uint8

const (
	addAddress verb = iota + 1
	removeAddress
	startAdverts
	stopAdverts
	announce
	reportOff // tell those who wait that no address of ours is left
)

// step is one thing for the driver to do for a router.
type step struct {
	verb   verb
	place  place
	link   vip.Link
	label  string
	permit fence.Permit
	zero   bool // stopAdverts: say goodbye with priority 0
}

// retries of a failed step: the pause doubles up to the longest.
const (
	firstRetry  = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

// held is what the machine knows about one place.
type held struct {
	target
	on        bool // the address is there
	foreign   bool // ... but somebody else put it there: not ours to remove
	tried     bool // an add failed half-way: what is found may be ours
	settled   bool // tried once since the last change of ownership
	missing   bool // was on and went without us
	fails     int
	problem   error
	due       time.Duration // next try
	keep      time.Duration // not owned, but left on until then: see inherit
	sent      int           // announcements since added
	announce  time.Duration // next announcement
	turn      bool          // it has its turn at that time: see pacer
	contested bool          // they follow a peer's claim
	restored  uint64
}

// recorded is h as the record has it.
func (h *held) recorded() recordedAddress {
	return recordedAddress{Dev: h.link.Name, Prefix: h.prefix}
}

// router is the machine of one virtual router on this host. It is pure: events
// change its state, todo says what to do next, done takes the result. Times are
// counted from any fixed moment.
type router struct {
	id       uint64
	unit     uint64  // whose lease it is under; 0: none
	places   []*held // wanted ones in the table's order, then those to clear
	wanted   map[place]bool
	nowhere  []target // wanted, but no interface was found
	permit   fence.Permit
	owned    bool
	speaking bool
	zero     bool
	waiting  bool // somebody waits for reportOff
	garp     fsm.GARP
	vmac     bool // its addresses are on an interface of its own
	pace     *pacer
	every    intervals // of announcements
}

func newRouter(id uint64, p *pacer) *router {
	return &router{id: id, wanted: map[place]bool{}, pace: p}
}

// acquired: the lease holds and the gate is armed. It may come again with
// another permit when the addresses of the lease change.
func (r *router) acquired(now time.Duration, p fence.Permit) {
	fresh := !r.owned
	if p != r.permit {
		r.speaking = false // the speaker needs the new one
	}
	r.permit, r.owned, r.zero, r.waiting = p, true, false, false
	for _, h := range r.places {
		h.due, h.keep = now, 0
		if fresh {
			h.settled = false
			r.announceAnew(h, now, false)
		}
	}
}

// inherit: the address is on since an earlier process of ours, whose gate is
// still open. It stays until the lease says who owns it, or until then.
func (r *router) inherit(at place, until time.Duration) bool {
	i := slices.IndexFunc(r.places, func(h *held) bool { return h.place() == at })
	if i < 0 || r.places[i].on {
		return false
	}
	r.places[i].on, r.places[i].foreign, r.places[i].keep = true, false, until
	return true
}

// lost: the gate is closed. zero: say goodbye with priority 0.
func (r *router) lost(now time.Duration, zero bool) {
	r.owned, r.permit, r.zero, r.waiting = false, fence.Permit{}, zero, true
	for _, h := range r.places {
		h.due, h.keep, h.settled, h.missing = now, 0, false, false
		r.pace.yield(h, r.every)
	}
}

// table: the router's addresses are now these; none: it has left the table.
func (r *router) table(now time.Duration, targets []target) {
	old := r.places
	r.places, r.nowhere, r.wanted = nil, nil, map[place]bool{}
	for _, t := range targets {
		if t.err != nil {
			r.nowhere = append(r.nowhere, t)
			continue
		}
		i := slices.IndexFunc(old, func(h *held) bool { return h.place() == t.place() })
		h := &held{due: now, announce: now}
		if i >= 0 {
			h = old[i]
			old = slices.Delete(slices.Clone(old), i, i+1)
		}
		r.setLink(now, h, t)
		r.places, r.wanted[t.place()] = append(r.places, h), true
	}
	for _, h := range old {
		if h.on && !h.foreign {
			h.due = now
			r.places = append(r.places, h)
		}
	}
}

// setLink takes the target's new particulars; a link that came up starts the
// announcements again, for its neighbours may have heard none.
func (r *router) setLink(now time.Duration, h *held, t target) {
	if ready(t.link) && !ready(h.link) || !slices.Equal(t.link.MAC, h.link.MAC) {
		r.announceAnew(h, now, false)
	}
	h.target = t
}

func ready(l vip.Link) bool { return l.Up && l.Carrier }

// seen: the addresses that are there now. An address that went without us is
// put back by the owner.
func (r *router) seen(now time.Duration, s vip.Snapshot) {
	for _, h := range r.places {
		if l, ok := s.Link(h.link.Index); ok {
			t := h.target
			t.link = l
			r.setLink(now, h, t)
		}
		switch there := s.Has(h.link.Index, h.prefix); {
		case h.on && !there:
			h.on, h.foreign, h.due = false, false, now
			h.missing = r.owned
		case !h.on && there && h.tried:
			h.on, h.foreign, h.due = true, false, now
		}
	}
}

// todo is the next thing to do; false: nothing until wake.
func (r *router) todo(now time.Duration) (step, bool) {
	if r.owned {
		return r.hold(now)
	}
	return r.giveUp(now)
}

func (r *router) hold(now time.Duration) (step, bool) {
	settled, some := true, false
	for _, h := range r.places {
		if r.wanted[h.place()] && !h.on && now >= h.due {
			return r.step(addAddress, h), true
		}
		settled = settled && (h.settled || h.on || !r.wanted[h.place()])
		some = some || h.on
	}
	if settled && some && !r.speaking {
		return step{verb: startAdverts, permit: r.permit}, true
	}
	for _, h := range r.places {
		if r.wanted[h.place()] && h.on && r.speaking && ready(h.link) && now >= h.announce && r.pace.turn(now, h, r.every) {
			return r.step(announce, h), true
		}
	}
	return r.clear(now)
}

// clear removes what the table no longer wants of an owner.
func (r *router) clear(now time.Duration) (step, bool) {
	for _, h := range r.places {
		if !r.wanted[h.place()] && h.on && !h.foreign && now >= h.due {
			return r.step(removeAddress, h), true
		}
	}
	return step{}, false
}

func (r *router) giveUp(now time.Duration) (step, bool) {
	clear := true
	for _, h := range r.places {
		if !h.on || h.foreign {
			continue
		}
		if now >= max(h.due, h.keep) {
			return r.step(removeAddress, h), true
		}
		clear = false // tried, and will be again
	}
	switch {
	case r.speaking:
		return step{verb: stopAdverts, zero: r.zero}, true
	case r.waiting && clear:
		return step{verb: reportOff}, true
	}
	return step{}, false
}

func (r *router) step(v verb, h *held) step {
	return step{verb: v, place: h.place(), link: h.link, label: h.label, permit: r.permit}
}

// done takes the result of a step from todo. existed: an address to add was
// there already, put by somebody else.
func (r *router) done(now time.Duration, s step, existed bool, err error) {
	switch s.verb {
	case startAdverts, stopAdverts:
		r.speaking = s.verb == startAdverts
		return
	case reportOff:
		r.waiting = false
		return
	}
	i := slices.IndexFunc(r.places, func(h *held) bool { return h.place() == s.place })
	if i < 0 {
		return
	}
	h := r.places[i]
	if s.verb == announce {
		r.announced(now, h, err)
		return
	}
	h.settled = true
	if err != nil {
		h.failed(now, s.verb, err)
		return
	}
	h.fails, h.problem = 0, nil
	if s.verb == removeAddress {
		h.on, h.tried = false, false
		r.forget(h)
		return
	}
	h.on, h.foreign = true, existed && !h.tried
	r.announceAnew(h, now, false)
	if h.missing {
		h.restored++
	}
	h.missing, h.tried = false, false
}

// forget drops a place that is neither wanted nor on.
func (r *router) forget(h *held) {
	if !r.wanted[h.place()] {
		r.places = slices.DeleteFunc(r.places, func(o *held) bool { return o == h })
	}
}

func (h *held) failed(now time.Duration, v verb, err error) {
	h.problem = err
	if errors.Is(err, vip.ErrNoPermit) || errors.Is(err, errNoKey) {
		h.due = now + firstRetry // the lease, or the gate's key, may be on its way
		return
	}
	h.tried = h.tried || v == addAddress
	h.due = now + min(firstRetry<<min(h.fails, 10), longestWait)
	h.fails++
}

func (r *router) announced(now time.Duration, h *held, err error) {
	if errors.Is(err, vip.ErrNoPermit) {
		r.announceAnew(h, now+firstRetry, false) // others may have announced meanwhile
		return
	}
	if err != nil {
		h.problem, h.announce = err, now+time.Second
		return
	}
	h.problem = nil
	h.announce = now + announceAt(r.garp, h.contested, h.sent+1) - announceAt(r.garp, h.contested, h.sent)
	h.sent++
}

// announceAnew begins with the first announcement.
func (r *router) announceAnew(h *held, at time.Duration, contested bool) {
	r.pace.yield(h, r.every)
	h.sent, h.announce, h.contested = 0, at, contested
}

// claimed: a VRRP peer may have told the neighbours that the addresses are with
// it.
func (r *router) claimed(now time.Duration) {
	for _, h := range r.places {
		if r.owned && h.on {
			r.announceAnew(h, now, true)
		}
	}
}

// announceAt is when announcement n is due, counted from the first: as
// keepalived's garp keywords say, or in our own timing.
func announceAt(g fsm.GARP, contested bool, n int) time.Duration {
	if g == (fsm.GARP{}) {
		return vip.AnnounceAt(n)
	}
	many, delay := g.MasterRepeat, g.MasterDelay.D()
	if contested {
		many, delay = g.LowerPrioRepeat, g.LowerPrioDelay.D()
	}
	if n < many {
		return 0
	}
	if n -= many; delay > 0 {
		if n < many {
			return delay
		}
		n -= many
	}
	every, each := vip.AnnounceEvery, 1
	if g.Refresh > 0 {
		every, each = g.Refresh.D(), max(1, g.RefreshRepeat)
	}
	return delay + every*time.Duration(n/each+1)
}

// wake is when todo may have something by itself; false: never.
func (r *router) wake() (time.Duration, bool) {
	var at time.Duration
	any := false
	earlier := func(t time.Duration) {
		if !any || t < at {
			at, any = t, true
		}
	}
	for _, h := range r.places {
		wanted := r.owned && r.wanted[h.place()]
		switch {
		case wanted && !h.on:
			earlier(h.due)
		case !wanted && h.on && !h.foreign:
			earlier(max(h.due, h.keep))
		case wanted && r.speaking && ready(h.link):
			earlier(h.announce)
		}
	}
	return at, any
}

// idle reports that the machine can be thrown away.
func (r *router) idle() bool {
	return !r.owned && !r.waiting && !r.speaking && len(r.wanted) == 0 && len(r.nowhere) == 0 &&
		!slices.ContainsFunc(r.places, func(h *held) bool { return h.on && !h.foreign })
}

// String names a step for logs and transcripts.
func (s step) String() string {
	dev := s.link.Name
	switch s.verb {
	case addAddress:
		return fmt.Sprintf("add %s dev %s", s.place.prefix, dev)
	case removeAddress:
		return fmt.Sprintf("del %s dev %s", s.place.prefix, dev)
	case startAdverts:
		return "adverts on"
	case stopAdverts:
		if s.zero {
			return "adverts off with priority 0"
		}
		return "adverts off"
	case announce:
		return fmt.Sprintf("announce %s dev %s", s.place.prefix.Addr(), dev)
	case reportOff:
		return "report addresses off"
	}
	return fmt.Sprintf("verb %d", s.verb)
}
