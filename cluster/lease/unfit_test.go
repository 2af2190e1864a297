package lease

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// What is wrong with one router bars this member from that one alone.
func TestARouterThatIsUnfitHere(t *testing.T) {
	p, err := Profile("default")
	if err != nil {
		t.Fatal(err)
	}
	h := NewHolder("m1", NewNonce(), p, rand.New(rand.NewPCG(1, 2)))
	h.Step(1, Fit{OK: true})
	a, b := netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.101")
	h.Step(2, Wanted{Routers: []Router{{ID: 1, Addrs: []netip.Addr{a}, Unfit: "the link of eth0 is down"}, {ID: 2, Addrs: []netip.Addr{b}}}})
	for id, want := range map[uint64]string{1: "not fit for it: the link of eth0 is down", 2: ""} {
		if got := h.barred(h.routers[id]); got != want {
			t.Errorf("router %d: %q, want %q", id, got, want)
		}
	}
	h.Step(3, Wanted{Routers: []Router{{ID: 1, Addrs: []netip.Addr{a}}, {ID: 2, Addrs: []netip.Addr{b}}}})
	if got := h.barred(h.routers[1]); got != "" {
		t.Errorf("well again, but %q", got)
	}
}
