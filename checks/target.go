package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"lbcluster/fsm"
)

// target is a target that is being probed. All but name, server, stop and each
// check's fsm.Check belong to the Runner's mutex.
type target struct {
	name   fsm.Target
	server netip.AddrPort
	stop   context.CancelFunc
	checks []CheckStatus

	known, up bool
	since     time.Time
	flaps     Flaps
	held      bool      // its checks pass, and it is down all the same
	told      time.Time // the end of the last hold that was told of
}

func newTarget(info fsm.TargetInfo, now time.Time) *target {
	t := &target{name: info.Target, server: info.Server, since: now}
	for _, c := range info.Checks {
		t.checks = append(t.checks, CheckStatus{Check: c})
	}
	return t
}

// probing is one check of a target, made again and again until ctx ends.
type probing struct {
	ctx     context.Context
	target  *target
	nth     int // of the target's checks
	check   fsm.Check
	excused int // failures in a row
}

// begins is how long to wait for a check's first probe.
func (r *Runner) begins(c fsm.Check) time.Duration {
	if c.Warmup <= 0 {
		return 0
	}
	return r.warmup(c.Warmup.D())
}

// probe makes one check on a goroutine of its own.
func (r *Runner) probe(p *probing) {
	for wait := r.begins(p.check); pause(p.ctx, wait); {
		began := time.Now()
		weighs, err := r.ask(p.ctx, p.check, p.target.server)
		if p.ctx.Err() != nil {
			return // what a cancelled probe says means nothing
		}
		if errors.Is(err, errNoResult) {
			wait = min(p.check.DelayLoop.D(), time.Second)
			continue
		}
		wait = r.took(p, weighs, err, began)
	}
}

// took takes one result in, with what it says of the weight, and returns the pause before the next probe.
func (r *Runner) took(p *probing, weighs fsm.Weighing, err error, began time.Time) time.Duration {
	if err != nil && p.excused < excuses && r.pulse.stoodStill(began, time.Now()) {
		p.excused++
		r.log.Info("a failed check is repeated: this process stood still meanwhile", "server", p.target.server, "error", err)
		return 0
	}
	p.excused = 0
	return r.judge(p.target, p.nth, weighs, err, began)
}

// pause waits for d and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// judge takes one result in and returns the pause before the next probe.
func (r *Runner) judge(t *target, i int, weighs fsm.Weighing, err error, began time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &t.checks[i]
	before, weighed := c.State, t.weighs()
	var wait time.Duration
	c.State, wait = Judge(c.Check, before, err == nil)
	c.Last, c.Took, c.Detail = began, time.Since(began), ""
	if err != nil {
		c.Detail = err.Error()
	}
	if err == nil || !c.State.Up { // a failure that is forgiven leaves the weight
		c.Weighs = weighs
	}
	if r.onProbe != nil {
		r.onProbe(c.Check.Kind, c.Took, err == nil)
	}
	r.tell(c, before)
	if up, known := Opinion(t.states()); known && t.turn(up, r.damps(), time.Now()) {
		if t.held {
			r.log.Warn("a real server is held down: it comes and goes", "server", t.server, "times", t.flaps.Downs, "until", t.flaps.Until)
		}
		poke(r.voting)
	}
	if t.weighs() != weighed {
		poke(r.voting)
	}
	return wait
}

// damps reports whether targets that flap are held down. Callers hold the mutex.
func (r *Runner) damps() bool { return r.table != nil && r.table.Settings.FlapDamping == fsm.DampingOn }

// turn takes in what the checks say together, and reports whether the opinion, or the
// reason for it, is another one now.
func (t *target) turn(up, damped bool, now time.Time) bool {
	if t.known && t.up && !up {
		t.flaps = t.flaps.Down(t.since, now)
	}
	held := t.known && !t.up && up && damped && t.flaps.Holds(now)
	if held {
		anew := !t.told.Equal(t.flaps.Until)
		t.held, t.told = true, t.flaps.Until
		return anew
	}
	t.held = false
	if t.known && t.up == up {
		return false
	}
	t.known, t.up, t.since = true, up, now
	return true
}

// tell logs what changed, in the words of keepalived, which people alert on.
func (r *Runner) tell(c *CheckStatus, before State) {
	if c.State.Known == before.Known && c.State.Up == before.Up {
		return
	}
	words := saying[c.Check.Kind]
	dest := words.dest(c.Check)
	switch {
	case c.State.Up:
		r.log.Info(fmt.Sprintf(words.good, dest))
	case before.Known && c.Check.Retry > 0:
		r.log.Warn(fmt.Sprintf("%s on service %s failed after %d retries.", words.name, dest, c.Check.Retry), "error", c.Detail)
	default:
		r.log.Warn(words.name+" on service "+dest+" failed.", "error", c.Detail)
	}
}

// words are keepalived's for one kind of check.
type words struct{ name, protocol, good string }

// saying has them; checks/check_*.c of keepalived.
var saying = map[fsm.CheckKind]words{
	fsm.CheckTCP:   {"TCP_CHECK", "tcp", "TCP connection to %s success."},
	fsm.CheckHTTP:  {"HTTP_CHECK", "tcp", "Remote Web server %s succeed on service."},
	fsm.CheckHTTPS: {"HTTP_CHECK", "tcp", "Remote Web server %s succeed on service."},
	fsm.CheckSMTP:  {"SMTP_CHECK", "tcp", "Remote SMTP server %s succeed on service."},
	fsm.CheckDNS:   {"DNS_CHECK", "udp", "DNS_CHECK (%s) success."},
	fsm.CheckUDP:   {"UDP_CHECK", "udp", "UDP connection to %s success."},
	fsm.CheckPing:  {"ICMP CHECK", "", "ICMP connection to %s success."},
	fsm.CheckMisc:  {"Misc check", "", "Misc check for %s succeeded."},
	fsm.CheckFile:  {"File check", "", "File check for %s succeeded."},
}

// dest names where a check goes: "[10.0.0.2]:tcp:80", or the program that it is.
func (w words) dest(c fsm.Check) string {
	switch {
	case c.Script != nil:
		return "[" + c.Dest.Addr().String() + "] by [" + c.Script.Command + "]"
	case w.protocol == "":
		return "[" + c.Dest.Addr().String() + "]"
	}
	return fmt.Sprintf("[%s]:%s:%d", c.Dest.Addr(), w.protocol, c.Dest.Port())
}

func (t *target) states() []State {
	states := make([]State, len(t.checks))
	for i, c := range t.checks {
		states[i] = c.State
	}
	return states
}

// weighs is what the checks say of the weight, together.
func (t *target) weighs() (w fsm.Weighing) {
	for _, c := range t.checks {
		w.Times += c.Weighs.Times
		w.Sum += c.Weighs.Sum
	}
	return w
}

// vote returns the opinion as the table has it.
func (t *target) vote() fsm.Vote {
	if t.up {
		return fsm.Vote{Up: true, Weighs: t.weighs()}
	}
	if t.held {
		return fsm.Vote{Detail: t.flaps.String()}
	}
	for _, c := range t.checks {
		if c.State.Known && !c.State.Up {
			return fsm.Vote{Detail: c.Detail}
		}
	}
	return fsm.Vote{}
}
