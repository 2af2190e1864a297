package realserver

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"lbcluster/internal/nstest"
)

// The real kernel: addresses come and go on lo, and with them the settings; a
// neighbour that asks for the VIP gets no answer, and for the host's own address one.
func TestHost(t *testing.T) {
	h, neighbour := nstest.New(t), nstest.New(t)
	nstest.Wire(h, "eth0", nil, neighbour, "eth0", nil)
	tap := nstest.NewTap(t, neighbour, "eth0")
	h.Do(func() error { return nstest.AddAddr("eth0", "10.0.0.2/24") })
	vips := addrs("10.0.0.100 2001:db8::64")
	var before string
	var rec Record
	apply := func(want []netip.Addr) {
		t.Helper()
		h.Do(func() error {
			var err error
			_, rec, err = Apply(Host{}, want, rec, func(Record) error { return nil })
			return err
		})
	}
	see := func() (s Seen) {
		t.Helper()
		h.Do(func() (err error) { s, err = Host{}.See(); return err })
		return s
	}
	before = inventory(see())
	apply(vips)
	apply(vips)
	s := see()
	if bad := Problems(vips, s); len(bad) > 0 {
		t.Errorf("problems: %v", bad)
	}
	if own := s.Own(); !slices.Equal(own, addrs("10.0.0.2")) {
		t.Errorf("own addresses: %v", own)
	}
	if len(rec.Addresses) != 2 || fmt.Sprint(rec.ARP) != "map[arp_announce:0 arp_ignore:0]" {
		t.Errorf("recorded: %+v", rec)
	}
	if !answered(tap, "10.0.0.2") {
		t.Error("no answer for the host's own address: the test would see none for the VIP either")
	}
	if answered(tap, "10.0.0.100") {
		t.Error("the VIP is answered for")
	}
	// Somebody makes it talk: that is seen, and put right.
	h.Do(func() error { return os.WriteFile(arpPath("all", ignore), []byte("0"), 0o644) })
	if !answered(tap, "10.0.0.100") || len(Problems(vips, see())) != 1 {
		t.Errorf("problems with arp_ignore 0: %v", Problems(vips, see()))
	}
	apply(vips)
	if answered(tap, "10.0.0.100") {
		t.Error("the VIP is still answered for")
	}
	apply(nil)
	if after := inventory(see()); after != before {
		t.Errorf("before: %s\nafter:  %s", before, after)
	}
}

// answered asks for an address by ARP, as a neighbour would.
func answered(tap *nstest.Tap, addr string) bool {
	ip := netip.MustParseAddr(addr).As4()
	frame := slices.Concat(
		[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6},
		[]byte{0, 1, 8, 0, 6, 4, 0, 1}, []byte{2, 0, 0, 0, 0, 9, 10, 0, 0, 9}, make([]byte, 6), ip[:])
	return tap.Ask(frame, 300*time.Millisecond, func(f []byte) bool {
		return len(f) >= 32 && f[12] == 8 && f[13] == 6 && f[21] == 2 && string(f[28:32]) == string(ip[:])
	})
}
