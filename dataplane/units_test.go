package dataplane

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
)

// groupTable has a sync group (id 9) of VI_1 on eth0 and VI_2 on eth1, and VI_3
// by itself.
func groupTable(rev fsm.Revision) *fsm.Table {
	t := pairTable(rev)
	for i, a := range []string{"10.0.0.100/32", "10.0.0.103/32"} {
		t.Routers = append(t.Routers, fsm.Router{ID: uint64(i + 2), Name: fmt.Sprintf("VI_%d", i+2), VRID: uint8(52 + i), Priority: 100, Version: 2,
			Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix(a)}}})
	}
	t.Groups = []fsm.SyncGroup{{ID: 9, Name: "VG_1", Routers: []string{"VI_1", "VI_2"}}}
	return t
}

// grouped starts a plane with groupTable applied and its diary empty.
func grouped(w *world) {
	w.run()
	w.plane.Update(groupTable(5))
	settle()
	w.diary.take()
}

func TestASyncGroupComesAndGoesTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		grouped(w)
		w.plane.Acquired(term(9, vipAddr, "10.0.0.100").Permit())
		synctest.Wait()
		w.wantDiary("ip addr add 172.25.88.100/32 dev eth0", "vrrp acquired 1", "garp 172.25.88.100 dev eth0",
			"ip addr add 10.0.0.100/32 dev eth1", "vrrp acquired 2", "garp 10.0.0.100 dev eth1")
		for i, owned := range []bool{true, true, false} {
			if v := w.plane.Status().VIPs[i]; v.Owned != owned || v.On != owned {
				t.Errorf("status %+v", v)
			}
		}
		time.Sleep(5 * time.Second)
		w.diary.take()
		// Somebody removes one of them: it comes back.
		w.host.take("eth1", "10.0.0.100/32")
		settle()
		w.wantDiary("ip addr add 10.0.0.100/32 dev eth1", "garp 10.0.0.100 dev eth1")
		// One address cannot be removed at first: the lease hears when both are off.
		fails := 1
		w.host.failWith(func(what string) error {
			if what != "remove" || fails == 0 {
				return nil
			}
			fails--
			return errStopped
		})
		removed := w.plane.Lost(9, "no quorum")
		synctest.Wait()
		select {
		case <-removed:
			t.Error("reported as removed with an address still on")
		default:
		}
		<-removed
		if w.host.has("eth0", vipAddr+"/32") || w.host.has("eth1", "10.0.0.100/32") {
			t.Error("reported as removed, but an address is there")
		}
		w.wantDiaryAnyOrder("ip addr del 172.25.88.100/32 dev eth0", "ip addr del 10.0.0.100/32 dev eth1",
			"vrrp lost 1 zero=true", "vrrp lost 2 zero=true")
	})
}

// A router that leaves its group has no lease until it gets one of its own; the
// rest of the group goes on.
func TestARouterLeavesItsGroup(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		grouped(w)
		w.plane.Acquired(term(9, vipAddr, "10.0.0.100").Permit())
		time.Sleep(5 * time.Second)
		w.diary.take()
		next := groupTable(6)
		next.Groups[0].Routers = []string{"VI_1"}
		w.plane.Update(next)
		settle()
		w.wantDiary("ip addr del 10.0.0.100/32 dev eth1", "vrrp lost 2 zero=false")
		w.plane.Acquired(term(2, "10.0.0.100").Permit())
		settle()
		w.wantDiary("ip addr add 10.0.0.100/32 dev eth1", "vrrp acquired 2", "garp 10.0.0.100 dev eth1")
		<-w.plane.Lost(9, "")
		<-w.plane.Lost(2, "")
	})
}

// The lease may speak before the table is known here.
func TestALeaseBeforeTheTable(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Acquired(term(9, vipAddr, "10.0.0.100").Permit())
		settle()
		w.plane.Update(groupTable(5))
		time.Sleep(time.Second)
		if !w.host.has("eth0", vipAddr+"/32") || !w.host.has("eth1", "10.0.0.100/32") {
			t.Error("the owner has not both addresses")
		}
		<-w.plane.Lost(9, "")
		<-w.plane.Lost(7, "never had") // answered all the same
	})
}

func TestAGroupIsUnfitWithOneOfItsLinks(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		bad := map[uint64]string{}
		w.cfg.OnRouterFit = func(unit uint64, ok bool, why string) { bad[unit] = why }
		grouped(w)
		w.host.carrier("eth0", false)
		settle()
		if bad[9] != "VI_1: the link of eth0 is down" || bad[3] != "" || len(bad) != 2 {
			t.Errorf("unfit: %v", bad)
		}
	})
}

// A router of IPv6 needs a link-local address for its adverts.
func TestAnIPv6RouterWithoutLinkLocal(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		bad := map[uint64]string{}
		w.cfg.OnRouterFit = func(unit uint64, ok bool, why string) { bad[unit] = why }
		w.host.put("eth1", "2001:db8::11/64")
		tab := pairTable(5)
		tab.Routers = append(tab.Routers, fsm.Router{ID: 2, Name: "VI_6", VRID: 51, Priority: 100, Version: 3,
			Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix("2001:db8::100/128")}}})
		w.run()
		w.plane.Update(tab)
		settle()
		if bad[1] != "" || bad[2] != "IPv6 needs a link-local address on the interface: eth1 has none (is IPv6 switched off there?)" {
			t.Errorf("unfit: %v", bad)
		}
		w.host.put("eth1", "fe80::11/64")
		settle()
		if bad[2] != "" {
			t.Errorf("with one: %q", bad[2])
		}
		// It comes, is announced and put back as IPv4 is.
		w.diary.take()
		w.plane.Acquired(term(2, "2001:db8::100").Permit())
		settle()
		w.wantDiary("ip addr add 2001:db8::100/128 dev eth1", "vrrp acquired 2", "garp 2001:db8::100 dev eth1")
		time.Sleep(5 * time.Second)
		w.diary.take()
		w.host.take("eth1", "2001:db8::100/128")
		settle()
		w.wantDiary("ip addr add 2001:db8::100/128 dev eth1", "garp 2001:db8::100 dev eth1")
		<-w.plane.Lost(2, "")
	})
}
