package nstest

import (
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestWireCarriesFrames(t *testing.T) {
	a, b := New(t), New(t)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	Wire(a, "x0", mac, b, "y0", nil)
	from, to := NewTap(t, a, "x0"), NewTap(t, b, "y0")
	frame := append(slices.Concat([]byte{255, 255, 255, 255, 255, 255}, mac, []byte{0x88, 0xb5}), make([]byte, 46)...)
	from.Send(frame)
	if !to.Hears(5*time.Second, func(got []byte) bool { return slices.Equal(got, frame) }) {
		t.Error("the frame did not come")
	}
	if to.Hears(time.Millisecond, func([]byte) bool { return false }) {
		t.Error("heard what does not match")
	}
}

func TestHostsAreApart(t *testing.T) {
	a, b := New(t), New(t)
	a.Do(func() error {
		return Add(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
	})
	a.Do(func() error { return AddAddr("br0", "192.0.2.1/24", "2001:db8::1/64") })
	b.Do(func() error {
		if Index("br0") != 0 {
			t.Error("the other host has the interface too")
		}
		return nil
	})
	if err := <-a.Go(func() error { return Delete("br0") }); err != nil {
		t.Errorf("from another thread in the namespace: %v", err)
	}
}

func TestBPFFSTakesFolders(t *testing.T) {
	if err := os.Mkdir(BPFFS(t)+"/pins", 0o700); err != nil {
		t.Error(err)
	}
}
