package vrrp

import (
	"fmt"
	"net/netip"
	"time"
)

// Init is the state of an [Elect] that waits for its startup delay.
const Init State = "INIT"

// stall is how late an [Elect] may be asked before it takes what it did not
// hear for what it could not hear: the Listener asks four times as often.
const stall = 4 * sampleEvery

// defaultDownAdverts is how many adverts of a MASTER must be missing (RFC 9568
// section 6.1: Active_Down_Interval).
const defaultDownAdverts = 3

// Rules are what a router goes by toward its peers.
type Rules struct {
	Version  uint8
	Priority uint8 // 1-255
	Interval time.Duration
	// DownAdverts is how many adverts must be missing before a peer counts as
	// gone (keepalived: down_timer_adverts); 0: three.
	DownAdverts int
	// NoPreempt: a peer of lower priority that is MASTER stays it.
	NoPreempt bool
	// PreemptDelay is how long such a peer stays it otherwise.
	PreemptDelay time.Duration
	// StartupDelay passes before anything else begins.
	StartupDelay time.Duration
	// LowerPrioNoAdvert: a peer of lower priority gets no answer out of turn.
	LowerPrioNoAdvert bool
	// HigherPrioSendAdvert: one more advert leaves when the router yields.
	HigherPrioSendAdvert bool
}

// Voice says who of the cluster adverts the router now.
type Voice uint8

const (
	NoVoice    Voice = iota // nobody that is known of
	OwnVoice                // this member
	OtherVoice              // another member, as it says of itself
)

// Word is an advert of a listed peer that was accepted.
type Word struct {
	From     netip.Addr
	Source   netip.Addr // of our own adverts: equal priorities are decided by it
	Priority uint8
	Interval time.Duration
}

// Elect is the VRRP machine of a router that has peers (RFC 9568 section 6.4, RFC
// 3768 section 6.4, with keepalived's additions): is the cluster, taken as one
// VRRP router, to be MASTER? Each director runs one, by what it hears itself. It
// is a value and has no say in who of the cluster owns the router: a director
// stands for the lease only while its Elect is Master, so it can only take away.
//
// Master therefore is a state of the cluster. It goes on while the router moves
// from one director to another, and a successor needs no Master_Down_Interval.
type Elect struct {
	State State
	Rules Rules
	// due is when Init or Backup ends.
	due int64
	// learnt is the MASTER's interval (version 3), else 0.
	learnt time.Duration
	// preempt is when a peer of lower priority has been MASTER for long enough;
	// 0: none is.
	preempt int64
	// voiced is when somebody of the cluster was last known to advert.
	voiced int64
	// peer was obeyed last, at obeyed; 0: never.
	peer   Word
	obeyed int64
	asked  int64 // when the machine was last asked
}

// Verdict is what to do after a step: log, then answer.
type Verdict struct {
	Log string
	// Answer: send an advert at once, if this member adverts. Announce: tell the
	// neighbours again where the addresses are, for the peer told them otherwise.
	Answer, Announce bool
}

// NewElect starts as RFC 9568 section 6.4.1 has it: Backup for a whole
// Master_Down_Interval, or Master at once with priority 255.
func NewElect(now int64, r Rules) Elect {
	e := Elect{Rules: r, State: Init, due: now + int64(r.StartupDelay), asked: now}
	if r.StartupDelay <= 0 {
		e = e.start(now)
	}
	return e
}

// ContinueElect is the machine of a router that this member, or the process
// before this one, holds already.
func ContinueElect(now int64, r Rules) Elect {
	return Elect{Rules: r, State: Master, voiced: now, asked: now}
}

func (e Elect) start(now int64) Elect {
	if e.Rules.Priority == 255 {
		return e.master(now)
	}
	return e.backup(now)
}

func (e Elect) master(now int64) Elect {
	e.State, e.due, e.preempt, e.learnt, e.voiced = Master, 0, 0, 0, now
	e.peer, e.obeyed = Word{}, 0
	return e
}

func (e Elect) backup(now int64) Elect {
	e.State, e.preempt = Backup, 0
	e.due = now + int64(e.MasterDown())
	return e
}

// interval is the MASTER's (RFC 9568: Active_Adver_Interval); version 2 has no
// other than the router's.
func (e Elect) interval() time.Duration {
	if e.Rules.Version == 3 && e.learnt > 0 {
		return e.learnt
	}
	return e.Rules.Interval
}

// Skew is Skew_Time: in version 2 a part of a second, in version 3 of the
// MASTER's interval.
func (e Elect) Skew() time.Duration {
	return Advert{Version: e.Rules.Version, Priority: e.Rules.Priority, Interval: e.interval()}.Skew()
}

// MasterDown is Master_Down_Interval.
func (e Elect) MasterDown() time.Duration {
	n := e.Rules.DownAdverts
	if n == 0 {
		n = defaultDownAdverts
	}
	return time.Duration(n)*e.interval() + e.Skew()
}

// Due is when Tick has something to do; 0: never by itself.
func (e Elect) Due() int64 { return e.due }

// Yields says to which peer the router yields; false: to none that was heard
// within a Master_Down_Interval.
func (e Elect) Yields(now int64) (Word, bool) {
	if e.State != Backup || e.obeyed == 0 || now-e.obeyed > int64(e.MasterDown()) {
		return Word{}, false
	}
	return e.peer, true
}

// Tick lets time pass.
func (e Elect) Tick(now int64, v Voice) (Elect, Verdict) {
	e = e.ask(now, v)
	switch {
	case e.State == Init && now >= e.due:
		return e.start(now), Verdict{}
	case e.State == Backup && v == OtherVoice:
		if _, yields := e.Yields(now); !yields && e.peer.Priority == 0 {
			return e.master(now), Verdict{} // new here, and the cluster is MASTER
		}
	}
	if e.State == Backup && now >= e.due {
		return e.master(now), Verdict{Log: "Backup: no advert of a better VRRP peer in time, the cluster may be MASTER"}
	}
	return e, Verdict{}
}

// ask notes the time. A member that stood still has packets waiting that its
// timers know nothing of.
func (e Elect) ask(now int64, v Voice) Elect {
	if e.State == Backup && now-e.asked > int64(stall) {
		e.due = max(e.due, now+int64(e.interval()+e.Skew()))
	}
	e.asked = now
	if v != NoVoice {
		e.voiced = now
	}
	return e
}

// Heard takes a peer's advert.
func (e Elect) Heard(now int64, w Word, v Voice) (Elect, Verdict) {
	e = e.ask(now, v)
	switch e.State {
	case Backup:
		return e.backupHeard(now, w)
	case Master:
		return e.masterHeard(now, w, v)
	}
	return e, Verdict{}
}

// backupHeard: RFC 9568 section 6.4.2; an advert that is not obeyed leaves the
// timer as it is.
func (e Elect) backupHeard(now int64, w Word) (Elect, Verdict) {
	switch {
	case w.Priority == 0:
		e.due = now + int64(e.Skew())
		e.obeyed = 0
		return e, Verdict{}
	case !e.obeys(now, w):
		return e, Verdict{}
	}
	e = e.delay(now, w)
	e.learnt, e.peer, e.obeyed = w.Interval, w, now
	e.due = now + int64(e.MasterDown())
	return e, Verdict{}
}

// obeys reports whether a BACKUP leaves w's sender what it has.
func (e Elect) obeys(now int64, w Word) bool {
	return e.Rules.NoPreempt || w.Priority >= e.Rules.Priority ||
		e.Rules.PreemptDelay > 0 && (e.preempt == 0 || now < e.preempt)
}

// delay starts preempt_delay with the first advert of lower priority and ends it
// with one that is not.
func (e Elect) delay(now int64, w Word) Elect {
	switch {
	case w.Priority >= e.Rules.Priority:
		e.preempt = 0
	case e.preempt == 0 && e.Rules.PreemptDelay > 0:
		e.preempt = now + int64(e.Rules.PreemptDelay)
	}
	return e
}

// masterHeard: RFC 9568 section 6.4.3. Equal priorities are decided by address,
// and so by the one that adverts.
func (e Elect) masterHeard(now int64, w Word, v Voice) (Elect, Verdict) {
	own := e.Rules.Priority
	switch {
	case w.Priority == 0:
		return e, Verdict{Answer: v == OwnVoice}
	case w.Priority > own:
		return e.yield(now, w, v, "higher priority")
	case w.Priority == own && v == OwnVoice && w.From.Compare(w.Source) > 0:
		return e.yield(now, w, v, "equal priority and higher address")
	case v == NoVoice && now-e.voiced > int64(e.MasterDown()) && e.obeys(now, w):
		// The cluster has been silent for so long that it was no MASTER, and comes
		// back as a BACKUP does.
		return e.yield(now, w, v, "the cluster was silent, and does not preempt")
	case v == OwnVoice && w.From != w.Source:
		return e, Verdict{Answer: !e.Rules.LowerPrioNoAdvert, Announce: true,
			Log: fmt.Sprintf("Received lower priority (%d) advert from %s - discarding", w.Priority, w.From)}
	}
	return e, Verdict{}
}

func (e Elect) yield(now int64, w Word, v Voice, why string) (Elect, Verdict) {
	e.learnt, e.peer, e.obeyed = w.Interval, w, now
	e = e.backup(now)
	e = e.delay(now, w)
	return e, Verdict{Answer: e.Rules.HigherPrioSendAdvert && v == OwnVoice,
		Log: fmt.Sprintf("Master received advert from %s with priority %d, ours %d: %s", w.From, w.Priority, e.Rules.Priority, why)}
}

// Reset starts over: for a time nothing could be heard.
func (e Elect) Reset(now int64) Elect {
	e.peer, e.obeyed, e.learnt, e.asked = Word{}, 0, 0, now
	return e.start(now)
}

// Update changes the rules; the state stays.
func (e Elect) Update(now int64, r Rules) Elect {
	same := e.Rules == r
	e.Rules = r
	if e.State == Backup && !same {
		e.due = now + int64(e.MasterDown())
	}
	return e
}

// Why says what keeps the cluster from the router; "": nothing.
func (e Elect) Why(now int64) string {
	if e.State == Master {
		return ""
	}
	if w, ok := e.Yields(now); ok {
		return fmt.Sprintf("VRRP peer %s is MASTER (priority %d, this router %d)", w.From, w.Priority, e.Rules.Priority)
	}
	if e.State == Init {
		return fmt.Sprintf("vrrp_startup_delay of %v runs", e.Rules.StartupDelay)
	}
	return fmt.Sprintf("a VRRP peer may be MASTER: as a BACKUP it waits %v for an advert", e.MasterDown().Round(time.Millisecond))
}
