package dataplane

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// crashed leaves what an owner's process that was killed leaves, and starts the
// next one, which inherits the addresses given.
func crashed(t *testing.T, w *world, inherited ...string) {
	t.Helper()
	owning(w)
	w.plane.Acquired(term(1, vipAddr).Permit())
	settle()
	w.halt() // nobody says Lost: the address stays
	if !w.host.has("eth0", vipAddr+"/32") {
		t.Fatal("the address did not outlive the process")
	}
	w.diary.take()
	for _, a := range inherited {
		w.cfg.Inherited = append(w.cfg.Inherited, netip.MustParseAddr(a))
	}
	w.run()
}

func TestAnInheritedAddressStaysForTheLease(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		crashed(t, w, vipAddr)
		w.plane.Update(pairTable(5))
		time.Sleep(time.Second)
		w.wantDiaryAnyOrder("gate [172.25.88.100]", "vrrp routers [VI_1@eth0]")
		if f := w.plane.Status().ForeignVIPs; len(f) != 0 {
			t.Errorf("our own is taken for somebody's: %v", f)
		}
		if r := w.plane.record.get(); len(r.Addresses) != 1 {
			t.Errorf("the record lost it: %+v", r)
		}
		w.plane.Acquired(term(1, vipAddr).Permit())
		synctest.Wait()
		w.wantDiary("vrrp acquired 1", "garp 172.25.88.100 dev eth0")
		<-w.plane.Lost(1, "")
		w.wantDiary("ip addr del 172.25.88.100/32 dev eth0", "vrrp lost 1 zero=false")
	})
}

func TestAnInheritedAddressIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		crashed(t, w, vipAddr)
		w.plane.Update(pairTable(5))
		settle()
		w.diary.take()
		<-w.plane.Lost(1, "another member has it")
		if w.host.has("eth0", vipAddr+"/32") {
			t.Error("reported as removed, but it is there")
		}
		w.wantDiary("ip addr del 172.25.88.100/32 dev eth0")
	})
}

func TestAnInheritedAddressOfWhichNobodySpeaks(t *testing.T) {
	for name, table := range map[string]bool{"with its table": true, "without a table": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				crashed(t, w, vipAddr)
				if table {
					w.plane.Update(pairTable(5))
				}
				time.Sleep(inheritFor - time.Second)
				if !w.host.has("eth0", vipAddr+"/32") {
					t.Error("removed at once")
				}
				time.Sleep(lookEvery + 2*time.Second)
				if w.host.has("eth0", vipAddr+"/32") {
					t.Error("kept for ever")
				}
			})
		})
	}
}

// What was not inherited goes at the start, as ever.
func TestWhatWasNotInheritedGoes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		crashed(t, w, "172.25.88.101")
		settle()
		w.wantDiary("ip addr del 172.25.88.100/32 dev eth0")
	})
}
