package bench

import (
	"errors"
	"strings"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// afterward is how long the change of owner is looked at.
const afterward = 1500 * time.Millisecond

// attempt is a trial under way.
type attempt struct {
	*contestant
	owner    *lab.Host
	http     *lab.HTTPProber // nil: nobody asks
	arp      *lab.ARPProber
	stalls   *lab.StallRecorder
	from, to probe.Time
	wall     time.Time // from, by the wall clock
	what     string
	values   map[quantity]float64 // what the event has counted itself
}

// begin says that it happens now.
func (a *attempt) begin(what string) {
	a.what, a.wall, a.from = what, time.Now(), probe.Now()
}

// end says that what happens from now on does not count.
func (a *attempt) end() { a.to = probe.Now() }

// must ends the stage on an error.
func (a *attempt) must(err error) {
	if err != nil {
		a.site.T.Fatalf("%s: %v", a.what, err)
	}
}

// awaitSuccessor waits until another MAC than the owner's answers, and a moment
// more.
func (a *attempt) awaitSuccessor() {
	a.site.Eventually(20*time.Second, "another director answers", func() error {
		for _, h := range probe.Holders(a.arp.Records(), a.from, probe.Now()) {
			if h.MAC != probe.ToMAC(a.owner.MAC) {
				return nil
			}
		}
		return errors.New("no other MAC answers")
	})
	time.Sleep(afterward)
}

// until waits until so much time has passed since it began.
func (a *attempt) until(d time.Duration) { time.Sleep(a.from.Add(d).Sub(probe.Now())) }

// measure makes a trial of what the probers saw between begin and end.
func (a *attempt) measure(counted []quantity) trial {
	t := trial{values: a.values}
	if t.values == nil {
		t.values = map[quantity]float64{}
	}
	for _, s := range a.stalls.Stalls(stallLimit) {
		if s.At >= a.from && s.At <= a.to {
			t.stalled = max(t.stalled, s.Late)
		}
	}
	if a.http == nil {
		return t
	}
	sum := probe.Summarise(a.http.Records(), a.from, a.to)
	for _, q := range counted {
		switch q {
		case outage:
			t.values[q] = ms(sum.Outage.Length())
		case failed:
			t.values[q] = float64(sum.Failed - sum.ByResult[probe.Reset])
		case reset:
			t.values[q] = float64(sum.ByResult[probe.Reset])
		case twoMAC:
			t.values[q] = ms(probe.Total(probe.Overlaps(between(a.arp.Records(), a.from, a.to), probe.Window)))
		}
	}
	return t
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func between(recs []probe.ARP, from, to probe.Time) []probe.ARP {
	var seen []probe.ARP
	for _, r := range recs {
		if r.At >= from && r.At <= to {
			seen = append(seen, r)
		}
	}
	return seen
}

// tell says where the time went.
func (a *attempt) tell() string {
	names := map[probe.MAC]string{}
	for _, h := range a.site.Hosts() {
		names[probe.ToMAC(h.MAC)] = h.Name
	}
	ms := seen(a.what, a.http.Records(), between(a.arp.Records(), a.from, a.to), a.from, a.to, names)
	if a.why == nil {
		return timeline(ms, a.from)
	}
	why := a.why()
	sentence, _, _ := strings.Cut(why, "\n")
	return "lbcluster why: " + sentence + "\n" + timeline(append(ms, recorded(why, a.wall, a.from, a.to)...), a.from)
}

// asks starts the probers for the event.
func (e *event) asks(s *site.Site) (a attempt, stop func()) {
	a.stalls = s.RecordStalls(5 * time.Millisecond)
	if e.pace == 0 {
		return a, a.stalls.Stop
	}
	a.http, a.arp = s.ProbeHTTPFor(s.Client, site.Target, e.pace, max(e.patience, time.Second)), s.ProbeARP(s.Watcher, site.VIP, 5*time.Millisecond)
	return a, func() { a.http.Stop(); a.arp.Stop(); a.stalls.Stop() }
}
