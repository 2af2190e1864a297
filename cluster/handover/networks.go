package handover

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"lbcluster/fsm"
)

// Networks are those that hold the addresses of a table's units. Most units
// share one or two, so who is cut off is found out for each network, not for
// each unit.
type Networks struct {
	all []network
	of  map[uint64][]int // of all, by unit
}

// network says which members are on it, with their addresses there.
type network map[fsm.MemberID][]netip.Addr

// NetworksOf finds the networks of a table.
func NetworksOf(t *fsm.Table) *Networks {
	n := &Networks{of: map[uint64][]int{}}
	known := map[string]int{}
	for _, u := range t.Units() {
		for _, id := range u.Routers {
			r, _ := t.Router(id)
			for _, a := range r.Addresses {
				on, name := around(t, a.Prefix.Addr())
				i, ok := known[name]
				if !ok {
					i = len(n.all)
					n.all, known[name] = append(n.all, on), i
				}
				if !slices.Contains(n.of[u.ID], i) {
					n.of[u.ID] = append(n.of[u.ID], i)
				}
			}
		}
	}
	return n
}

// around is the network of an address, and a name that says who is on it.
func around(t *fsm.Table, a netip.Addr) (on network, name string) {
	on = network{}
	var b strings.Builder
	for _, m := range t.Members {
		for _, n := range m.Networks {
			if !n.Prefix.IsSingleIP() && n.Prefix.Contains(a) {
				on[m.ID] = append(on[m.ID], n.Prefix.Addr())
				b.WriteString(string(m.ID) + " " + n.Prefix.Addr().String() + "\n")
			}
		}
	}
	return on, b.String()
}

// Lost says for each unit which members have lost one of its networks: at least
// two others are on it and hear each other there, none of those that tell hears
// the member there, and it hears none of them, or tells nothing. Hears returns
// the member addresses that a member heard lately; false: it does not tell.
func (n *Networks) Lost(hears func(fsm.MemberID) ([]netip.Addr, bool)) map[uint64]map[fsm.MemberID]bool {
	lost := make([]map[fsm.MemberID]bool, len(n.all))
	for i, on := range n.all {
		lost[i] = on.lost(hears)
	}
	out := map[uint64]map[fsm.MemberID]bool{}
	for unit, nets := range n.of {
		for _, i := range nets {
			switch {
			case len(lost[i]) == 0:
			case out[unit] == nil:
				out[unit] = lost[i]
			default:
				both := maps.Clone(out[unit])
				maps.Copy(both, lost[i])
				out[unit] = both
			}
		}
	}
	return out
}

// lost are the members that are cut off from the network; nil: none.
func (on network) lost(hears func(fsm.MemberID) ([]netip.Addr, bool)) (out map[fsm.MemberID]bool) {
	links := 0                     // pairs that hear each other
	with := map[fsm.MemberID]int{} // pairs with this member, one of which hears the other
	heard := map[fsm.MemberID][]netip.Addr{}
	for id := range on {
		if h, tells := hears(id); tells {
			heard[id] = h
		}
	}
	ids := slices.SortedFunc(maps.Keys(on), cmp.Compare)
	for i, a := range ids {
		for _, b := range ids[i+1:] {
			ab, ba := overlap(heard[a], on[b]), overlap(heard[b], on[a])
			if ab || ba {
				with[a]++
				with[b]++
			}
			if ab && ba {
				links++
			}
		}
	}
	if links == 0 {
		return nil
	}
	for _, id := range ids {
		if with[id] == 0 {
			if out == nil {
				out = map[fsm.MemberID]bool{}
			}
			out[id] = true
		}
	}
	return out
}

func overlap(a, b []netip.Addr) bool {
	return slices.ContainsFunc(a, func(x netip.Addr) bool { return slices.Contains(b, x) })
}
