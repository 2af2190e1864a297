package lease

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What happens to an owner whose voters fall silent is recorded in order, once:
// a lost round with who did not answer, the closing of the gate, the loss.
func TestJournalOfALostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recs := []*record{{}, {}, {}}
		g := newGroup(t, 3, func(i int, c *Config) { c.Journal = recs[i].add })
		g.start(one)
		g.sleep(3 * time.Second)
		if got := g.owners(1); len(got) != 1 || got[0] != "m1" {
			t.Fatalf("owners %v", got)
		}
		rec := recs[0]
		if len(rec.all) != 1 || rec.all[0].Kind != EntryAcquired || rec.all[0].Unit != 1 || rec.all[0].At.IsZero() {
			t.Fatalf("after a quiet start: %+v", rec.all)
		}
		s := g.members[0].Status().Routers[0].Margin
		p := g.members[0].cfg.Params
		if whole := time.Duration(p.usable(int64(p.TTL))) - p.Renew; s.Renewals < 15 || s.Min > s.Avg || s.Min < whole-p.Renew || s.Avg > whole {
			t.Errorf("margins of a quiet lease: %+v", s)
		}
		at := g.peers["m1"]
		g.hub.dropping(func(from, to netip.AddrPort) bool { return from == at || to == at })
		g.sleep(2 * time.Second)
		var kinds []string
		for _, e := range rec.all[1:] {
			if e.Kind != EntryPathDead {
				kinds = append(kinds, string(e.Kind))
			}
		}
		if got := strings.Join(kinds, " "); got != "round-lost gate-closed lost" {
			t.Errorf("recorded: %s\n%+v", got, rec.all)
		}
		if r := rec.of(EntryRound)[0]; r.Cause != "no answer from m2, m3" || !strings.HasPrefix(r.Text, "a renewal got 1 of 3 voters, 2 wanted; no answer from m2, m3; ") {
			t.Errorf("%+v", r)
		}
		if r := rec.of(EntryClosed)[0]; !strings.Contains(r.Cause, "ran out") || r.Deadline == 0 || r.Boot-r.Deadline > int64(p.Round) || r.Deadline-r.Boot > int64(p.TTL) {
			t.Errorf("%+v", r)
		}
		if d := rec.of(EntryPathDead); len(d) != 2 || !strings.Contains(d[0].Text, "nor any other way") {
			t.Errorf("%+v", d)
		}
		g.stop()
	})
}

// A refused Ask is recorded with who refused and why.
func TestJournalOfADenial(t *testing.T) {
	h := NewHolder("m1", Nonce{1}, profile(t, "default"), nil)
	c := &candidacy{id: 7}
	h.remarkDenied(c, Message{From: "m2", Reason: Taken, Holder: "m3", Remaining: 4e8})
	h.remarkDenied(c, Message{From: "m3", Reason: Embargoed})
	n := h.takeNotes()
	if len(n) != 2 || n[0].text != "m2 refused: taken, by m3 for 400ms" || n[0].peers[0] != "m2" || n[0].cause != "taken" || n[1].text != "m3 refused: embargo" {
		t.Errorf("%+v", n)
	}
	for range 3 * maxNotes {
		h.remarkDenied(c, Message{From: "m2"})
	}
	if len(h.takeNotes()) != maxNotes || len(h.takeNotes()) != 0 {
		t.Error("what nobody takes grows")
	}
}

// A journal that takes for ever stops nothing but the journal.
func TestDriverDoesNotWaitForItsJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		g := newGroup(t, 3, func(_ int, c *Config) { c.Journal = func(Entry) { <-never } })
		g.start(one)
		g.sleep(3 * time.Second)
		for range 200 { // each time a loss and a gain
			g.members[0].SetFit(false, "flaps")
			g.sleep(60 * time.Millisecond)
			g.members[0].SetFit(true, "")
			g.members[1].SetFit(false, "flaps")
			g.members[2].SetFit(false, "flaps")
			g.sleep(200 * time.Millisecond)
			g.members[1].SetFit(true, "")
			g.members[2].SetFit(true, "")
		}
		if s := g.members[0].Status(); s.Unrecorded == 0 || len(g.owners(1)) != 1 {
			t.Errorf("%d entries dropped, owners %v", s.Unrecorded, g.owners(1))
		}
		close(never)
		g.stop()
	})
}
