package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// stalled is how late a prober may run before a measurement is not trusted, and
// outage how long a client may be without an answer on a machine that did not.
const (
	stalled = 100 * time.Millisecond
	outage  = 3 * time.Second
)

// eyes watch the VIP while a test breaks things: the client asks every 20 ms,
// the watcher every 5 ms.
type eyes struct {
	*site.Site
	http *lab.HTTPProber
	arp  *lab.ARPProber
	// stalls watch the CPUs, of which the probers see but the one they are on.
	stalls []*lab.StallRecorder
	// limit is outage for a lease with other timers; 0: outage.
	limit time.Duration
}

func open(s *site.Site) *eyes {
	return &eyes{
		Site: s, stalls: s.RecordStallsEach(20 * time.Millisecond),
		http: s.ProbeHTTP(s.Client, site.Target, 20*time.Millisecond), arp: s.ProbeARP(s.Watcher, site.VIP, 5*time.Millisecond),
	}
}

// worst is how late the probers, and the CPUs, were between from and to.
func (e *eyes) worst(from, to probe.Time) time.Duration {
	var late time.Duration
	all := append(probe.Stalls(e.arp.Records(), stalled), probe.HTTPStalls(e.http.Records(), stalled)...)
	for _, r := range e.stalls {
		all = append(all, r.Stalls(stalled)...)
	}
	for _, st := range all {
		if st.At >= from && st.At <= to {
			late = max(late, st.Late)
		}
	}
	return late
}

// late is the worst lateness, and the worst of one CPU's ticks together in a second.
func (e *eyes) late(from, to probe.Time) (once, together time.Duration) {
	for _, r := range e.stalls {
		together = max(together, r.Lateness(from, to, time.Second))
	}
	return e.worst(from, to).Round(time.Millisecond), together.Round(time.Millisecond)
}

// macs are those that answered for the VIP or announced it between from and to.
func (e *eyes) macs(from, to probe.Time) map[probe.MAC]int {
	recs := e.arp.Records()
	n := probe.Announcements(recs, from, to)
	for _, h := range probe.Holders(recs, from, to) {
		n[h.MAC] += h.Answers
	}
	return n
}

// took is when the host first answered or announced after from.
func (e *eyes) took(h *lab.Host, from probe.Time) probe.Time {
	for _, r := range e.arp.Records() {
		if r.At >= from && r.MAC == probe.ToMAC(h.MAC) && r.Kind != probe.Asked {
			return r.At
		}
	}
	e.T.Errorf("%s was never heard with the VIP", h.Name)
	return from
}

// blame is t.Errorf, or t.Logf if the machine stood still between from and to: for
// what that explains, such as a lease that was not renewed in time. Two owners at a
// time are explained by nothing.
func (e *eyes) blame(t *testing.T, from, to probe.Time) func(format string, args ...any) {
	late, together := e.late(from, to)
	report := t.Errorf
	if late > stood || together > starved {
		report = t.Logf
	}
	return func(format string, args ...any) {
		t.Helper()
		report(format+" (the machine was late by %v, by %v in a second)", append(args, late, together)...)
	}
}

// wantOnly fails the test unless the host, and nobody else, answered for the
// VIP or announced it between from and to.
func (e *eyes) wantOnly(t *testing.T, h *lab.Host, from, to probe.Time) {
	t.Helper()
	if m := e.macs(from, to); len(m) != 1 || m[probe.ToMAC(h.MAC)] == 0 {
		e.blame(t, from, to)("%s (%v) should have had the VIP alone; answers and announcements by MAC: %v", h.Name, h.MAC, m)
	}
}

// wantHandover fails the test unless next took over from old after the fault at
// from, soon enough for the client, and nobody but next had the VIP from then on.
func (e *eyes) wantHandover(t *testing.T, next *lab.Host, from, to probe.Time) {
	t.Helper()
	at := e.took(next, from)
	e.wantOnly(t, next, at, to)
	if n := probe.Announcements(e.arp.Records(), at, to)[probe.ToMAC(next.MAC)]; n < 5 {
		e.blame(t, from, to)("%s announced the VIP %d times, want five or more", next.Name, n)
	}
	e.wantNoOverlap(t)
	sum := probe.Summarise(e.http.Records(), from, to)
	late := e.worst(from, to)
	t.Logf("%s took over; the client was without an answer for %v; the machine was late by %v", next.Name, sum.Outage.Length().Round(time.Millisecond), late)
	limit := max(outage, e.limit)
	if dark(sum.Outage) || (sum.Outage.Length() > limit && late == 0) {
		t.Errorf("the client was without an answer for %v (open: %v), want below %v", sum.Outage.Length(), sum.Outage.Open, limit)
	}
}

// dark reports whether the client was served no more in the end. Every window ends
// in an open gap; it may be the longest one, without being long.
func dark(longest probe.Span) bool { return longest.Open && longest.Length() > time.Second/2 }

// wantNoOverlap fails the test if two MACs ever had the VIP at a time.
func (e *eyes) wantNoOverlap(t *testing.T) {
	t.Helper()
	if s := probe.Overlaps(e.arp.Records(), probe.Window); len(s) > 0 {
		t.Errorf("BROKEN: two MACs answered in %v", s)
	}
}

// stood is how late a prober may be before the machine, and not the product,
// explains that a request was lost.
const stood = 150 * time.Millisecond

// starved is how late the ticks of one CPU, 50 a second, may be together in a second:
// above it every process waits for its turn at each step that it takes.
const starved = 400 * time.Millisecond

// wantUndisturbed fails the test unless every request made after from that ended
// by to was answered, and the owner had the VIP alone: one made in the dark before
// may time out now. Lost requests are only told of where the machine itself stood
// still.
func (e *eyes) wantUndisturbed(t *testing.T, owner *lab.Host, from, to probe.Time) {
	t.Helper()
	made := slices.DeleteFunc(slices.Clone(e.http.Records()), func(r probe.HTTP) bool { return r.Start < from })
	sum := probe.Summarise(made, from, to)
	if sum.Failed > 0 || sum.OK < int(to.Sub(from)/(100*time.Millisecond)) {
		e.blame(t, from, to)("the client got %d answers and %d failures (%v) in %v, want all answered",
			sum.OK, sum.Failed, sum.ByResult, to.Sub(from))
	}
	e.wantOnly(t, owner, from, to)
	if n := probe.Announcements(e.arp.Records(), from, to); len(n) > 0 && n[probe.ToMAC(owner.MAC)] == 0 {
		e.blame(t, from, to)("announced by %v", n)
	}
}

// tenants are the MACs that answered between from and to, each time it changed.
func (e *eyes) tenants(from, to probe.Time) (macs []probe.MAC) {
	for _, r := range e.arp.Records() {
		if r.Kind == probe.Answered && r.At >= from && r.At <= to && (len(macs) == 0 || macs[len(macs)-1] != r.MAC) {
			macs = append(macs, r.MAC)
		}
	}
	return macs
}

// wantStayed fails the test if another than the owner answered between from and
// to, whatever the client got.
func (e *eyes) wantStayed(t *testing.T, owner *lab.Host, from, to probe.Time) {
	t.Helper()
	macs := e.tenants(from, to)
	if len(macs) == 1 && macs[0] == probe.ToMAC(owner.MAC) {
		return
	}
	e.blame(t, from, to)("the VIP was answered for by %v in turn, want only %v", macs, owner.MAC)
}

// await waits until the condition holds.
func (e *eyes) await(what string, patience time.Duration, ok func() bool) {
	e.T.Helper()
	e.Eventually(patience, what, func() error {
		if ok() {
			return nil
		}
		return fmt.Errorf("it does not hold")
	})
}

// served waits until the client has answers again, and until the requests of the
// time before have ended one way or the other: the lease comes first, then the
// address, then the neighbours learn of it.
func (e *eyes) served() probe.Time {
	e.T.Helper()
	asked := probe.Now()
	e.await("the client is served", 10*time.Second, func() bool {
		return slices.ContainsFunc(e.http.Records(), func(r probe.HTTP) bool { return r.Start >= asked && r.Result == probe.OK })
	})
	return pause(1100 * time.Millisecond)
}

func pause(d time.Duration) probe.Time {
	time.Sleep(d)
	return probe.Now()
}

// wantWhy asks why, until all members have told, and fails the test unless the
// sentence has one of the words.
func (e *eyes) wantWhy(t *testing.T, asked, from, to *lab.Host, words ...string) {
	t.Helper()
	var sentence string
	for range 40 {
		out, status := e.Command(asked, "why", "VI_1")
		if sentence, _, _ = strings.Cut(out, "\n"); status == 0 && strings.Contains(sentence, "VI_1 moved from "+from.Name+" to "+to.Name) {
			for _, w := range words {
				if strings.Contains(sentence, w) {
					t.Log(sentence)
					return
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("why says %q, want a move from %s to %s because of %q", sentence, from.Name, to.Name, words)
}
