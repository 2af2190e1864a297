package lease

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

func TestCookies(t *testing.T) {
	c := newCookies()
	a := identity{"m1", Nonce{1}}
	first := c.of(a)
	if first == 0 || c.of(a) != first || !c.good(a, first) || c.good(a, first+1) || c.good(a, 0) {
		t.Fatal("a process has one cookie")
	}
	if other := newCookies(); other.of(a) == first {
		t.Error("another voter has the same cookie")
	}
	if c.good(identity{"m2", a.boot}, first) || c.good(identity{"m1", Nonce{2}}, first) {
		t.Error("another process's Ask is taken")
	}
	// Replayed probes of old processes do not cost the one in use its cookie, and
	// an old process's cookie never comes back.
	old := identity{"m1", Nonce{99}}
	was := c.of(old)
	for i := range 10 {
		c.of(identity{"m1", Nonce{50, byte(i)}})
		if i < maxCookies-2 && !c.good(a, first) {
			t.Fatalf("lost after %d others", i)
		}
	}
	if c.good(old, was) || c.of(old) == was {
		t.Error("an old process's cookie is good again")
	}
	if n := len(c.byMember["m1"]); n > maxCookies {
		t.Errorf("%d cookies of one member are kept", n)
	}
}

// The index of addresses says what a walk through all promises would.
func TestClaimIndex(t *testing.T) {
	p := profile(t, "default")
	rapid.Check(t, func(t *rapid.T) {
		v := NewVoter("m1", Nonce{1}, p, 0, true)
		now, seq := int64(0), uint64(0)
		for range 40 {
			now += rapid.Int64Range(0, 5e8).Draw(t, "time")
			seq++
			m := Message{
				Kind: rapid.SampledFrom([]Kind{Ask, Ask, Release}).Draw(t, "kind"), Router: rapid.Uint64Range(1, 4).Draw(t, "router"),
				From: rapid.SampledFrom([]fsm.MemberID{"m2", "m3"}).Draw(t, "from"), Boot: Nonce{2}, Seq: seq, TTL: 8e8,
			}
			for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(1, 5), 1, 3, rapid.ID).Draw(t, "addresses") {
				m.Addrs = append(m.Addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
			}
			who := identity{m.From, m.Boot}
			m.Cookie = v.cookies.of(who)
			wantLeft := int64(0)
			for id, s := range v.seats {
				for _, c := range s.addrs {
					if id != m.Router && now < s.until && s.to != who && len(both(m.Addrs, []netip.Addr{c.addr})) > 0 {
						wantLeft = max(wantLeft, c.until-now)
					}
				}
			}
			if _, left := v.claimed(now, who, m); left != wantLeft {
				t.Fatalf("claimed for %d, want %d", left, wantLeft)
			}
			v.Step(now, m)
			if rapid.IntRange(0, 9).Draw(t, "prune") == 0 {
				v.prune(now)
			}
		}
		for a, ids := range v.named {
			for _, id := range ids {
				if v.seats[id] == nil || v.seats[id].claimed(a) == never {
					t.Fatalf("%v is indexed for router %d, which does not name it", a, id)
				}
			}
		}
	})
}
