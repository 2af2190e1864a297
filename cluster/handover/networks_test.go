package handover

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// cutOff is the definition, word by word, for one member on one network.
func cutOff(id fsm.MemberID, on network, hears func(fsm.MemberID) ([]netip.Addr, bool)) bool {
	hear := func(a, b fsm.MemberID) bool { h, ok := hears(a); return ok && overlap(h, on[b]) }
	others := false
	for a := range on {
		for b := range on {
			switch {
			case a == b:
			case (a == id || b == id) && hear(a, b):
				return false
			case a != id && b != id:
				others = others || hear(a, b) && hear(b, a)
			}
		}
	}
	return others && len(on[id]) > 0
}

// Whatever is heard, the members that lost a network are those of the definition,
// and a unit on two networks counts both.
func TestLostIsWhatTheDefinitionSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := &fsm.Table{}
		hears := map[fsm.MemberID][]netip.Addr{}
		var all []netip.Addr
		for i := range rapid.IntRange(1, 5).Draw(t, "members") {
			m := fsm.Member{ID: fsm.MemberID(fmt.Sprintf("m%d", i+1))}
			for net := range 2 {
				if rapid.Bool().Draw(t, "on") {
					a := netip.AddrFrom4([4]byte{10, 0, byte(net), byte(i + 1)})
					m.Networks, all = append(m.Networks, fsm.Network{Prefix: netip.PrefixFrom(a, 24)}), append(all, a)
				}
			}
			table.Members = append(table.Members, m)
		}
		for _, m := range table.Members {
			if len(all) > 0 && rapid.Bool().Draw(t, "tells") {
				hears[m.ID] = rapid.SliceOf(rapid.SampledFrom(all)).Draw(t, "hears")
			}
		}
		vip := func(net byte) fsm.Address {
			return fsm.Address{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, net, 100}), 32)}
		}
		table.Routers = []fsm.Router{
			{ID: 1, Name: "A", Addresses: []fsm.Address{vip(0)}}, {ID: 2, Name: "B", Addresses: []fsm.Address{vip(1), vip(1)}},
			{ID: 3, Name: "C", Addresses: []fsm.Address{vip(0), vip(1)}}, {ID: 4, Name: "D", Addresses: []fsm.Address{vip(9)}},
		}
		tells := func(id fsm.MemberID) ([]netip.Addr, bool) { h, ok := hears[id]; return h, ok }
		nets := NetworksOf(table)
		lost := nets.Lost(tells)
		for _, r := range table.Routers {
			for _, m := range table.Members {
				want := slices.ContainsFunc(r.Addresses, func(a fsm.Address) bool {
					on, _ := around(table, a.Prefix.Addr())
					return cutOff(m.ID, on, tells)
				})
				if got := lost[r.ID][m.ID]; got != want {
					t.Fatalf("%s has lost a network of %s: %v, want %v", m.ID, r.Name, got, want)
				}
			}
		}
		if len(nets.all) > 3 {
			t.Fatalf("%d networks, of which two are known and one is nobody's", len(nets.all))
		}
	})
}
