package lease

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// What a member says of itself reaches the others at once, with who hears whom.
func TestStandingReachesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start(one)
		g.sleep(time.Second)
		said := Standing{Behind: true, Units: []UnitStanding{{Unit: 9, Score: -3, Why: "the link is down"}, {Unit: 1, Ready: true, Score: 7}}}
		g.members[1].SetStanding(said)
		said.Units[0].Why = "changed later by its maker"
		g.sleep(2 * time.Millisecond)
		p := g.members[0].Status().Peers[0]
		if p.ID != "m2" || p.Ago > 2*time.Millisecond || !p.Behind || len(p.Units) != 2 ||
			p.Units[0].UnitStanding != (UnitStanding{Unit: 1, Ready: true, Score: 7}) || p.Units[1].Why != "the link is down" {
			t.Errorf("m1 knows of m2: %+v", p)
		}
		var hears []string
		for _, h := range p.Hears {
			hears = append(hears, fmt.Sprint(h.Member, " ", h.Addr))
		}
		slices.Sort(hears)
		if !slices.Equal(hears, []string{"m1 10.0.0.1", "m3 10.0.0.3"}) {
			t.Errorf("m2 hears %v", hears)
		}
		g.sleep(time.Second)
		if p := g.members[0].Status().Peers[0]; p.Ago > g.members[0].cfg.Params.Renew || p.Units[0].Ago != p.Ago {
			t.Errorf("it is not said again each period: %+v", p)
		}
		// m3 is cut off: the others say so within three periods and one.
		at := g.peers["m3"]
		g.hub.dropping(func(from, to netip.AddrPort) bool { return from == at || to == at })
		g.sleep(4*g.members[0].cfg.Params.Renew + 5*time.Millisecond)
		p = g.members[0].Status().Peers[0]
		if len(p.Hears) != 1 || p.Hears[0].Member != "m1" {
			t.Errorf("m2 says that it hears %v while m3 is cut off", p.Hears)
		}
		// A unit that it speaks of no more goes away.
		g.members[1].SetStanding(Standing{Units: []UnitStanding{{Unit: 1}}})
		g.sleep(6 * g.members[0].cfg.Params.Renew)
		p = g.members[0].Status().Peers[0]
		if p.Behind || len(p.Units) != 1 || p.Units[0].Unit != 1 || p.Units[0].Ready {
			t.Errorf("after its standing changed: %+v", p)
		}
		if p := g.members[0].Status().Peers[1]; p.Ago < time.Second || p.Paths[0].Alive {
			t.Errorf("m3 is cut off, yet %+v", p)
		}
		g.stop()
	})
}

// Many units travel in several packets, none of which is fragmented on its way.
func TestStandingOfManyUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 2, nil)
		g.start(one)
		var s Standing
		for i := range 255 {
			s.Units = append(s.Units, UnitStanding{Unit: uint64(1000 + i), Ready: i%2 == 0, Score: -i, Why: strings.Repeat("ü", 100)})
		}
		for _, body := range standingBodies(1, s, nil) {
			if len(body) > maxBody {
				t.Errorf("a body of %d bytes", len(body))
			}
		}
		g.members[1].SetStanding(s)
		g.sleep(5 * time.Millisecond)
		got := g.members[0].Status().Peers[0].Units
		if len(got) != 255 {
			t.Fatalf("%d units arrived", len(got))
		}
		for i, u := range got {
			want := s.Units[i]
			want.Why = strings.Repeat("ü", maxWhy/2)
			if u.UnitStanding != want {
				t.Fatalf("unit %d arrived as %+v", i, u)
			}
		}
		g.stop()
	})
}

func TestStandingRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Standing
		s.Behind, s.Syncing = rapid.Bool().Draw(t, "behind"), rapid.Bool().Draw(t, "syncing")
		for i := range rapid.IntRange(0, 60).Draw(t, "units") {
			s.Units = append(s.Units, UnitStanding{
				Unit: uint64(i), Ready: rapid.Bool().Draw(t, "ready"), Score: int(rapid.Int32().Draw(t, "score")),
				Why: short(rapid.String().Draw(t, "why")), Adverts: rapid.Bool().Draw(t, "adverts"),
				Yields: rapid.Bool().Draw(t, "yields"), YieldsHigher: rapid.Bool().Draw(t, "higher"),
			})
		}
		var heard []Heard
		for i := range rapid.IntRange(0, maxHeard).Draw(t, "heard") {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			if i%2 == 0 {
				a = netip.AddrFrom16(a.As16())
			}
			heard = append(heard, Heard{fsm.MemberID(fmt.Sprint("m", i)), a, time.Duration(i) * time.Millisecond})
		}
		seq := rapid.Uint64().Draw(t, "seq")
		var got Standing
		for i, body := range standingBodies(seq, s, heard) {
			p, err := parseStanding(body)
			if err != nil || p.seq != seq || p.first != (i == 0) || len(body) > maxBody {
				t.Fatalf("part %d: %+v, %v", i, p, err)
			}
			if i == 0 && !reflect.DeepEqual(p.heard, heard) && len(heard) > 0 {
				t.Fatalf("heard %v, read %v", heard, p.heard)
			}
			got.Behind, got.Syncing = p.behind, p.syncing
			got.Units = append(got.Units, p.units...)
		}
		if !reflect.DeepEqual(got, s) {
			t.Fatalf("wrote %+v\nread  %+v", s, got)
		}
	})
}

// An older standing counts nothing, but its parts may come in any order.
func TestToldTakesTheLatest(t *testing.T) {
	var k told
	unit := func(score int) []UnitStanding { return []UnitStanding{{Unit: 1, Score: score}} }
	k.accept(10, 100, Nonce{1}, standingPart{seq: 2, units: unit(2)})
	k.accept(11, 100, Nonce{1}, standingPart{seq: 2, first: true, heard: []Heard{{Member: "m3"}}})
	k.accept(12, 100, Nonce{1}, standingPart{seq: 1, first: true, units: unit(1), behind: true})
	if k.units[1].Score != 2 || k.behind || len(k.heard) != 1 || k.at != 11 {
		t.Errorf("after an old one: %+v", k)
	}
	k.accept(13, 100, Nonce{2}, standingPart{seq: 1, units: unit(3)})
	if k.units[1].Score != 3 || len(k.heard) != 0 {
		t.Errorf("after a new start of the sender: %+v", k)
	}
	for i := range 3 * maxUnits {
		k.accept(14, 100, Nonce{2}, standingPart{seq: 2, units: []UnitStanding{{Unit: uint64(i)}}})
	}
	if len(k.units) != maxUnits {
		t.Errorf("%d units are kept of one member", len(k.units))
	}
}

// FuzzParseStanding: nothing panics, and what is read is written back byte by byte.
func FuzzParseStanding(f *testing.F) {
	for _, b := range standingBodies(7, Standing{Behind: true, Units: []UnitStanding{{Unit: 1, Ready: true, Score: -5, Why: "a"}, {Unit: 300, Score: 5, Why: "ü"}}}, []Heard{{"m2", vip1, 5}, {"m3", vip3, 0}}) {
		f.Add(b)
	}
	f.Add([]byte{0, 1})
	f.Add([]byte{2, 1, 41})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseStanding(b)
		if err != nil || !p.first || len(b) > maxBody {
			return
		}
		again := standingBodies(p.seq, Standing{Units: p.units, Behind: p.behind, Syncing: p.syncing}, p.heard)
		if len(again) != 1 || string(again[0]) != string(b) {
			t.Errorf("read %x, wrote %x", b, again)
		}
	})
}
