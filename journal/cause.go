package journal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// verdict is a cause: a word for machines and a clause for people, which goes
// on after "because".
type verdict struct{ word, because string }

// cause says why the old owner's tenure ended.
func (x *explainer) cause() verdict {
	end, name := x.c.from.end, x.q.name(x.c.from.node)
	if end == nil {
		return x.vanished(name)
	}
	switch {
	case end.Kind == Fenced || end.Kind == Started:
		return x.died(name)
	case end.Cause == Expired:
		return x.expired(name)
	case end.Cause == Yielded:
		return x.handedOver(name)
	case end.Cause == Unable:
		return x.unfit(name)
	case end.Cause == Stopping:
		return x.stopped(name)
	case end.Cause == NoGate:
		return verdict{"gate", fmt.Sprintf("the kernel's gate on %s could not be opened%s", name, x.detail(GateFailed))}
	case end.Cause == Unwanted:
		return verdict{"table", fmt.Sprintf("the table no longer lets %s hold it (%s)", name, end.Text)}
	case end.Cause == Readdress:
		return verdict{"addresses", "it was given other addresses"}
	}
	return verdict{"other", fmt.Sprintf("%s gave it up: %s", name, end.Text)}
}

// vanished: the old owner noted no end, and has not started again.
func (x *explainer) vanished(name string) verdict {
	if why, silent := x.q.Unreachable[x.c.from.node]; silent {
		return verdict{"vanished", fmt.Sprintf("%s was no longer heard and does not answer now either (%s): its machine is down, frozen or cut off", name, why)}
	}
	if p := x.pause(); p != nil {
		return x.frozen(name, *p)
	}
	return verdict{"unknown", fmt.Sprintf("%s stopped renewing; its record does not say why", name)}
}

// died: the process ended without a word.
func (x *explainer) died(name string) verdict {
	start := x.find(x.c.from.node, x.c.from.from.Time, func(e Event) bool { return e.Kind == Started && e.Cause != AfterReload })
	end := x.c.from.end
	switch {
	case end.Kind == Fenced && x.stoppedBefore(end.Time):
		return verdict{"stopped", fmt.Sprintf("the daemon on %s was stopped", name)}
	case end.Kind == Fenced:
		return verdict{"killed", fmt.Sprintf("the daemon on %s was killed or failed, and lbcluster fence gave its VIPs up", name)}
	case start != nil && start.Cause == AfterBoot:
		return verdict{"rebooted", fmt.Sprintf("%s lost power or was reset (lbcluster ran on it again at %s)", name, clock(start.Time))}
	case start != nil && start.Cause == AfterStop:
		return verdict{"stopped", fmt.Sprintf("the daemon on %s was stopped", name)}
	case start != nil:
		return verdict{"killed", fmt.Sprintf("the daemon on %s was killed or failed (it ran again at %s)", name, clock(start.Time))}
	}
	return verdict{"killed", fmt.Sprintf("the daemon on %s ended", name)}
}

func (x *explainer) stoppedBefore(at time.Time) bool {
	return x.find(x.c.from.node, at.Add(-WindowBefore), func(e Event) bool { return e.Kind == Stopped && !e.Time.After(at) }) != nil
}

// expired: no majority renewed in time. The owner stood still, or it was cut
// off, or so many others were gone that there was no majority.
func (x *explainer) expired(name string) verdict {
	if p := x.pause(); p != nil {
		return x.frozen(name, *p)
	}
	silent, denied, since := x.lostRounds()
	end := x.c.from.end.Time
	if len(silent) == 0 && len(denied) == 0 {
		return verdict{"expired", fmt.Sprintf("%s's lease ran out: no majority of the voters renewed it in time", name)}
	}
	if len(denied) > 0 && len(silent) == 0 {
		return verdict{"refused", fmt.Sprintf("%s's renewals were refused by %s (%s)", name, x.q.list(denied), x.refusal())}
	}
	text := fmt.Sprintf("%s's renewals got no answer from %s for %s", name, x.q.list(silent), Seconds(end.Sub(since)))
	if gone := x.restarted(silent, since); len(gone) == len(silent) {
		return verdict{"no quorum", fmt.Sprintf("%s: %s restarted then and there was no majority", text, x.q.list(gone))}
	}
	if x.c.to == nil {
		return verdict{"no quorum", text + ": there was no majority"}
	}
	if down := x.link(name); down != "" {
		return verdict{"link", text + ": " + down}
	}
	if deaf := x.deafTo(x.c.from.node, since); len(deaf) > 0 {
		return verdict{"cut off", fmt.Sprintf("%s, and %s did not hear it either: it was cut off", text, x.q.list(deaf))}
	}
	return verdict{"cut off", text + ": it was cut off or frozen"}
}

func (x *explainer) frozen(name string, p Event) verdict {
	gate := ""
	if at := x.closedItself(); !at.IsZero() {
		gate = fmt.Sprintf("; its gate closed by itself at %s", clock(at))
	}
	return verdict{"frozen", fmt.Sprintf("%s stood still for %s, from %s to %s (frozen, paused or starved of CPU%s)%s",
		name, Seconds(p.For), clock(p.Time.Add(-p.For)), clock(p.Time), colon(p.Text), gate)}
}

// stopped tells of a daemon that ended in order, which names who is ready to
// take over, if anybody is.
func (x *explainer) stopped(name string) verdict {
	text := fmt.Sprintf("the daemon on %s was stopped", name)
	if h := x.handover(); h != nil && h.Cause == ByStop && peer(*h) != "" {
		text += " and handed it over to " + x.q.name(peer(*h))
	}
	return verdict{"stopped", text}
}

// handover is what was said when the handover that ended the tenure began.
func (x *explainer) handover() *Event {
	from := x.c.from
	return x.last(from.node, from.end.Time.Add(noteSkew), func(e Event) bool {
		return e.Kind == Handover && e.Unit == x.q.Unit && !e.Time.Before(from.from.Time)
	})
}

// handedOver looks for what was said when the handover began.
func (x *explainer) handedOver(name string) verdict {
	end := x.c.from.end
	h := x.handover()
	if h == nil {
		return verdict{"handover", fmt.Sprintf("%s handed it over%s", name, withText(end.Text))}
	}
	switch h.Cause {
	case ByMove:
		return verdict{"moved", "an operator moved it" + withText(h.Text)}
	case ByDrain:
		return verdict{"drained", fmt.Sprintf("an operator drained %s%s", name, withText(h.Text))}
	case GoHome:
		return verdict{"went home", cmp.Or(h.Text, "its home could hold it again")}
	case ToFitter:
		return verdict{"fitter", fmt.Sprintf("%s was fitter than %s%s", x.q.name(peer(*h)), name, withText(h.Text))}
	case ByCutOff:
		if h.Text != "" {
			return verdict{"cut off", h.Text}
		}
		return verdict{"cut off", name + " was cut off on the network of the VIP"}
	case ByStop:
		if h.Text != "" {
			return verdict{"left", h.Text}
		}
		return x.stopped(name)
	}
	return verdict{"handover", fmt.Sprintf("%s handed it over%s", name, withText(h.Text))}
}

// unfit says what made the member unfit.
func (x *explainer) unfit(name string) verdict {
	end := x.c.from.end
	if down := x.link(name); down != "" {
		return verdict{"link", down}
	}
	_, text, _ := strings.Cut(end.Text, "not fit: ")
	if _, forIt, ok := strings.Cut(end.Text, "not fit for it: "); ok {
		text = forIt
	}
	if text == "" { // the note of what became unfit says it, if it is of this tenure
		text = end.Text
		u := x.last(x.c.from.node, end.Time, func(e Event) bool { return e.Kind == Unfit && (e.Unit == 0 || e.Unit == x.q.Unit) })
		if u != nil && u.Text != "" && u.Time.After(x.c.from.from.Time) {
			text = u.Text
		}
	}
	return verdict{"unfit", fmt.Sprintf("%s became unfit to hold it%s", name, colon(text))}
}

// link says whether an interface of the owner went down right before.
func (x *explainer) link(name string) string {
	end := x.c.from.end
	l := x.last(x.c.from.node, end.Time, func(e Event) bool { return e.Kind == Link && e.Time.After(end.Time.Add(-WindowBefore)) })
	if l == nil || l.Cause != LinkDown {
		return ""
	}
	return fmt.Sprintf("%s lost its link (%s)", name, l.Text)
}

// pause is a standstill of the old owner that reached into the end of its
// tenure.
func (x *explainer) pause() *Event {
	from := x.c.from
	limit := from.over()
	if limit.IsZero() {
		limit = x.c.at()
	}
	return x.find(from.node, from.from.Time, func(e Event) bool {
		began := e.Time.Add(-e.For)
		return e.Kind == Paused && began.Before(limit) && !e.Time.Before(limit.Add(-time.Second))
	})
}

// roundsApart is how far apart two lost rounds are at most that belong together:
// after a longer time some round between them was won.
const roundsApart = 2 * time.Second

// lostRounds gathers who did not answer and who refused in the last rounds of
// the tenure, and since when.
func (x *explainer) lostRounds() (silent, denied []fsm.MemberID, since time.Time) {
	end := x.c.from.end.Time
	since = end
	for _, e := range slices.Backward(x.events) {
		if e.Node != x.c.from.node || e.Unit != x.q.Unit || e.Kind != RoundLost && e.Kind != Denied || e.Time.After(end) {
			continue
		}
		if e.Time.Before(x.c.from.from.Time) || since.Sub(e.Time) > roundsApart || end.Sub(e.Time) > WindowBefore {
			break
		}
		if e.Kind == RoundLost {
			silent = union(slices.Clone(e.Peers), silent)
		} else {
			denied = union(slices.Clone(e.Peers), denied)
		}
		if began := e.Time.Add(-e.For); began.Before(since) {
			since = began
		}
	}
	return silent, denied, since
}

func (x *explainer) refusal() string {
	d := x.last(x.c.from.node, x.c.from.end.Time, func(e Event) bool { return e.Kind == Denied && e.Unit == x.q.Unit })
	if d == nil {
		return "no reason noted"
	}
	return d.Text
}

// restarted are those of ids whose process began, or ended, about then.
func (x *explainer) restarted(ids []fsm.MemberID, since time.Time) []fsm.MemberID {
	var out []fsm.MemberID
	for _, id := range ids {
		if x.find(id, since.Add(-WindowBefore), func(e Event) bool {
			return (e.Kind == Started || e.Kind == Stopped) && e.Time.Before(since.Add(WindowBefore))
		}) != nil {
			out = append(out, id)
		}
	}
	return out
}

// deafTo are the members that lost a path to id about then.
func (x *explainer) deafTo(id fsm.MemberID, since time.Time) []fsm.MemberID {
	var out []fsm.MemberID
	for _, e := range x.events {
		if e.Kind == PathDead && e.Node != id && peer(e) == id && e.Time.Sub(since).Abs() < WindowBefore {
			out = union(out, []fsm.MemberID{e.Node})
		}
	}
	return out
}

// detail is the text of the last such entry of the old owner.
func (x *explainer) detail(kind Kind) string {
	e := x.last(x.c.from.node, x.c.from.end.Time, func(e Event) bool { return e.Kind == kind && (e.Unit == 0 || e.Unit == x.q.Unit) })
	if e == nil {
		return ""
	}
	return withText(e.Text)
}

// find is the first event of a member at from or later that is meant.
func (x *explainer) find(node fsm.MemberID, from time.Time, meant func(Event) bool) *Event {
	for i, e := range x.events {
		if e.Node == node && !e.Time.Before(from) && meant(e) {
			return &x.events[i]
		}
	}
	return nil
}

// last is the last event of a member up to a time that is meant.
func (x *explainer) last(node fsm.MemberID, to time.Time, meant func(Event) bool) *Event {
	for i, e := range slices.Backward(x.events) {
		if e.Node == node && !e.Time.After(to) && meant(e) {
			return &x.events[i]
		}
	}
	return nil
}

func peer(e Event) fsm.MemberID {
	if len(e.Peers) == 0 {
		return ""
	}
	return e.Peers[0]
}

func union(a, b []fsm.MemberID) []fsm.MemberID {
	for _, id := range b {
		if !slices.Contains(a, id) {
			a = append(a, id)
		}
	}
	return a
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

func withText(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}
