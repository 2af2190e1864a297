package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// owning starts a plane with the table applied and its diary empty.
func owning(w *world) {
	w.run()
	w.plane.Update(pairTable(5))
	settle()
	w.diary.take()
}

func TestOwnershipComesAndGoesInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		tm := term(1, vipAddr)
		w.plane.Acquired(tm.Permit())
		synctest.Wait()
		w.wantDiary("ip addr add 172.25.88.100/32 dev eth0", "vrrp acquired 1", "garp 172.25.88.100 dev eth0")
		v := w.plane.Status().VIPs
		if len(v) != 1 || !v[0].Owned || !v[0].On || v[0].Interface != "eth0" || v[0].Name != "VI_1" {
			t.Errorf("status %+v", v)
		}
		time.Sleep(2500 * time.Millisecond)
		w.wantDiary("garp 172.25.88.100 dev eth0", "garp 172.25.88.100 dev eth0", "garp 172.25.88.100 dev eth0", "garp 172.25.88.100 dev eth0")

		time.Sleep(2 * lookEvery)
		w.diary.take()
		tm.End()
		removed := w.plane.Lost(1, "no quorum")
		synctest.Wait()
		select {
		case <-removed:
		default:
			t.Error("not reported as removed")
		}
		w.wantDiary("ip addr del 172.25.88.100/32 dev eth0", "vrrp lost 1 zero=true")
		if f := w.plane.Status(); len(f.ForeignVIPs) != 0 || f.VIPs[0].On || f.VIPs[0].Owned {
			t.Errorf("status just after: %+v", f)
		}
		time.Sleep(time.Minute)
		w.wantDiary()
		if f := w.plane.Status().ForeignVIPs; len(f) != 0 || strings.Contains(w.logs.String(), "did not put it") {
			t.Errorf("our own address was taken for somebody's: %v", f)
		}
	})
}

func TestHandoverIsSilentTowardPeers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		w.diary.take()
		<-w.plane.Lost(1, "the daemon stops")
		w.wantDiary("ip addr del 172.25.88.100/32 dev eth0", "vrrp lost 1 zero=false")
	})
}

// Ownership does not wait for a long table.
func TestFailoverDoesNotWaitForIPVS(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.ipvs.Fail = func(ipvs.Op) error { time.Sleep(time.Minute); return nil }
		next := pairTable(6)
		next.Services[0].Scheduler = "wlc"
		w.plane.Update(next)
		synctest.Wait()
		w.plane.Acquired(term(1, vipAddr).Permit())
		synctest.Wait() // no time passes
		w.wantDiary("ip addr add 172.25.88.100/32 dev eth0", "vrrp acquired 1", "garp 172.25.88.100 dev eth0")
		<-w.plane.Lost(1, "")
		w.wantDiary("ip addr del 172.25.88.100/32 dev eth0", "vrrp lost 1 zero=false")
		time.Sleep(time.Hour)
	})
}

func TestARemovedAddressIsPutBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		time.Sleep(3 * time.Second)
		w.diary.take()
		w.host.take("eth0", vipAddr+"/32")
		settle()
		w.wantDiary("ip addr add 172.25.88.100/32 dev eth0", "garp 172.25.88.100 dev eth0")
		if v := w.plane.Status().VIPs[0]; v.Restored != 1 || !v.On {
			t.Errorf("status %+v", v)
		}
		<-w.plane.Lost(1, "")
	})
}

func TestAStormOfEventsIsPaced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		var looks atomic.Int64
		w.host.failWith(func(what string) error {
			if what == "snapshot" {
				looks.Add(1)
			}
			return nil
		})
		for range 1000 {
			w.host.change(func(*vip.Snapshot) {})
			time.Sleep(100 * time.Microsecond)
		}
		if n := looks.Load(); n > 12 || n < 5 {
			t.Errorf("looked %d times in 100 ms", n)
		}
		<-w.plane.Lost(1, "")
	})
}

func TestAForeignVIPIsReportedAndLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.host.put("lo", vipAddr+"/32")
		w.host.put("eth0", vipAddr+"/24")
		owning(w)
		want := []ForeignVIP{
			{Prefix: vipPrefix("/32"), Interface: "lo", Remove: "ip addr del 172.25.88.100/32 dev lo"},
			{Prefix: vipPrefix("/24"), Interface: "eth0", Remove: "ip addr del 172.25.88.100/24 dev eth0"},
		}
		if got := w.plane.Status().ForeignVIPs; len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("foreign: %+v", got)
		}
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		<-w.plane.Lost(1, "")
		w.halt()
		w.run() // a restart does not take them for its own
		w.plane.Update(pairTable(5))
		settle()
		if !w.host.has("lo", vipAddr+"/32") || !w.host.has("eth0", vipAddr+"/24") || w.host.has("eth0", vipAddr+"/32") {
			t.Error("others' addresses were touched, or ours stayed")
		}
		if n := strings.Count(w.logs.String(), "ip addr del 172.25.88.100/32 dev lo"); n != 2 {
			t.Errorf("reported %d times in two runs", n)
		}
		w.host.take("lo", vipAddr+"/32")
		settle()
		if got := w.plane.Status().ForeignVIPs; len(got) != 1 {
			t.Errorf("foreign: %+v", got)
		}
	})
}

func TestAnIdenticalForeignVIPSurvivesOwnership(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.host.put("eth0", vipAddr+"/32")
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		w.wantDiary("vrrp acquired 1", "garp 172.25.88.100 dev eth0")
		<-w.plane.Lost(1, "")
		w.wantDiary("vrrp lost 1 zero=false")
		if !w.host.has("eth0", vipAddr+"/32") || len(w.plane.Status().ForeignVIPs) != 1 {
			t.Error("silently adopted")
		}
	})
}

// What a killed process left is removed by the next one, before it is an owner.
func TestWhatACrashLeftIsRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		time.Sleep(time.Second)
		w.halt() // still an owner: as if killed
		if !w.host.has("eth0", vipAddr+"/32") {
			t.Fatal("stopping removed the address of an owner")
		}
		w.host.put("eth1", vipAddr+"/32") // somebody's
		w.diary.take()
		w.run()
		settle()
		w.wantDiary("ip addr del 172.25.88.100/32 dev eth0")
		w.plane.Update(pairTable(5))
		settle()
		w.diary.take()
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		<-w.plane.Lost(1, "")
		w.wantDiary("ip addr add 172.25.88.100/32 dev eth0", "vrrp acquired 1", "garp 172.25.88.100 dev eth0",
			"ip addr del 172.25.88.100/32 dev eth0", "vrrp lost 1 zero=false")
		if !w.host.has("eth1", vipAddr+"/32") {
			t.Error("somebody's address was removed")
		}
		if strings.Contains(w.logs.String(), "ip addr del 172.25.88.100/32 dev eth0") {
			t.Error("our own leftover was reported as somebody's")
		}
	})
}

// If what a crash left cannot be removed before we own it again, it is ours.
func TestWhatACrashLeftIsTakenOver(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		w.halt()
		w.host.fail = func(what string) error {
			if what == "remove" {
				return errors.New("device busy")
			}
			return nil
		}
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		w.host.failWith(nil)
		time.Sleep(time.Minute)
		if v := w.plane.Status(); !w.host.has("eth0", vipAddr+"/32") || v.VIPs[0].Restored != 0 || len(v.ForeignVIPs) != 0 {
			t.Errorf("the owner's address was removed as a leftover, or taken for somebody's: %+v", v)
		}
		<-w.plane.Lost(1, "")
		if w.host.has("eth0", vipAddr+"/32") {
			t.Error("it stayed")
		}
	})
}

// Stopping serves the lease's Lost, which comes while Run ends.
func TestStoppingServesLost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		w.stop()
		time.Sleep(100 * time.Millisecond)
		<-w.plane.Lost(1, "the daemon stops")
		w.halt()
		if w.host.has("eth0", vipAddr+"/32") {
			t.Error("the address stayed")
		}
		w.wantIPVS(pairRules)
	})
}

func TestNodeInterfacesAndNoInterface(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.NodeInterfaces = map[string]string{"eth0": "eth1", "bond7": "bond9"}
		tab := pairTable(5)
		tab.Routers = append(tab.Routers, fsm.Router{ID: 2, Name: "VI_2", Interface: "bond7", VRID: 52,
			Addresses: []fsm.Address{{Prefix: vipPrefix("/32")}}})
		w.run()
		w.plane.Update(tab)
		settle()
		v := w.plane.Status().VIPs
		if len(v) != 2 || v[0].Interface != "eth1" || v[1].Interface != "" || !strings.Contains(v[1].Problem, "this host has no bond9") {
			t.Errorf("status %+v", v)
		}
	})
}

// twoNetworks has a router on eth0, one on eth1, and one on neither.
func twoNetworks(rev fsm.Revision) *fsm.Table {
	t := pairTable(rev)
	for i, a := range []string{"10.0.0.100/32", "192.0.2.9/32"} {
		t.Routers = append(t.Routers, fsm.Router{ID: uint64(i + 2), Name: fmt.Sprintf("VI_%d", i+2), VRID: uint8(52 + i), Priority: 100, Version: 2,
			Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix(a)}}})
	}
	return t
}

func TestFitFollowsTheLink(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var heard []string
		w.cfg.OnRouterFit = func(unit uint64, ok bool, why string) {
			heard = append(heard, fmt.Sprintf("%d %v %s", unit, ok, why))
		}
		w.run()
		w.plane.Update(twoNetworks(5))
		settle()
		w.host.carrier("eth0", false)
		settle()
		if ok, why := w.plane.Fit(); !ok {
			t.Errorf("one link makes the whole member unfit: %q", why)
		}
		w.host.carrier("eth0", true)
		settle()
		time.Sleep(time.Minute)
		want := "1 true |2 true |3 false no interface for 192.0.2.9: no interface has an address in its network" +
			"|1 false the link of eth0 is down|1 true "
		if got := strings.Join(heard, "|"); got != want {
			t.Errorf("heard\n%s\nwant\n%s", got, want)
		}
	})
}

func TestARouterThatLeavesTheTable(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		w.diary.take()
		w.plane.Update(&fsm.Table{Cluster: "c1", Revision: 6})
		settle()
		<-w.plane.Lost(1, "the router is gone")
		time.Sleep(2 * driftEvery)
		got := strings.Join(w.diary.take(), "; ")
		del, gate := strings.Index(got, "ip addr del 172.25.88.100/32 dev eth0"), strings.Index(got, "gate []")
		if del < 0 || gate < del || !strings.Contains(got, "vrrp lost 1") {
			t.Errorf("happened: %s", got)
		}
		w.halt()
		if len(w.plane.addresses.routers) != 0 {
			t.Error("the machine stays")
		}
	})
}

func TestAFailingWatchIsMadeUpFor(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var broken atomic.Bool
		broken.Store(true)
		w.host.fail = func(what string) error {
			if what == "watch" && broken.Load() {
				return errors.New("no buffer space")
			}
			return nil
		}
		owning(w)
		w.host.put("lo", vipAddr+"/32")
		time.Sleep(2 * watchRetry)
		if n := len(w.plane.Status().ForeignVIPs); n != 1 {
			t.Errorf("%d foreign addresses seen without events", n)
		}
		broken.Store(false)
		time.Sleep(2 * watchRetry)
		w.host.take("lo", vipAddr+"/32")
		settle()
		if n := len(w.plane.Status().ForeignVIPs); n != 0 {
			t.Errorf("%d foreign addresses", n)
		}
	})
}

// A speaker that forgot a router, because its interface was away, is told again.
func TestTheSpeakerIsToldAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		var links []vip.Link
		var addrs []vip.Addr
		w.host.change(func(s *vip.Snapshot) {
			links, addrs = s.Links, s.Addrs
			s.Links, s.Addrs = links[:1], addrs[:1]
		})
		settle()
		w.diary.take()
		w.host.change(func(s *vip.Snapshot) { s.Links, s.Addrs = links, addrs[:3] })
		settle()
		w.wantDiary("vrrp routers [VI_1@eth0]", "ip addr add 172.25.88.100/32 dev eth0", "vrrp acquired 1", "garp 172.25.88.100 dev eth0")
		<-w.plane.Lost(1, "")
	})
}

// The record names an address before it is on: a crash in between loses nothing.
func TestTheRecordComesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		var at string
		w.host.failWith(func(what string) error {
			if what == "add" {
				b, _ := os.ReadFile(w.state)
				at = string(b)
			}
			return nil
		})
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		if !strings.Contains(at, `"172.25.88.100/32"`) || !strings.Contains(at, `"tcp/172.25.88.100:80"`) {
			t.Errorf("the record was %s", at)
		}
		<-w.plane.Lost(1, "")
		w.halt()
		if b, _ := os.ReadFile(w.state); strings.Contains(string(b), `"172.25.88.100/32"`) {
			t.Errorf("the record still has the address: %s", b)
		}
	})
}

func TestManyRoutersAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		tab := &fsm.Table{Cluster: "c1", Revision: 1}
		for i := range 300 {
			a := netip.AddrFrom4([4]byte{172, 25, 88, byte(100 + i/100*50 + i%50)})
			tab.Routers = append(tab.Routers, fsm.Router{ID: uint64(i + 1), Name: fmt.Sprint("VI_", i), Interface: "eth0",
				Addresses: []fsm.Address{{Prefix: netip.PrefixFrom(a, 32-i%2)}}})
		}
		w.run()
		w.plane.Update(tab)
		settle()
		for _, r := range tab.Routers {
			w.plane.Acquired(term(r.ID, r.Addresses[0].Prefix.Addr().String()).Permit())
		}
		settle()
		for _, v := range w.plane.Status().VIPs {
			if !v.On || v.Announced == 0 {
				t.Fatalf("%+v", v)
			}
		}
		for _, r := range tab.Routers {
			<-w.plane.Lost(r.ID, "")
		}
	})
}
