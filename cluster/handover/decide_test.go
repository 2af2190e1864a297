package handover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// world is a cluster whose members all know the same.
type world struct {
	now   time.Duration
	table *fsm.Table
	unit  fsm.Unit
	owner fsm.MemberID
	said  map[fsm.MemberID]Standing
	quiet map[fsm.MemberID]bool // reports come no more
	cut   map[fsm.MemberID]bool // off the network of the VIP
	hist  map[fsm.MemberID]*History
	moves []string
}

// blind is a view that is worse than what was agreed.
var blind = fsm.Blindness{Why: "it finds 2 of 3 down", Wait: fsm.Duration(3 * time.Second)}

const fresh = 480 * time.Millisecond

// newWorld has directors m1, m2, ... and a witness after them, all on two
// networks; the VIP is in the second. m1 is the home of unit 1, and its owner.
func newWorld(directors int) *world {
	w := &world{
		table: &fsm.Table{Cluster: "c"}, unit: fsm.Unit{ID: 1, Name: "VI_1", Routers: []uint64{1}}, owner: "m1",
		said: map[fsm.MemberID]Standing{}, quiet: map[fsm.MemberID]bool{}, cut: map[fsm.MemberID]bool{}, hist: map[fsm.MemberID]*History{},
	}
	var order []fsm.MemberID
	for i := 1; i <= directors+1; i++ {
		id := fsm.MemberID(fmt.Sprintf("m%d", i))
		m := fsm.Member{ID: id, Name: fmt.Sprintf("dir%d", i), Role: fsm.Director, State: fsm.Present}
		m.Networks = []fsm.Network{
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", i))}, {Prefix: netip.MustParsePrefix(fmt.Sprintf("172.25.88.%d/24", i))},
		}
		if i > directors {
			m.Role, m.Name = fsm.Witness, "wit"
		} else {
			order = append(order, id)
		}
		w.table.Members = append(w.table.Members, m)
		w.said[id], w.hist[id] = Standing{Ready: m.Role == fsm.Director, Score: 100}, &History{}
	}
	w.table.Routers = []fsm.Router{{ID: 1, Name: "VI_1", Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix("172.25.88.100/32")}}}}
	w.table.Places = map[uint64]fsm.Place{1: {Order: order}}
	return w
}

func (w *world) ids() (out []fsm.MemberID) {
	for _, m := range w.table.Members {
		out = append(out, m.ID)
	}
	return out
}

// hears is what one member hears of the others.
func (w *world) hears(id fsm.MemberID) (out []netip.Addr) {
	for _, m := range w.table.Members {
		if m.ID == id || w.quiet[m.ID] {
			continue
		}
		for i, n := range m.Networks {
			if i == 0 || !w.cut[id] && !w.cut[m.ID] {
				out = append(out, n.Prefix.Addr())
			}
		}
	}
	return out
}

func (w *world) facts(id fsm.MemberID) Facts {
	f := Facts{
		Now: w.now, Table: w.table, Unit: w.unit, Self: id, Owner: w.owner == id, Own: w.said[id],
		Fresh: fresh, Others: map[fsm.MemberID]Report{},
	}
	f.Lost = NetworksOf(w.table).Lost(func(o fsm.MemberID) ([]netip.Addr, bool) {
		return w.hears(o), o == id || !w.quiet[o]
	})[w.unit.ID]
	for _, o := range w.ids() {
		if r := (Report{Standing: w.said[o]}); o != id {
			if w.quiet[o] {
				r.Ago = time.Hour
			}
			f.Others[o] = r
		}
	}
	return f
}

// step lets a tenth of a second pass and everybody decide; the last decision of
// the owner is returned, and carried out.
func (w *world) step() Decision {
	w.now += 100 * time.Millisecond
	var d Decision
	for _, id := range w.ids() {
		if got := w.hist[id].Decide(w.facts(id)); id == w.owner {
			d = got
		} else if got != (Decision{}) {
			w.moves = append(w.moves, fmt.Sprintf("%s decides though it is not the owner: %+v", id, got))
		}
	}
	w.place(func(p *fsm.Place) { // as the table does when it hears of owners
		switch {
		case p.Moved != "" && p.Moved == w.owner:
			p.Arrived = true
		case p.Arrived:
			p.Moved, p.Arrived = "", false
		}
	})
	if d.To != "" {
		w.moves = append(w.moves, fmt.Sprintf("%s -> %s: %s (%s)", w.owner, d.To, d.Reason, d.Why))
		w.owner = d.To
	}
	return d
}

func (w *world) run(d time.Duration) (last Decision) {
	for end := w.now + d; w.now < end; {
		last = w.step()
	}
	return last
}

// settled is a world that has run for a while.
func settled(directors int) *world {
	w := newWorld(directors)
	w.run(2 * Dwell)
	return w
}

func (w *world) member(id fsm.MemberID) *fsm.Member {
	i := slices.IndexFunc(w.table.Members, func(m fsm.Member) bool { return m.ID == id })
	return &w.table.Members[i]
}

func (w *world) place(change func(p *fsm.Place)) {
	p := w.table.Places[1]
	change(&p)
	w.table.Places[1] = p
}

func (w *world) expect(t *testing.T, want ...string) {
	t.Helper()
	if len(w.moves) != len(want) {
		t.Fatalf("moves:\n%s\nwant %d", strings.Join(w.moves, "\n"), len(want))
	}
	for i := range want {
		if w.moves[i] != want[i] {
			t.Errorf("move %d: %s\nwant %s", i+1, w.moves[i], want[i])
		}
	}
}

func TestNobodyMovesWithoutAReason(t *testing.T) {
	w := settled(3)
	if d := w.run(5 * time.Minute); d.Waits != "" {
		t.Errorf("it waits for %q", d.Waits)
	}
	w.owner = "m2" // a failover brought it there
	if d := w.run(5 * time.Minute); d.Waits != "" {
		t.Errorf("it waits for %q although fail-back is manual", d.Waits)
	}
	w.expect(t)
}

func TestDrainedAndLeavingOwners(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *fsm.Member)
		why    string
	}{
		"drained":       {func(m *fsm.Member) { m.Drained = true }, "dir1 is drained"},
		"leaving":       {func(m *fsm.Member) { m.State = fsm.Leaving }, "dir1 leaves the cluster"},
		"a witness now": {func(m *fsm.Member) { m.Role = fsm.Witness }, "dir1 does not stand for it any more"},
	} {
		t.Run(name, func(t *testing.T) {
			w := settled(3)
			w.said["m2"] = Standing{Ready: false, Why: "the link is down"}
			c.change(w.member("m1"))
			if m := w.member("m1"); m.Role == fsm.Witness {
				w.place(func(p *fsm.Place) { p.Order = p.Order[1:] })
			}
			w.run(time.Minute)
			w.expect(t, "m1 -> m3: leaving ("+c.why+")")
		})
	}
	w := settled(2)
	w.member("m1").Drained = true
	w.said["m2"] = Standing{}
	if d := w.step(); d.To != "" || d.Waits != "dir1 is drained, but no other director is ready" {
		t.Errorf("%+v", d)
	}
	w.said["m2"] = Standing{Ready: true, Behind: true, Score: -200} // better than nobody
	if d := w.step(); d.To != "m2" {
		t.Errorf("%+v", d)
	}
}

// What is planned goes to who knows the connections; what is urgent goes anyway.
func TestConnectionsAreWaitedFor(t *testing.T) {
	sync := func(w *world, on bool, ids ...fsm.MemberID) {
		for _, id := range ids {
			s := w.said[id]
			s.Syncing = on
			w.said[id] = s
		}
	}
	t.Run("moved", func(t *testing.T) {
		w := settled(3)
		sync(w, true, "m3")
		w.place(func(p *fsm.Place) { p.Moved = "m3" })
		if d := w.run(time.Minute); d.Waits != "an operator moved it to dir3, but it has not heard of all its connections yet" {
			t.Errorf("%+v", d)
		}
		sync(w, false, "m3")
		w.step()
		w.expect(t, "m1 -> m3: moved (an operator moved it to dir3)")
	})
	t.Run("drained", func(t *testing.T) {
		w := settled(3)
		sync(w, true, "m2", "m3")
		w.member("m1").Drained = true
		if d := w.run(5 * time.Second); d.Waits != "dir1 is drained, but dir2 has not heard of all its connections yet" {
			t.Errorf("%+v", d)
		}
		sync(w, false, "m3") // though the table names m2 first
		w.step()
		w.expect(t, "m1 -> m3: leaving (dir1 is drained)")
	})
	t.Run("home", func(t *testing.T) {
		w := settled(2)
		w.table.Settings = fsm.Settings{FailBack: fsm.FailBackAuto, FailBackAfter: fsm.Duration(time.Second)}
		w.owner = "m2"
		sync(w, true, "m1")
		if d := w.run(time.Minute); d.Waits != "its home is dir1, but it has not heard of all its connections yet" {
			t.Errorf("%+v", d)
		}
		sync(w, false, "m1")
		w.run(time.Second)
		if w.owner != "m1" {
			t.Errorf("at %s: %q", w.owner, w.moves)
		}
	})
	t.Run("unfit", func(t *testing.T) {
		w := settled(2)
		w.said["m1"] = Standing{}
		sync(w, true, "m2")
		w.run(2 * Dwell)
		if w.owner != "m2" {
			t.Errorf("stays at %s", w.owner)
		}
	})
}

func TestMovedByAnOperator(t *testing.T) {
	w := settled(3)
	w.place(func(p *fsm.Place) { p.Moved = "m3" })
	w.step()
	w.expect(t, "m1 -> m3: moved (an operator moved it to dir3)")
	w.run(time.Minute)
	w.place(func(p *fsm.Place) { p.Moved, p.Arrived = "m1", false })
	w.run(time.Minute)
	w.expect(t, "m1 -> m3: moved (an operator moved it to dir3)", "m3 -> m1: moved (an operator moved it to dir1)")

	for want, change := range map[string]func(w *world){
		"it is not ready: no gate":            func(w *world) { w.said["m3"] = Standing{Why: "no gate"} },
		"nothing was heard from it lately":    func(w *world) { w.quiet["m3"] = true },
		"it is less fit: script chk fails":    func(w *world) { w.said["m3"] = Standing{Ready: true, Score: 80, Why: "script chk fails"} },
		"it cannot hold it":                   func(w *world) { w.cut["m3"] = true },
		"it has been as fit for less than 5s": func(w *world) { w.said["m3"] = Standing{}; w.step(); w.said["m3"] = w.said["m1"] },
	} {
		w := settled(3)
		change(w)
		w.place(func(p *fsm.Place) { p.Moved = "m3" })
		if d := w.step(); d.To != "" || d.Waits != "an operator moved it to dir3, but "+want {
			t.Errorf("%+v, want it to wait because %s", d, want)
		}
	}
}

// The network of the VIP dies for the owner while others hear each other on it:
// it hands over at once. If everybody lost it, or only two are on it, it stays.
func TestOwnerCutOff(t *testing.T) {
	w := settled(3)
	w.cut["m1"] = true
	start := w.now
	for len(w.moves) == 0 && w.now < start+time.Second {
		w.step()
	}
	w.expect(t, "m1 -> m2: cut off (dir1 neither hears nor is heard on the network of the VIP, on which others hear each other)")
	if took := w.now - start; took > 200*time.Millisecond {
		t.Errorf("it took %v from the facts to the decision", took)
	}
	w.table.Settings = fsm.Settings{FailBack: fsm.FailBackAuto, FailBackAfter: fsm.Duration(10 * time.Second)}
	if d := w.run(5 * time.Minute); len(w.moves) != 1 || d.Waits == "" {
		t.Errorf("it goes home to a cut-off director: %v, waits %q", w.moves, d.Waits)
	}
	w.cut["m1"] = false
	w.run(time.Minute)
	if len(w.moves) != 2 || w.owner != "m1" {
		t.Errorf("after the network came back: %v", w.moves)
	}

	for name, change := range map[string]func(w *world){
		"all are cut off":          func(w *world) { w.cut = map[fsm.MemberID]bool{"m1": true, "m2": true, "m3": true, "m4": true} },
		"somebody hears the owner": func(w *world) { w.cut = map[fsm.MemberID]bool{"m2": true, "m3": true} },
		"nobody else is ready":     func(w *world) { w.cut["m1"] = true; w.said["m2"], w.said["m3"] = Standing{}, Standing{} },
		"the reports are old": func(w *world) {
			w.cut["m1"] = true
			w.quiet = map[fsm.MemberID]bool{"m2": true, "m3": true, "m4": true}
		},
		"only one other is on it":    func(w *world) { w.cut["m1"] = true; w.off("m3"); w.off("m4") },
		"the owner has no address":   func(w *world) { w.off("m1") },
		"VIPs' networks are unknown": func(w *world) { w.cut["m1"] = true; w.off("m1"); w.off("m2"); w.off("m3"); w.off("m4") },
	} {
		t.Run(name, func(t *testing.T) {
			w := settled(3)
			change(w)
			w.run(time.Minute)
			w.expect(t)
		})
	}
	w = settled(2) // the witness on the VIP's network is a third pair of ears
	w.cut["m1"] = true
	w.run(time.Second)
	if w.owner != "m2" {
		t.Errorf("with a witness on the network: %v", w.moves)
	}
}

// off takes a member off the VIP's network.
func (w *world) off(id fsm.MemberID) { w.member(id).Networks = w.member(id).Networks[:1] }

func TestFitness(t *testing.T) {
	w := settled(3)
	w.said["m1"] = Standing{Ready: true, Score: 80, Why: "script chk_web fails"}
	w.run(Grace / 2)
	w.expect(t) // it may be over in a moment
	w.run(Grace)
	w.expect(t, "m1 -> m2: fitness (dir1 has the score 80: script chk_web fails; dir2 has 100)")
	w.said["m1"] = Standing{Ready: true, Score: 100}
	w.run(time.Minute)
	w.expect(t, "m1 -> m2: fitness (dir1 has the score 80: script chk_web fails; dir2 has 100)")

	w = settled(3)
	w.said["m1"] = Standing{Ready: true, Behind: true, Score: 100}
	w.run(2 * time.Second)
	w.expect(t, "m1 -> m2: fitness (dir1 is behind what the cluster agreed on, dir2 is not)")

	w = settled(3)
	w.said["m1"] = Standing{Ready: true, Blind: blind, Score: 120}
	w.said["m2"] = w.said["m1"]
	w.run(blind.Wait.D())
	w.expect(t) // the others may find them down as well
	w.run(2 * time.Second)
	w.expect(t, "m1 -> m3: fitness (dir1 has a worse view of the real servers than dir3: it finds 2 of 3 down)")
	w.place(func(p *fsm.Place) { p.Moved, p.Arrived = "m1", false })
	if d := w.run(time.Minute); len(w.moves) != 1 || d.Waits != "an operator moved it to dir1, but it is less fit: it finds 2 of 3 down" {
		t.Errorf("%v, waits %q", w.moves, d.Waits)
	}

	w = settled(3) // all are blind: nobody moves, and says so
	for id := range w.said {
		w.said[id] = Standing{Ready: true, Blind: blind}
	}
	if d := w.run(time.Minute); d.Waits != "dir1 has a bad view: it finds 2 of 3 down; no other director is fitter" {
		t.Errorf("waits %q", d.Waits)
	}
	w.expect(t)

	w = settled(3) // all are alike: nobody moves
	for id := range w.said {
		w.said[id] = Standing{Ready: true, Behind: true, Score: 50}
	}
	w.run(time.Minute)
	w.expect(t)

	w = settled(3) // somebody becomes better: only if it lasts
	w.said["m3"] = Standing{Ready: true, Score: 101}
	w.run(Dwell - time.Second)
	w.expect(t)
	w.run(2 * time.Second)
	w.expect(t, "m1 -> m3: fitness (dir1 has the score 100; dir3 has 101)")
}

// A new owner keeps a unit for a while, and a director that was better for a
// moment does not stand in the way of one that is better for good.
func TestFitnessDwells(t *testing.T) {
	w := settled(3)
	w.said["m3"] = Standing{Ready: true, Score: 101}
	w.owner = "m1"
	w.run(Dwell - time.Second)
	w.owner = "m2" // the owner died
	w.run(Dwell - time.Second)
	w.expect(t)
	w.said["m1"] = Standing{Ready: true, Score: 200}
	w.run(2 * time.Second)
	w.expect(t, "m2 -> m3: fitness (dir2 has the score 100; dir3 has 101)")
}

// Scores that flap do not make the VIP flap.
func TestFlappingScores(t *testing.T) {
	w := settled(3)
	for i := range 600 {
		low := Standing{Ready: true, Score: 90 + i%3}
		if i%2 == 0 {
			low.Score += 20
		}
		w.said["m1"], w.said["m2"] = low, Standing{Ready: true, Score: 120 - low.Score%30}
		w.run(time.Second)
	}
	if len(w.moves) > 2 {
		t.Errorf("%d moves in ten minutes:\n%s", len(w.moves), strings.Join(w.moves, "\n"))
	}
}

// Servers that die are no reason to move: the others find them down in their turn.
func TestServersDie(t *testing.T) {
	w := settled(3)
	for round := range 50 {
		w.said["m1"] = Standing{Ready: true, Score: 100, Blind: blind}
		w.run(time.Duration(round%29) * 100 * time.Millisecond)
		w.said["m1"] = Standing{Ready: true, Score: 100} // agreed down
		w.run(300 * time.Millisecond)
	}
	w.expect(t)
}

// Views that come and go, of one director or of all in turn, do not make the VIP flap,
// also where it would go home by itself.
func TestFlappingViews(t *testing.T) {
	for name, of := range map[string][]fsm.MemberID{"the owner's": {"m1"}, "everybody's": {"m1", "m2", "m3"}} {
		w := settled(3)
		w.table.Settings = fsm.Settings{FailBack: fsm.FailBackAuto, FailBackAfter: fsm.Duration(30 * time.Second)}
		for i := range 300 {
			for k, id := range of {
				s := Standing{Ready: true, Score: 100}
				if (i+k)%3 == 0 {
					s.Blind = blind
				}
				w.said[id] = s
			}
			w.run(2 * time.Second)
		}
		if len(w.moves) > 1 {
			t.Errorf("%s view flaps, and the VIP moves %d times in ten minutes:\n%s", name, len(w.moves), strings.Join(w.moves, "\n"))
		}
	}
}

func TestFailBack(t *testing.T) {
	auto := fsm.Settings{FailBack: fsm.FailBackAuto, FailBackAfter: fsm.Duration(30 * time.Second)}
	w := settled(3)
	w.table.Settings = auto
	w.owner, w.said["m1"] = "m2", Standing{}
	if d := w.run(time.Minute); d.Waits != "its home is dir1, but it is not ready" {
		t.Errorf("waits %q", d.Waits)
	}
	w.said["m1"] = w.said["m2"]
	if d := w.run(29 * time.Second); d.Waits != "its home dir1 gets it when it has been well for 30s" {
		t.Errorf("waits %q", d.Waits)
	}
	w.expect(t)
	w.run(2 * time.Second)
	w.expect(t, "m2 -> m1: fail-back (its home dir1 has been well for 30s)")

	w = settled(3) // a pin is the home; what was moved by hand stays
	w.table.Settings = auto
	w.place(func(p *fsm.Place) { p.Pin, p.Order = "m3", []fsm.MemberID{"m3", "m1", "m2"} })
	w.run(time.Minute)
	w.expect(t, "m1 -> m3: fail-back (its home dir3 has been well for 30s)")
	w.place(func(p *fsm.Place) { p.Moved, p.Arrived = "m2", false })
	w.run(time.Minute)
	if w.owner != "m2" || len(w.moves) != 2 {
		t.Errorf("%v", w.moves)
	}
	w = settled(2) // a home that keeps failing gets nothing
	w.table.Settings, w.owner = auto, "m2"
	for i := range 100 {
		w.said["m1"] = Standing{Ready: i%2 == 0, Score: 100}
		w.run(20 * time.Second)
	}
	w.expect(t)
}

// Whatever the facts: a unit goes only to a present director that said lately
// that it is ready; and once the facts stand still, so does the unit.
func TestDecisionsSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.IntRange(1, 4).Draw(t, "directors"))
		n := len(w.table.Members)
		id := func() fsm.MemberID { return fsm.MemberID(fmt.Sprintf("m%d", rapid.IntRange(1, n).Draw(t, "member"))) }
		if rapid.Bool().Draw(t, "auto") {
			w.table.Settings = fsm.Settings{FailBack: fsm.FailBackAuto, FailBackAfter: fsm.Duration(10 * time.Second)}
		}
		change := func() {
			m := id()
			switch rapid.IntRange(0, 7).Draw(t, "change") {
			case 0, 1, 2:
				w.said[m] = Standing{
					Ready: rapid.IntRange(0, 3).Draw(t, "ready") > 0, Behind: rapid.IntRange(0, 3).Draw(t, "behind") == 0,
					Blind: rapid.SampledFrom([]fsm.Blindness{{}, {}, blind}).Draw(t, "blind"),
					Score: rapid.IntRange(-2, 2).Draw(t, "score"), Syncing: rapid.IntRange(0, 3).Draw(t, "syncing") == 0,
				}
			case 3:
				w.cut[m] = !w.cut[m]
			case 4:
				w.quiet[m] = !w.quiet[m]
			case 5:
				w.member(m).Drained = !w.member(m).Drained
			case 6:
				w.place(func(p *fsm.Place) { p.Moved, p.Arrived = id(), false })
			case 7:
				w.place(func(p *fsm.Place) { p.Moved, p.Arrived = "", false })
			}
		}
		check := func(before fsm.MemberID, d Decision) {
			if d.To == "" {
				return
			}
			m := w.member(d.To)
			if d.To == before || m.Role != fsm.Director || m.State != fsm.Present || m.Drained || !w.said[d.To].Ready || w.quiet[d.To] || d.Why == "" {
				t.Fatalf("%s hands over to %s: %+v, %+v", before, d.To, d, m)
			}
			if planned := d.Reason == Moved || d.Reason == Leaving || d.Reason == FailBack; planned && w.said[d.To].Syncing {
				t.Fatalf("%s does not know the connections: %+v", d.To, d)
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			change()
			for range rapid.IntRange(1, 80).Draw(t, "steps") {
				before := w.owner
				check(before, w.step())
			}
		}
		w.moves = nil
		for range 400 {
			before := w.owner
			check(before, w.step())
		}
		if len(w.moves) > 3 {
			t.Fatalf("nothing changes, yet:\n%s", strings.Join(w.moves, "\n"))
		}
		n = len(w.moves)
		w.run(30 * time.Second)
		if len(w.moves) != n {
			t.Fatalf("still moving:\n%s", strings.Join(w.moves, "\n"))
		}
	})
}
