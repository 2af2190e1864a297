package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"

	"pgregory.net/rapid"
)

// with is t with its services changed, one revision later.
func with(t *fsm.Table, change func(*fsm.Table)) *fsm.Table {
	n := *t
	n.Revision++
	n.Services = slices.Clone(t.Services)
	for i := range n.Services {
		n.Services[i].RealServers = slices.Clone(n.Services[i].RealServers)
	}
	change(&n)
	return &n
}

// Another weight, another server: one look at one service, and no list of all.
func TestASmallChangeListsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		tab := pairTable(5)
		w.plane.Update(tab)
		settle()
		w.ipvs.Done()
		lists := w.ipvs.Lists()
		for _, step := range []struct {
			change func(*fsm.Table)
			ops    int
		}{
			{func(t *fsm.Table) { t.Services[0].RealServers[0].Weight = 7 }, 1},
			{func(t *fsm.Table) {
				t.Services[0].RealServers = append(t.Services[0].RealServers, fsm.RealServer{Addr: netip.MustParseAddr("172.25.88.4"), Port: 80, Weight: 2})
			}, 1},
			{func(t *fsm.Table) { t.Services[0].RealServers = t.Services[0].RealServers[1:] }, 1},
			{func(*fsm.Table) {}, 0}, // a vote, say
		} {
			tab = with(tab, step.change)
			w.plane.Update(tab)
			settle()
			w.wantIPVS(ipvs.Rules(Want(tab)))
			if ops := w.ipvs.Done(); len(ops) != step.ops {
				t.Errorf("%v instead of %d operations", ops, step.ops)
			}
			s := w.plane.Status()
			if s.Applied != tab.Revision || len(s.Services[0].Dests) != len(tab.Services[0].RealServers) {
				t.Errorf("the status says %+v", s)
			}
		}
		if n := w.ipvs.Lists(); n != lists {
			t.Errorf("%d lists of the whole table", n-lists)
		}
		looks := 0
		w.ipvs.OnDests = func(ipvs.Key) { looks++ }
		time.Sleep(driftEvery)
		settle()
		if ops := w.ipvs.Done(); len(ops) != 0 || looks == 0 || w.ipvs.Lists() != lists {
			t.Errorf("the next look for drift: %d services read, %d lists, %v", looks, w.ipvs.Lists()-lists, ops)
		}
	})
}

// A small change that comes while all services are read for drift is applied before
// the next is read, is no drift, and hides none.
func TestASmallChangeDuringALook(t *testing.T) {
	const services = 5
	for during := range services {
		inBubble(t, func(t *testing.T, w *world) {
			w.run()
			tab := with(pairTable(5), func(t *fsm.Table) {
				for i := 1; i < services; i++ {
					v := t.Services[0]
					v.Port = uint16(80 + i)
					t.Services = append(t.Services, v)
				}
			})
			w.plane.Update(tab)
			settle()
			w.ipvs.Done()
			lists, read := w.ipvs.Lists(), 0
			for i := range services {
				tab = with(tab, func(t *fsm.Table) { t.Services[i].RealServers[0].Weight = 7 })
			}
			var order []string
			w.ipvs.OnDests = func(ipvs.Key) {
				if read == during {
					must(t, w.ipvs.Do(drop(services-1))) // somebody else's
					w.ipvs.Done()
					w.plane.Update(tab)
				}
				read++
				for _, op := range w.ipvs.Done() {
					order = append(order, fmt.Sprintf("%d: %s", read, op))
				}
			}
			time.Sleep(driftEvery)
			settle()
			w.ipvs.OnDests = nil
			w.wantIPVS(ipvs.Rules(Want(tab)))
			if w.ipvs.Lists() != lists {
				t.Errorf("changed at service %d: %d lists of the whole table", during, w.ipvs.Lists()-lists)
			}
			if n := w.plane.Status().DriftRepaired; n != 1 {
				t.Errorf("changed at service %d: %d repairs, want 1; operations seen: %q", during, n, order)
			}
		})
	}
}

// drop removes a server of pairTable's service, or of one of those behind it, as
// somebody else would.
func drop(nth int) ipvs.Op {
	s := ipvs.Service{Key: ipvs.Key{Addr: netip.MustParseAddr("172.25.88.100"), Port: uint16(80 + nth), Protocol: ipvs.TCP}}
	return ipvs.Op{Verb: ipvs.RemoveDest, Service: s, Dest: ipvs.Dest{DestKey: ipvs.DestKey{Addr: netip.MustParseAddr("172.25.88.3"), Port: 80}}}
}

// What is more than real servers takes a whole pass.
func TestAWholePassWhereMoreChanges(t *testing.T) {
	for name, change := range map[string]func(*fsm.Table){
		"scheduler": func(t *fsm.Table) { t.Services[0].Scheduler = "wrr" },
		"new service": func(t *fsm.Table) {
			v := t.Services[0]
			v.Port = 81
			t.Services = append(t.Services, v)
		},
		"no service": func(t *fsm.Table) { t.Services = nil },
		"router":     func(t *fsm.Table) { t.Routers = append(slices.Clone(t.Routers), vipRouter(2, "172.25.88.101")) },
		"cluster":    func(t *fsm.Table) { t.Cluster = "c2" },
		"tunnel": func(t *fsm.Table) {
			r := &t.Services[0].RealServers[0]
			r.Addr, r.Method = netip.MustParseAddr("2001:db8::1"), fsm.Tunnel
		},
		"setting": func(t *fsm.Table) {
			t.Sets = []fsm.Set{{Name: "default", Globals: fsm.Globals{IPVS: fsm.IPVS{TCPTimeout: fsm.Duration(time.Hour)}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.run()
				tab := pairTable(5)
				w.plane.Update(tab)
				settle()
				lists := w.ipvs.Lists()
				tab = with(tab, change)
				w.plane.Update(tab)
				settle()
				w.wantIPVS(ipvs.Rules(Want(tab)))
				if w.ipvs.Lists() == lists {
					t.Error("no list was made")
				}
			})
		})
	}
}

func vipRouter(id uint64, addr string) fsm.Router {
	return fsm.Router{ID: id, Name: "VI_" + addr, Interface: "eth0", VRID: uint8(51 + id), Priority: 100, Version: 2,
		Addresses: []fsm.Address{{Prefix: netip.PrefixFrom(netip.MustParseAddr(addr), 32)}}}
}

// Somebody has changed the kernel beside us: what we do next still ends in the table.
func TestSmallChangesOfAChangedKernel(t *testing.T) {
	for name, disturb := range map[string]func(*testing.T, *world){
		"service gone": func(t *testing.T, w *world) { must(t, w.ipvs.Set("")) },
		"server gone": func(t *testing.T, w *world) {
			must(t, w.ipvs.Set("-A -t 172.25.88.100:80 -s rr\n-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1"))
		},
		"refused": func(_ *testing.T, w *world) {
			failed := false
			w.ipvs.Fail = func(ipvs.Op) error {
				if failed {
					return nil
				}
				failed = true
				return errBusy
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.run()
				tab := pairTable(5)
				w.plane.Update(tab)
				settle()
				disturb(t, w)
				tab = with(tab, func(t *fsm.Table) { t.Services[0].RealServers[0].Weight = 7 })
				w.plane.Update(tab)
				time.Sleep(glanceEvery)
				settle()
				w.wantIPVS(ipvs.Rules(Want(tab)))
			})
		})
	}
}

type busy struct{}

func (busy) Error() string { return "device or resource busy" }

var errBusy error = busy{}

// Whatever tables come one after the other, the kernel ends as the last one says,
// and the status with it.
func TestAnySequenceOfTables(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.run()
			tab := pairTable(5)
			for range rapid.IntRange(1, 12).Draw(r, "steps") {
				tab = with(tab, func(t *fsm.Table) { drawStep(r, t) })
				w.plane.Update(tab)
				if rapid.Bool().Draw(r, "wait") {
					settle()
					w.wantIPVS(ipvs.Rules(Want(tab)))
				}
			}
			settle()
			w.wantIPVS(ipvs.Rules(Want(tab)))
			s := w.plane.Status()
			if s.Applied != tab.Revision || len(s.Services) != len(tab.Services) || s.Retries != 0 {
				t.Errorf("the status says %+v", s)
			}
			for i, v := range s.Services {
				if len(v.Dests) != len(Want(tab)[i].Dests) {
					t.Errorf("of %s the status has %v", v.Service, v.Dests)
				}
			}
		})
	})
}

func drawStep(r *rapid.T, t *fsm.Table) {
	if len(t.Services) < 2 || rapid.IntRange(0, 9).Draw(r, "service") == 0 {
		v := pairTable(1).Services[0]
		v.Port = uint16(81 + len(t.Services)*7 + int(t.Revision)*100)
		t.Services = append(t.Services, v)
	}
	v := &t.Services[rapid.IntRange(0, len(t.Services)-1).Draw(r, "which")]
	switch rapid.IntRange(0, 3).Draw(r, "what") {
	case 0:
		v.Scheduler = rapid.SampledFrom([]string{"rr", "wrr"}).Draw(r, "scheduler")
	case 1:
		addr := netip.AddrFrom4([4]byte{172, 25, 88, byte(rapid.IntRange(2, 6).Draw(r, "server"))})
		if !slices.ContainsFunc(v.RealServers, func(s fsm.RealServer) bool { return s.Addr == addr }) {
			v.RealServers = append(v.RealServers, fsm.RealServer{Addr: addr, Port: v.Port, Weight: 1})
		}
	case 2:
		v.RealServers = v.RealServers[:max(len(v.RealServers)-1, 0)]
	default:
		for i := range v.RealServers {
			v.RealServers[i].Weight = rapid.IntRange(0, 3).Draw(r, "weight")
		}
	}
}
