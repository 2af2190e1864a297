package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"lbcluster/dataplane/fwmark"
	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

func withHolds(w *world) *fakeMarks {
	m := &fakeMarks{diary: w.diary}
	w.cfg.Holds = m
	return m
}

// wantHeld fails the test unless that is what is held back.
func (w *world) wantHeld(m *fakeMarks, what string, want ...string) {
	w.t.Helper()
	settle()
	m.mu.Lock()
	defer m.mu.Unlock()
	got := []string{}
	for _, r := range m.rules {
		got = append(got, fmt.Sprintf("%s %d/%d-%d", r.To, r.Protocol, r.FromPort, r.ToPort))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: held are %v, want %v", what, got, want)
	}
}

const heldPair = "172.25.88.100/32 6/80-80"

// stayRule is the service that IPVS stays for, in ipvsadm's terms.
const stayRule = "-A -f 1818361858 -s rr\n"

func TestStays(t *testing.T) {
	rule := func(to string) fwmark.Rule { return fwmark.Rule{To: netip.MustParsePrefix(to)} }
	four, six := rule("172.25.88.100/32"), rule("2001:db8::100/128")
	for _, c := range []struct {
		held []fwmark.Rule
		want string
	}{
		{nil, ""},
		{[]fwmark.Rule{four, four}, stayRule},
		{[]fwmark.Rule{six}, "-A -f 1818361858 -6 -s rr\n"},
		{[]fwmark.Rule{six, four}, stayRule + "-A -f 1818361858 -6 -s rr\n"},
	} {
		if got := ipvs.Rules(stays(c.held)); got != c.want {
			t.Errorf("for %v: %q, want %q", c.held, got, c.want)
		}
	}
}

// What nobody else has had his hands on is not held; what somebody removed is, from
// then on, over a restart too, until it leaves the table.
func TestRemovedServicesAreHeld(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := withHolds(w)
		w.run()
		w.plane.Update(pairTable(5))
		time.Sleep(3 * driftEvery)
		w.wantHeld(m, "all is ours")
		if m.asked != 0 {
			t.Error("the kernel was asked for rules that nobody wants")
		}
		services, _ := w.ipvs.List()
		must(t, w.ipvs.Do(ipvs.Op{Verb: ipvs.RemoveService, Service: services[0]}))
		time.Sleep(2 * glanceEvery)
		w.wantHeld(m, "removed by somebody", heldPair)
		w.halt()
		m.set(func() { m.rules = nil })
		w.run()
		w.plane.Update(pairTable(6))
		w.wantHeld(m, "after a restart", heldPair)
		gone := pairTable(7)
		gone.Services = nil
		w.plane.Update(gone)
		w.wantHeld(m, "not in the table")
		asked := m.asked
		time.Sleep(3 * driftEvery)
		if m.asked != asked {
			t.Error("the kernel is asked on for rules that nobody wants")
		}
	})
}

// What stood before we came is held: whoever made it may remove it.
func TestAdoptedServicesAreHeld(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := withHolds(w)
		must(t, w.ipvs.Set(pairRules))
		w.run()
		w.plane.Update(pairTable(5))
		w.wantHeld(m, "adopted", heldPair)
		w.wantIPVS(pairRules + stayRule)
		// All others go: the hidden one was there all the time.
		services, _ := w.ipvs.List()
		for _, s := range services {
			if !hidden(s.Key) {
				must(t, w.ipvs.Do(ipvs.Op{Verb: ipvs.RemoveService, Service: s}))
			}
		}
		time.Sleep(2 * glanceEvery)
		w.wantIPVS(pairRules + stayRule)
		if s := w.plane.Status(); s.DriftRepaired != 3 || len(s.Services) != 1 || len(s.ForeignServices) != 0 {
			t.Errorf("status: %+v", s)
		}
		w.halt()
		must(t, Clear(w.state, w.ipvs, newClearHost(), nil, m))
		w.wantHeld(m, "cleared")
		w.wantIPVS("")
	})
}

// keepalived, which comes next, must not find its clients held back.
func TestReleaseHoldsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := withHolds(w)
		must(t, w.ipvs.Set(pairRules))
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.halt()
		_, err := Release(w.state, w.ipvs, newClearHost(), m)
		must(t, err)
		w.wantHeld(m, "released")
		w.wantIPVS(pairRules)
	})
}

// Only what is for a VIP of a router, and not for a server on this host, is held.
func TestHolds(t *testing.T) {
	tab := pairTable(5)
	elsewhere := tab.Services[0]
	elsewhere.Addr = netip.MustParseAddr("10.9.9.9")
	marked := fsm.VirtualServer{ServiceKey: fsm.ServiceKey{Mark: 7}, Scheduler: "rr", Method: fsm.DirectRouting}
	tab.Services = append(tab.Services, elsewhere, marked)
	want := Want(tab)
	shared := []string{}
	for _, s := range want {
		shared = append(shared, s.Key.String())
	}
	vip := netip.MustParseAddr(vipAddr)
	if got := Holds(tab, want, shared, nil); len(got) != 1 || got[0] != (fwmark.Rule{To: netip.PrefixFrom(vip, 32), Protocol: 6, FromPort: 80, ToPort: 80}) {
		t.Errorf("held: %v", got)
	}
	if got := Holds(tab, want, nil, nil); len(got) != 0 {
		t.Errorf("held though nobody else touched them: %v", got)
	}
	if got := Holds(tab, want, shared, []local{{vip: vip}}); len(got) != 0 {
		t.Errorf("held though this host serves it: %v", got)
	}
	none := slices.Clone(want)
	for i := range none {
		none[i].Dests = []ipvs.Dest{{Method: ipvs.DirectRouting}} // of weight 0
	}
	if got := Holds(tab, none, shared, nil); len(got) != 0 {
		t.Errorf("held though no real server takes connections: %v", got)
	}
}
