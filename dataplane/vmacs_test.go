package dataplane

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// vmacTable is pairTable with a MAC of the router's own.
func vmacTable(rev fsm.Revision, v *fsm.VMAC) *fsm.Table {
	t := pairTable(rev)
	t.Routers[0].VMAC = v
	return t
}

// The router's interface is made with the table, not with ownership; the VIP is
// on it while this host is the owner; it goes when nothing wants it.
func TestVMACLivesAsLongAsItsRouter(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(vmacTable(5, &fsm.VMAC{}))
		settle()
		const made = "ip link add vrrp.51 link eth0 address 00:00:5e:00:01:33 type macvlan"
		if got := w.diary.take(); !slices.Contains(got, made) {
			t.Fatalf("happened: %v", got)
		}
		if got := recordOf(t, w).VMACs; len(got) != 1 || got[0] != (recordedVMAC{"vrrp.51", "00:00:5e:00:01:33", "eth0", true}) {
			t.Errorf("recorded %+v", got)
		}
		tm := term(1, vipAddr)
		w.plane.Acquired(tm.Permit())
		settle()
		w.wantDiary("ip addr add 172.25.88.100/32 dev vrrp.51", "vrrp acquired 1", "garp 172.25.88.100 dev vrrp.51")
		sp := w.plane.addresses.speaks
		if len(sp) != 1 || sp[0].Interface != "eth0" || sp[0].Index != 2 || sp[0].Via != "vrrp.51" {
			t.Errorf("VRRP is told %+v", sp)
		}
		tm.End()
		<-w.plane.Lost(1, "test")
		settle()
		w.diary.take()
		w.halt() // it stays: the next process goes on with it
		w.wantDiary()
		w.run()
		w.plane.Update(vmacTable(5, &fsm.VMAC{XmitBase: true}))
		settle()
		if sp := w.plane.addresses.speaks; len(sp) != 1 || sp[0].Via != "" || sp[0].Interface != "eth0" {
			t.Errorf("xmit_base: VRRP is told %+v", sp)
		}
		w.diary.take()
		w.plane.Update(pairTable(6))
		settle()
		w.wantDiary("vrrp routers [VI_1@eth0]", "ip link del vrrp.51", "arp_ignore of eth0 is 0 again")
		if got := recordOf(t, w).VMACs; len(got) != 0 {
			t.Errorf("recorded %+v", got)
		}
	})
}

// recordOf is the record as the file has it.
func recordOf(t *testing.T, w *world) (r recorded) {
	t.Helper()
	b, err := os.ReadFile(w.state)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An owner's addresses move to the new interface, the new place before the old.
func TestVMACForAnOwner(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		owning(w)
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		w.diary.take()
		w.plane.Update(vmacTable(6, &fsm.VMAC{Name: "vip0"}))
		settle()
		settle()
		got := strings.Join(w.diary.take(), "; ")
		add, del := strings.Index(got, "ip addr add 172.25.88.100/32 dev vip0"), strings.Index(got, "ip addr del 172.25.88.100/32 dev eth0")
		if add < 0 || del < add {
			t.Errorf("happened: %s", got)
		}
	})
}

// An interface that cannot be made makes the unit unfit here, with the reason,
// and is tried again.
func TestVMACThatCannotBeMade(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var told string
		w.cfg.OnRouterFit = func(_ uint64, ok bool, why string) {
			if told = why; ok {
				told = "fit"
			}
		}
		w.host.failWith(func(what string) error {
			if what == "vmac" {
				return errors.New("no macvlan in this kernel")
			}
			return nil
		})
		w.run()
		w.plane.Update(vmacTable(5, &fsm.VMAC{}))
		settle()
		if !strings.Contains(told, "no macvlan in this kernel") && !strings.Contains(told, "vrrp.51") {
			t.Errorf("told %q", told)
		}
		time.Sleep(lookEvery)
		synctest.Wait()
		if !strings.Contains(told, "no macvlan in this kernel") {
			t.Errorf("told %q", told)
		}
		w.host.failWith(nil)
		time.Sleep(longestWait + lookEvery)
		settle()
		if told != "fit" {
			t.Errorf("told %q", told)
		}
	})
}

// Two routers over one interface: what was set for it stays for the other.
func TestVMACsShareTheInterfaceBelow(t *testing.T) {
	two := vmacTable(5, &fsm.VMAC{})
	second := two.Routers[0]
	second.ID, second.Name, second.VRID = 2, "VI_2", 52
	second.Addresses = []fsm.Address{{Prefix: netip.MustParsePrefix("172.25.88.101/32")}}
	two.Routers = append(two.Routers, second)
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(two)
		settle()
		w.diary.take()
		one := vmacTable(6, nil)
		one.Routers = []fsm.Router{second}
		w.plane.Update(one)
		settle()
		w.wantDiaryAnyOrder("vrrp routers [VI_2@eth0]", "gate [172.25.88.101]", "ip link del vrrp.51")
		w.halt()
		if err := Clear(w.state, w.ipvs, w.host, nil, nil); err != nil {
			t.Fatal(err)
		}
		if got := w.diary.take(); !slices.Contains(got, "ip link del vrrp.52") || !slices.Contains(got, "arp_ignore of eth0 is 0 again") {
			t.Errorf("cleared: %v", got)
		}
	})
}

// Somebody else's interface of the name is left alone.
func TestVMACNameIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.host.change(func(s *vip.Snapshot) {
			s.Links = append(s.Links, vip.Link{Index: 9, Name: "vrrp.51", MAC: []byte{2, 0, 0, 0, 0, 9}, Up: true, Carrier: true})
		})
		w.run()
		w.plane.Update(vmacTable(5, &fsm.VMAC{}))
		time.Sleep(lookEvery)
		w.plane.Update(pairTable(6))
		settle()
		if got := strings.Join(w.diary.take(), "; "); strings.Contains(got, "ip link") {
			t.Errorf("happened: %s", got)
		}
	})
}
