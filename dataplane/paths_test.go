package dataplane

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// dsrTable is pairTable with a check of each server through the VIP. We are m1.
func dsrTable(rev fsm.Revision) *fsm.Table {
	t := pairTable(rev)
	t.Members = []fsm.Member{{ID: "m1", Role: fsm.Director, State: fsm.Present, Addr: netip.MustParseAddrPort("172.25.88.11:7000")}}
	for i := range t.Services[0].RealServers {
		t.Services[0].RealServers[i].Checks = []fsm.Check{{Kind: fsm.CheckTCP, DSR: true, Dest: netip.MustParseAddrPort(vipAddr + ":80")}}
	}
	return t
}

// Each server has a hidden service, of which status says nothing; the sysctl is set and
// put back; a second pass has nothing to do, and without checks all of it goes.
func TestPathsStand(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const accept = "net.ipv4.conf.all.accept_local"
		w.host.sysctls[accept] = "0"
		w.cfg.Self = "m1"
		w.run()
		server, to := netip.MustParseAddr("172.25.88.2"), netip.MustParseAddrPort(vipAddr+":80")
		if _, _, ok := w.plane.Path(server, to); ok {
			t.Error("a path stands before there is a table")
		}
		w.plane.Update(dsrTable(1))
		settle()
		mark, from, ok := w.plane.Path(server, to)
		if !ok || !isPathMark(mark) || from.String() != "172.25.88.11" {
			t.Errorf("path: mark %#x from %s, %v", mark, from, ok)
		}
		if want := fmt.Sprintf("-A -f %d -s rr\n-a -f %[1]d -r 172.25.88.2:0 -g -w 1\n", mark); !strings.Contains(w.ipvs.String(), want) {
			t.Errorf("IPVS is\n%swant in it\n%s", w.ipvs.String(), want)
		}
		if w.host.sysctls[accept] != "1" {
			t.Errorf("accept_local is %s", w.host.sysctls[accept])
		}
		if _, _, ok := w.plane.Path(netip.MustParseAddr("172.25.88.9"), to); ok {
			t.Error("there is a path to a server that nobody has")
		}
		if s := w.plane.Status(); len(s.Services) != 1 || len(s.ForeignServices) != 0 {
			t.Errorf("status shows %v and %v", s.Services, s.ForeignServices)
		}
		w.ipvs.Done()
		w.plane.Update(dsrTable(2))
		settle()
		if ops := w.ipvs.Done(); len(ops) != 0 {
			t.Errorf("a second pass did %v", ops)
		}
		w.plane.Update(pairTable(3))
		settle()
		w.wantIPVS(pairRules)
		if w.host.sysctls[accept] != "0" {
			t.Error("accept_local is not what it was")
		}
		if _, _, ok := w.plane.Path(server, to); ok {
			t.Error("a path that is wanted no more")
		}
	})
}

// A director that is the real server has no way to itself, and one that drops what it
// would be answered has none through a VIP of its lo.
func TestNoPath(t *testing.T) {
	for _, filter := range []string{"0", "1", "2"} {
		inBubble(t, func(t *testing.T, w *world) {
			w.host.sysctls["net.ipv4.conf.all.accept_local"] = "0"
			w.host.sysctls[strictFilter] = filter
			w.cfg.Self = "m1"
			w.run()
			table := dsrTable(1)
			table.Services[0].RealServers[0].Addr = netip.MustParseAddr("172.25.88.11")
			w.plane.Update(table)
			settle()
			to := netip.MustParseAddrPort(vipAddr + ":80")
			if _, _, ok := w.plane.Path(netip.MustParseAddr("172.25.88.11"), to); ok {
				t.Error("there is a path from this host to itself")
			}
			if _, _, ok := w.plane.Path(netip.MustParseAddr("172.25.88.3"), to); ok != (filter != "1") {
				t.Errorf("rp_filter %s: the path to another server stands: %v", filter, ok)
			}
		})
	}
}

func TestClearTakesPathsAway(t *testing.T) {
	for _, end := range []string{"clear", "release"} {
		inBubble(t, func(t *testing.T, w *world) {
			const accept = "net.ipv4.conf.all.accept_local"
			w.host.sysctls[accept] = "0"
			w.cfg.Self = "m1"
			w.run()
			w.plane.Update(dsrTable(1))
			settle()
			w.halt()
			var err error
			want := ""
			if end == "clear" {
				err = Clear(w.state, w.ipvs, w.host, nil, nil)
			} else {
				want = pairRules
				_, err = Release(w.state, w.ipvs, w.host, nil)
			}
			if err != nil {
				t.Error(err)
			}
			w.wantIPVS(want)
			if w.host.sysctls[accept] != "0" {
				t.Errorf("%s: accept_local is still %s", end, w.host.sysctls[accept])
			}
		})
	}
}

// Whatever the paths, each has a mark of its own in the range, and one service.
func TestPathMarks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := map[asked]path{}
		for _, n := range rapid.SliceOfN(rapid.Uint16(), 0, 300).Draw(t, "servers") {
			a := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
			m := rapid.SampledFrom([]ipvs.Method{ipvs.DirectRouting, ipvs.Tunnel}).Draw(t, "method")
			all[asked{a, netip.AddrPortFrom(a, uint16(m))}] = path{a, m}
		}
		marks, seen := markPaths(all), map[uint32]bool{}
		for _, way := range all {
			mark, ok := marks[way]
			if !ok || !hidden(ipvs.Key{Mark: mark}) || mark>>16 != fsm.ReservedMarks {
				t.Fatalf("%v has mark %#x", way, mark)
			}
			seen[mark] = true
		}
		if len(seen) != len(marks) || len(pathServices(marks)) != len(marks) {
			t.Fatalf("%d marks for %d paths", len(seen), len(marks))
		}
	})
}
