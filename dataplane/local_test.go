package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// boxesTable is pairTable with its two real servers as the directors' own
// addresses, and the members that are known so far. We are m1, 172.25.88.11.
func boxesTable(rev fsm.Revision) *fsm.Table {
	t := pairTable(rev)
	rs := t.Services[0].RealServers
	rs[0].Addr, rs[1].Addr = netip.MustParseAddr("172.25.88.11"), netip.MustParseAddr("172.25.88.12")
	for i, addr := range []string{"10.0.0.11:7000", "10.0.0.12:7000", "10.0.0.13:7000"} {
		t.Members = append(t.Members, fsm.Member{ID: fsm.MemberID(fmt.Sprintf("m%d", i+1)), Role: fsm.Director, State: fsm.Present, Addr: netip.MustParseAddrPort(addr)})
	}
	t.Members[1].Networks = []fsm.Network{
		{Prefix: netip.MustParsePrefix("172.25.88.12/24"), MAC: "02:00:00:00:00:12"},
		{Prefix: netip.MustParsePrefix("10.0.0.12/24"), MAC: "02:00:00:00:00:99"},
		{Prefix: netip.MustParsePrefix("192.0.2.1/24")},
	}
	return t
}

const (
	boxesRules = `-A -t 172.25.88.100:80 -s rr
-a -t 172.25.88.100:80 -r 172.25.88.11:80 -g -w 1
-a -t 172.25.88.100:80 -r 172.25.88.12:80 -g -w 1
`
	markRules = `-A -f 1818361857 -s rr
-a -f 1818361857 -r 172.25.88.11:0 -g -w 1
`
)

func addrs(list ...string) map[netip.Addr]bool {
	m := map[netip.Addr]bool{}
	for _, a := range list {
		m[netip.MustParseAddr(a)] = true
	}
	return m
}

func TestLocals(t *testing.T) {
	both := boxesTable(1)
	both.Services = append(both.Services, both.Services[0], both.Services[0])
	both.Services[1].Port = 443
	both.Services[2].Addr = netip.MustParseAddr("192.0.2.80") // in no router: routed to us, not guarded
	six := boxesTable(1)
	six.Routers[0].Addresses = append(six.Routers[0].Addresses, fsm.Address{Prefix: netip.MustParsePrefix("2001:db8::100/128")})
	six.Services = append(six.Services, fsm.VirtualServer{
		Method:      fsm.DirectRouting,
		ServiceKey:  fsm.ServiceKey{Addr: netip.MustParseAddr("2001:db8::100"), Port: 80, Protocol: fsm.TCP},
		RealServers: []fsm.RealServer{{Addr: netip.MustParseAddr("2001:db8::11"), Port: 80}},
	})
	nat := boxesTable(1)
	nat.Services[0].Method = fsm.Masquerade
	marked := boxesTable(1)
	marked.Services[0].ServiceKey = fsm.ServiceKey{Mark: 7}
	marked.Services[0].Matches = []fsm.Match{
		{Addr: vipPrefix("/32"), Protocol: fsm.TCP}, {Addr: vipPrefix("/32"), Protocol: fsm.UDP}, {Addr: netip.MustParsePrefix("192.0.2.80/32"), Protocol: fsm.TCP},
	}
	for _, c := range []struct {
		name string
		t    *fsm.Table
		own  map[netip.Addr]bool
		want string
		mark string
	}{
		{"a real server", both, addrs("172.25.88.11"), "172.25.88.100 at 172.25.88.11;", markRules},
		{"a real server by NAT, which has its own address", nat, addrs("172.25.88.11"), "", ""},
		{"a real server of a mark that means the VIP", marked, addrs("172.25.88.11"), "172.25.88.100 at 172.25.88.11;", markRules},
		{"no real server", both, addrs("172.25.88.13"), "", ""},
		{"both families", six, addrs("172.25.88.11", "2001:db8::11"), "172.25.88.100 at 172.25.88.11;2001:db8::100 at 2001:db8::11;",
			markRules + "-A -f 1818361857 -6 -s rr\n-a -f 1818361857 -6 -r [2001:db8::11]:0 -g -w 1\n"},
	} {
		ls := locals(c.t, c.own)
		got := ""
		for _, l := range ls {
			got += fmt.Sprintf("%s at %s;", l.vip, l.server)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if got := ipvs.Rules(markServices(ls)); got != c.mark {
			t.Errorf("%s: hidden services\n%swant\n%s", c.name, got, c.mark)
		}
	}
}

func TestOwnAddrs(t *testing.T) {
	tab := boxesTable(1)
	s := newFakeHost(&diary{}).snap
	s.Addrs = append(s.Addrs, vip.Addr{Index: 2, Prefix: vipPrefix("/32")}, vip.Addr{Index: 1, Prefix: netip.MustParsePrefix("172.25.88.55/32")})
	tab.Members[0].Networks = []fsm.Network{{Prefix: netip.MustParsePrefix("192.0.2.11/24")}}
	want := addrs("10.0.0.11", "172.25.88.11", "192.0.2.11")
	if got := ownAddrs(tab, "m1", s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := ownAddrs(tab, "m9", s); len(got) != 0 {
		t.Errorf("a stranger has %v", got)
	}
	if got := fmt.Sprint(memberMACs(tab, "m1")); got != "[02:00:00:00:00:12 02:00:00:00:00:99]" {
		t.Errorf("the others' MACs: %s", got)
	}
	if got := memberMACs(tab, "m2"); len(got) != 0 {
		t.Errorf("our own counts: %v", got)
	}
}

func TestPlanLoopback(t *testing.T) {
	h := newFakeHost(&diary{})
	p100, p101 := vipPrefix("/32"), netip.MustParsePrefix("172.25.88.101/32")
	want := []local{{p100.Addr(), netip.MustParseAddr("172.25.88.11")}}
	on := func(prefixes ...string) vip.Snapshot {
		s := h.snap
		s.Addrs = slices.Clone(s.Addrs)
		for _, p := range prefixes {
			s.Addrs = append(s.Addrs, vip.Addr{Index: 1, Prefix: netip.MustParsePrefix(p)})
		}
		return s
	}
	owner := on()
	owner.Addrs = append(owner.Addrs, vip.Addr{Index: 2, Prefix: p100})
	for _, c := range []struct {
		name      string
		want      []local
		ours      []netip.Prefix
		host      vip.Snapshot
		gateLocal map[netip.Addr]bool
		plan      string
	}{
		{"nothing", nil, nil, on(), nil, "[] []"},
		{"missing", want, nil, on(), nil, "[172.25.88.100/32] []"},
		{"the owner's on eth0 does not count", want, nil, owner, nil, "[172.25.88.100/32] []"},
		{"there", want, []netip.Prefix{p100}, on("172.25.88.100/32"), nil, "[] []"},
		{"somebody else's", want, nil, on("172.25.88.100/32"), nil, "[] []"},
		{"somebody else's, of another length", want, nil, on("172.25.88.100/24"), nil, "[] []"},
		{"wanted no more", nil, []netip.Prefix{p100}, on("172.25.88.100/32"), nil, "[] [172.25.88.100/32]"},
		{"wanted no more, the gate still lets packets in", nil, []netip.Prefix{p100}, on("172.25.88.100/32"), addrs(vipAddr), "[] []"},
		{"not ours", nil, nil, on("172.25.88.100/32"), nil, "[] []"},
		{"one for another", want, []netip.Prefix{p101}, on("172.25.88.101/32"), addrs(vipAddr), "[172.25.88.100/32] [172.25.88.101/32]"},
	} {
		add, remove := planLoopback(c.want, c.ours, c.host, c.gateLocal)
		if got := fmt.Sprint(add, remove); got != c.plan {
			t.Errorf("%s: %s, want %s", c.name, got, c.plan)
		}
	}
}

// boxes makes the world a director that is m1 of boxesTable.
func boxes(w *world) { w.cfg.Self = "m1" }

// The order: nothing on lo before the kernel is silent about it and the gate has
// its key, no packet let in before there is somebody to take it.
func TestADirectorThatIsARealServer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		boxes(w)
		w.run()
		w.plane.Update(boxesTable(5))
		settleLo()
		w.wantIPVS(boxesRules + markRules)
		lines := w.diary.take()
		at := func(line string) int {
			i := slices.Index(lines, line)
			if i < 0 {
				t.Errorf("never: %s", line)
			}
			return i
		}
		ignore, add, local := at("sysctl net.ipv4.conf.all.arp_ignore=1"), at("ip addr add 172.25.88.100/32 dev lo"), at("gate [172.25.88.100 local]")
		if !(at("gate members [02:00:00:00:00:12 02:00:00:00:00:99]") < at("gate [172.25.88.100]") && at("gate [172.25.88.100]") < add &&
			ignore < add && at("sysctl net.ipv4.conf.all.arp_announce=2") < add && add < local) {
			t.Errorf("in the wrong order:\n%s", strings.Join(lines, "\n"))
		}
		s := w.plane.Status()
		if len(s.Locals) != 1 || s.Locals[0] != (LocalStatus{VIP: netip.MustParseAddr(vipAddr), Server: netip.MustParseAddr("172.25.88.11"), Loopback: true, Ours: true, Open: true}) {
			t.Errorf("status %+v", s.Locals)
		}
		if len(s.ForeignVIPs) != 0 || len(s.ForeignServices) != 0 || len(s.Services) != 1 {
			t.Errorf("shown: %+v %+v %+v", s.ForeignVIPs, s.ForeignServices, s.Services)
		}

		// Owning and losing the VIP leaves lo alone.
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		<-w.plane.Lost(1, "")
		w.wantDiary("ip addr add 172.25.88.100/32 dev eth0", "vrrp acquired 1", "garp 172.25.88.100 dev eth0",
			"ip addr del 172.25.88.100/32 dev eth0", "vrrp lost 1 zero=false")

		// A restart, too.
		w.halt()
		w.run()
		w.plane.Update(boxesTable(5))
		settleLo()
		w.wantIPVS(boxesRules + markRules)
		for _, l := range w.diary.take() {
			if strings.Contains(l, "ip addr") || strings.Contains(l, "sysctl") {
				t.Errorf("the restart does %q", l)
			}
		}

		// The server leaves: first the gate, then the hidden service and the address.
		w.plane.Update(pairTable(6))
		settleLo()
		w.wantIPVS(pairRules)
		lines = w.diary.take()
		if !(at("gate [172.25.88.100]") < at("ip addr del 172.25.88.100/32 dev lo") && at("ip addr del 172.25.88.100/32 dev lo") < at("sysctl net.ipv4.conf.all.arp_ignore=0")) {
			t.Errorf("in the wrong order:\n%s", strings.Join(lines, "\n"))
		}
		at("sysctl net.ipv4.conf.all.arp_announce=0")
		if r := w.plane.record.get(); len(r.Loopback) != 0 || len(r.Sysctls) != 0 || len(w.plane.Status().Locals) != 0 {
			t.Errorf("still in the record: %+v", r)
		}
	})
}

// What an operator put on lo is as good, and stays theirs.
func TestSomebodyElsesLoopback(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		boxes(w)
		w.host.put("lo", vipAddr+"/32")
		w.host.sysctls["net.ipv4.conf.all.arp_ignore"] = "2"
		w.run()
		w.plane.Update(boxesTable(5))
		settleLo()
		s := w.plane.Status()
		if len(s.Locals) != 1 || !s.Locals[0].Loopback || s.Locals[0].Ours || !s.Locals[0].Open || len(s.ForeignVIPs) != 0 {
			t.Errorf("status %+v, foreign %+v", s.Locals, s.ForeignVIPs)
		}
		w.plane.Update(pairTable(6))
		settleLo()
		if !w.host.has("lo", vipAddr+"/32") || w.host.sysctls["net.ipv4.conf.all.arp_ignore"] != "2" {
			t.Error("we took away what we never put")
		}
		if f := w.plane.Status().ForeignVIPs; len(f) != 1 {
			t.Errorf("a VIP on lo of a host that is no real server: %+v", f)
		}
	})
}

func TestSomebodyRemovesTheLoopbackVIP(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		boxes(w)
		w.run()
		w.plane.Update(boxesTable(5))
		settleLo()
		w.diary.take()
		w.host.take("lo", vipAddr+"/32")
		settleLo()
		if !w.host.has("lo", vipAddr+"/32") || !w.plane.Status().Locals[0].Open {
			t.Errorf("not put back: %v, %+v", w.diary.take(), w.plane.Status().Locals)
		}
	})
}

// Without arp_ignore the VIP stays off lo, and the gate closed: status says why.
func TestNoSysctlNoLoopback(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		boxes(w)
		w.host.failWith(func(what string) error {
			if what == "sysctl" {
				return errors.New("read-only file system")
			}
			return nil
		})
		w.run()
		w.plane.Update(boxesTable(5))
		settleLo()
		time.Sleep(time.Minute)
		s := w.plane.Status()
		if w.host.has("lo", vipAddr+"/32") || len(s.Locals) != 1 || s.Locals[0].Open {
			t.Fatalf("status %+v", s.Locals)
		}
		want := "this director is a real server (172.25.88.11) of 172.25.88.100, but the VIP is not on lo: a real server needs net.ipv4.conf.all.arp_ignore=1: read-only file system"
		if s.Locals[0].Problem != want {
			t.Errorf("problem %q", s.Locals[0].Problem)
		}
		if ok, why := w.plane.Fit(); !ok {
			t.Errorf("it could still be the owner: %s", why)
		}
		w.host.failWith(nil)
		time.Sleep(2 * longestWait)
		if s = w.plane.Status(); !s.Locals[0].Open {
			t.Errorf("not mended: %+v", s.Locals)
		}
	})
}

// The hidden service: repaired without being counted as drift, and no packet is
// let in while it is not there.
func TestTheHiddenService(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		boxes(w)
		var refuse atomic.Bool
		refuse.Store(true)
		w.ipvs.Fail = func(op ipvs.Op) error {
			if refuse.Load() && op.Service.Mark != 0 {
				return errors.New("no memory")
			}
			return nil
		}
		w.run()
		w.plane.Update(boxesTable(5))
		settleLo()
		if s := w.plane.Status().Locals; len(s) != 1 || s[0].Open {
			t.Errorf("members' packets are let in to be balanced once more: %+v", s)
		}
		refuse.Store(false)
		time.Sleep(10 * time.Second)
		if s := w.plane.Status(); !s.Locals[0].Open {
			t.Errorf("not mended: %+v", s.Locals)
		}
		if err := w.ipvs.Set(boxesRules); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * driftEvery)
		w.wantIPVS(boxesRules + markRules)
		if n := w.plane.Status().DriftRepaired; n != 0 {
			t.Errorf("counted as drift: %d", n)
		}
		// Left by a process whose record is lost: known by its mark.
		w.halt()
		w.state += ".lost"
		w.cfg.StateFile = w.state
		w.run()
		w.plane.Update(pairTable(6))
		settleLo()
		w.wantIPVS(pairRules)
		synctest.Wait()
	})
}

// settleLo is settle with a second try of the loop that serves lo, whose first
// may come before the gate has been told its addresses.
func settleLo() {
	settle()
	time.Sleep(2 * firstRetry)
	synctest.Wait()
}
