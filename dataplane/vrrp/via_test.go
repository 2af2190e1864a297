package vrrp

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownMAC makes an interface with the router's MAC over eth0 and returns the MAC.
func ownMAC(t *testing.T, h *host, family byte) net.HardwareAddr {
	t.Helper()
	mac := net.HardwareAddr{0, 0, 0x5e, 0, family, 51}
	var err error
	h.do(func() error {
		base, e := netlink.LinkByName("eth0")
		if e != nil {
			return e
		}
		l := &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "vrrp.51", ParentIndex: base.Attrs().Index, HardwareAddr: mac}, Mode: netlink.MACVLAN_MODE_PRIVATE}
		if err = netlink.LinkAdd(l); err != nil {
			return nil
		}
		return errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/vrrp.51/addr_gen_mode", []byte("1"), 0), netlink.LinkSetUp(l), carrier("vrrp.51"))
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel has no macvlan")
	}
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// An advert that leaves by the router's own interface has its MAC, and the
// address of the interface below.
func TestAdvertViaAnotherInterface(t *testing.T) {
	director, other := wired(t)
	mac := ownMAC(t, director, 1)
	c, wire := openConn(t, director), newTap(t, other, "cli0")
	v := vectors(t)[0]
	send := func(r Route) (err error) {
		director.do(func() error { err = c.Send(realTerm(time.Minute).Permit(), v.advert, r); return nil })
		return err
	}
	for range 2 { // the second time after the interface was made anew
		if err := send(Route{Via: "vrrp.51"}); err != nil {
			t.Fatal(err)
		}
		f := wire.vrrp(soon)
		if f == nil {
			t.Fatal("nothing on the wire")
		}
		if !slices.Equal(f[6:12], mac) || !slices.Equal(f[26:30], self.AsSlice()) || !slices.Equal(f[34:34+len(v.wire)], v.wire) {
			t.Errorf("on the wire: % x", f)
		}
		director.do(func() error {
			l, err := netlink.LinkByName("vrrp.51")
			if err == nil {
				err = netlink.LinkDel(l)
			}
			return err
		})
		if err := send(Route{Via: "vrrp.51"}); err == nil || !strings.Contains(err.Error(), "vrrp.51") {
			t.Errorf("without the interface: %v", err)
		}
		ownMAC(t, director, 1)
	}
	if err := send(Route{}); err != nil {
		t.Fatal(err)
	}
	if f := wire.vrrp(soon); f == nil || slices.Equal(f[6:12], mac) {
		t.Errorf("from the interface below: % x", f)
	}
}

func TestAdvertViaAnotherInterface6(t *testing.T) {
	director, other := wired6(t)
	mac := ownMAC(t, director, 2)
	c, wire := openConn6(t, director), newTap6(t, other, "cli0")
	v := vectorOf(vectors(t), "IPv6, a second")
	director.do(func() error { return c.Send(term6(time.Minute).Permit(), v.advert, Route{Via: "vrrp.51"}) })
	f := wire.vrrp(soon)
	if f == nil {
		t.Fatal("nothing on the wire")
	}
	if !slices.Equal(f[6:12], mac) || !slices.Equal(f[22:38], self6.AsSlice()) || !slices.Equal(f[header6:], v.wire) {
		t.Errorf("on the wire: % x", f)
	}
}
