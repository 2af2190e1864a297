package demo

import (
	"strings"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
)

// moveOwner hands the VIP over as an operator does before working on a machine;
// not to the director that was frozen, which must first be well for a while.
func (s *story) moveOwner(w watchers, frozen *lab.Host) {
	s.AwaitCalm()
	owner := s.AwaitOwner()
	to := s.Others(owner)[0]
	if to == frozen {
		to = s.Others(owner)[1]
	}
	s.say("(c) the VIP is moved from %s to %s while the client asks; nothing is broken", owner.Name, to.Name)
	from := probe.Now()
	out := s.typed(to, "lbcluster", "router", "move", "VI_1", to.Name)
	time.Sleep(patience + 500*time.Millisecond) // until the last request was answered or given up
	end := probe.Now()

	now := s.AwaitOwner()
	sum := probe.Summarise(w.http.Records(), from, end)
	resets := sum.ByResult[probe.Reset]
	refused := sum.Failed - resets
	s.expect(now == to && strings.Contains(out, "moved from "+owner.Name+" to "+to.Name), "%s owns it; the order needed no gap of a lease: %d ms without an answer", now.Name, sum.Outage.Length().Milliseconds())
	s.expect(refused == 0, "new connections meanwhile: %d answered, %d failed", sum.OK, refused)
	if resets > 0 {
		s.say("    (%d that had just begun through %s: reset, for connections are not synchronised yet)", resets, owner.Name)
	}
	macs := answering(w, firstBy(w.arp.Records(), probe.ToMAC(to.MAC), from), end)
	s.expect(len(macs) == 1, "from then on %s answered ARP for the VIP", people(s, macs))
	s.trust(w, from, end)
	s.count("(c) planned move: client without answer", "%d ms", sum.Outage.Length().Milliseconds())
	s.count("    new connections that failed", "%d of %d", refused, sum.OK+sum.Failed)
}
