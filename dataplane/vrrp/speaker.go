package vrrp

import (
	"fmt"
	"net/netip"
	"time"
)

// State is a router's state as VRRP sees it.
type State string

const (
	Backup State = "BACKUP" // silent: some other member may hold the lease
	Master State = "MASTER" // this member holds the lease and adverts
)

// Router is one virtual router as it is advertised.
type Router struct {
	ID        uint64 // as in the lease
	Name      string // "VI_1", for logs
	VRID      uint8
	Interface string // where adverts are heard, and leave
	// Via is another interface that adverts leave by, with its MAC; empty: none.
	// They carry Interface's address all the same.
	Via      string
	Version  uint8
	Priority uint8 // 1-255
	// Interval between adverts; see Advert.Interval for what a version takes.
	Interval time.Duration
	AuthPass string // version 2; empty: none
	// Addresses in the order of the file. The first one is what the gate judges
	// an advert by.
	Addresses []netip.Addr

	// Peers are the speakers outside the cluster that are obeyed; none: nobody is.
	Peers []Listed
	// Unicast: adverts go to the peers alone, and come to this host alone.
	Unicast bool
	// Source is where adverts leave from if the interface has it.
	Source netip.Addr
	// PlainChecksum: see Advert; adverts with either checksum are accepted then.
	PlainChecksum bool
	AnyAddrs      bool // see Expect
	// Down: nothing can be heard on the interface.
	Down bool
	// Rules toward the peers. Version, Priority and Interval are the router's.
	Rules Rules
}

// Listed is one speaker that is obeyed.
type Listed struct {
	Addr netip.Addr
	// MinTTL and MaxTTL bound the TTL of its unicast adverts; 0: not at all.
	MinTTL, MaxTTL uint8
}

// rules are r's toward its peers.
func (r Router) rules() Rules {
	out := r.Rules
	out.Version, out.Priority, out.Interval = r.Version, r.Priority, r.Interval
	return out
}

// route is where r's adverts go.
func (r Router) route() Route {
	out := Route{From: r.Source, Via: r.Via}
	if r.Unicast {
		for _, p := range r.Peers {
			out.To = append(out.To, p.Addr)
		}
	}
	return out
}

// listed finds a source among the peers.
func (r Router) listed(src netip.Addr) (Listed, bool) {
	for _, p := range r.Peers {
		if p.Addr == src {
			return p, true
		}
	}
	return Listed{}, false
}

// Advert is the router's advert with the given priority.
func (r Router) Advert(priority uint8) Advert {
	a := Advert{Version: r.Version, VRID: r.VRID, Priority: priority, Interval: r.Interval, Addrs: r.Addresses, PlainChecksum: r.PlainChecksum}
	if r.AuthPass != "" && r.Version == 2 {
		a.AuthType, a.AuthPass = AuthPass, r.AuthPass
	}
	return a
}

// Expect is what others' adverts for the router must match.
func (r Router) Expect() Expect {
	return Expect{Version: r.Version, Interval: r.Interval, AuthPass: r.AuthPass, Addrs: r.Addresses,
		AnyChecksum: r.PlainChecksum, AnyAddrs: r.AnyAddrs}
}

// Check reports what makes the router impossible to advertise.
func (r Router) Check() error {
	if r.Priority == 0 {
		return fmt.Errorf("router %s: priority 0 means that a router stops", r.Name)
	}
	if len(r.Addresses) == 0 {
		return fmt.Errorf("router %s: no address", r.Name)
	}
	if err := r.Advert(r.Priority).check(); err != nil {
		return fmt.Errorf("router %s: %w", r.Name, err)
	}
	return nil
}

// EventKind is what happened to a Speaker.
type EventKind int

const (
	Acquired EventKind = iota + 1 // the lease was won, the addresses are in place
	Lost                          // the lease has ended, the addresses are gone
	Heard                         // an advert for the VRID came in
	Answer                        // a peer is to hear of us out of turn
	Tick                          // the time asked for has come, or any other
)

// Event is one event. Times are CLOCK_BOOTTIME nanoseconds.
type Event struct {
	Kind EventKind
	// Lost: when the lease ended, and whether the caller allows a farewell.
	Ended    int64
	SendZero bool
	// Heard: whether keepalived would accept the advert, and its priority.
	Accepted bool
	Priority uint8
}

// Output is what to do after a step, in this order: log, then send.
type Output struct {
	Log string // "" nothing
	// Send: an advert with the router's priority. SendZero: the farewell.
	Send, SendZero bool
}

// Speaker is the voice of one router: a value; Step returns the next one. It
// sends only as owner; whether to be owner is the lease's business, and that of
// [Elect].
type Speaker struct {
	Router Router
	State  State
	// Next is when the next advert is due. Invariant: 0 exactly in Backup.
	Next int64
	// lastOther is when an advert above priority 0 was last heard; 0: never.
	lastOther int64
	// lastAnswer is when a priority-0 advert was last answered out of turn.
	lastAnswer int64
}

// NewSpeaker starts in Backup, and says so.
func NewSpeaker(r Router) (Speaker, Output) {
	return Speaker{Router: r, State: Backup}, Output{Log: entering(r, Backup)}
}

func entering(r Router, s State) string { return fmt.Sprintf("%s: Entering %s STATE", r.Name, s) }

// Step takes one event at time now.
func (s Speaker) Step(now int64, e Event) (Speaker, Output) {
	switch e.Kind {
	case Acquired:
		return s.acquired(now)
	case Lost:
		return s.lost(now, e)
	case Heard:
		return s.heard(now, e)
	case Answer:
		return s.answer(now)
	}
	return s.tick(now)
}

// acquired: RFC 9568 section 6.4.1: send an advert, set the timer.
func (s Speaker) acquired(now int64) (Speaker, Output) {
	if s.State == Master {
		return s, Output{}
	}
	s.State = Master
	s.Next = now + int64(s.Router.Interval)
	return s, Output{Log: entering(s.Router, Master), Send: true}
}

// lost: the farewell leaves only while a BACKUP that hears it cannot yet have
// been replaced by one that has heard of a new owner.
func (s Speaker) lost(now int64, e Event) (Speaker, Output) {
	if s.State == Backup {
		return s, Output{}
	}
	zero := e.SendZero && inFarewell(s.Router, e.Ended, now) && s.lastOther < e.Ended
	s.State, s.Next = Backup, 0
	return s, Output{Log: entering(s.Router, Backup), SendZero: zero}
}

// inFarewell reports whether now is within half a skew time of the lease's end.
func inFarewell(r Router, ended, now int64) bool {
	return ended > 0 && ended <= now && now-ended <= int64(r.Advert(r.Priority).Skew()/2)
}

// heard: RFC 9568 section 6.4.3: a MASTER answers priority 0 at once, so
// that BACKUPs which took it for ours stay quiet; once per interval, so that
// nobody can make us send at their pace.
func (s Speaker) heard(now int64, e Event) (Speaker, Output) {
	if e.Priority > 0 {
		s.lastOther = now
		return s, Output{}
	}
	if s.State != Master || !e.Accepted || s.lastAnswer != 0 && now-s.lastAnswer < int64(s.Router.Interval) {
		return s, Output{}
	}
	s.lastAnswer = now
	s.Next = now + int64(s.Router.Interval)
	return s, Output{Send: true}
}

// answer sends out of turn, at most ten times as often as is due.
func (s Speaker) answer(now int64) (Speaker, Output) {
	if s.State != Master || s.lastAnswer != 0 && now-s.lastAnswer < int64(s.Router.Interval/10) {
		return s, Output{}
	}
	s.lastAnswer = now
	s.Next = now + int64(s.Router.Interval)
	return s, Output{Send: true}
}

// tick sends what is due. After a pause one advert makes up for all missed.
func (s Speaker) tick(now int64) (Speaker, Output) {
	if s.State != Master || now < s.Next {
		return s, Output{}
	}
	s.Next += int64(s.Router.Interval)
	if s.Next <= now {
		s.Next = now + int64(s.Router.Interval)
	}
	return s, Output{Send: true}
}

// Update changes the router's configuration; the state stays.
func (s Speaker) Update(now int64, r Router) (Speaker, Output) {
	changed := s.State == Master && !sameAdvert(s.Router, r)
	s.Router = r
	if changed {
		s.Next = now + int64(r.Interval)
	}
	return s, Output{Send: changed}
}

func sameAdvert(a, b Router) bool {
	x, y := a.Advert(a.Priority), b.Advert(b.Priority)
	return x.VRID == y.VRID && x.Version == y.Version && x.Priority == y.Priority && x.Interval == y.Interval &&
		x.AuthPass == y.AuthPass && sameAddrs(x.Addrs, y.Addrs)
}
