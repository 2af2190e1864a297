package vrrp

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"lbcluster/dataplane/fence"
)

const header6 = 14 + 40

// wired6 is wired with link-local addresses that can be used at once.
func wired6(t *testing.T) (director, other *host) {
	t.Helper()
	director, other = newHost(t), newHost(t)
	director.do(func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "cli0", PeerNamespace: netlink.NsFd(other.ns)}
		return errors.Join(netlink.LinkAdd(v), noDAD("eth0"), configure6("eth0", "fe80::2/64"))
	})
	other.do(func() error { return errors.Join(noDAD("cli0"), configure6("cli0", "fe80::9/64")) })
	director.do(func() error { return carrier("eth0") })
	other.do(func() error { return carrier("cli0") })
	return director, other
}

// noDAD leaves an interface to addresses given by hand, valid at once.
func noDAD(name string) error {
	conf := "/proc/sys/net/ipv6/conf/" + name
	return errors.Join(os.WriteFile(conf+"/accept_dad", []byte("0"), 0), os.WriteFile(conf+"/addr_gen_mode", []byte("1"), 0))
}

func configure6(name, prefix string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	a.Flags = unix.IFA_F_NODAD
	return errors.Join(netlink.LinkSetUp(l), netlink.AddrAdd(l, a))
}

// tap6 sees and sends the IPv6 of a wire.
type tap6 struct{ *tap }

func newTap6(t *testing.T, h *host, name string) tap6 {
	t.Helper()
	p := tap6{&tap{t: t}}
	h.do(func() (err error) {
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		proto := binary.NativeEndian.Uint16([]byte{0x86, 0xdd})
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: l.Attrs().Index})
	})
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// vrrp waits for the next frame of protocol 112; nil: none came.
func (p tap6) vrrp(wait time.Duration) []byte {
	buf := make([]byte, 2000)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		tv := unix.NsecToTimeval(int64(time.Until(end)) + 1000)
		unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		n, err := unix.Read(p.fd, buf)
		if err == nil && n >= header6 && buf[20] == 112 {
			return slices.Clone(buf[:n])
		}
	}
	return nil
}

func (p tap6) inject(src netip.Addr, hops byte, payload []byte) {
	p.t.Helper()
	f := []byte{0x33, 0x33, 0, 0, 0, 0x12, 2, 0, 0, 0, 0, 9, 0x86, 0xdd}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 6<<4, 112, hops
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], Group6.AsSlice())
	if _, err := unix.Write(p.fd, append(append(f, h...), payload...)); err != nil {
		p.t.Fatal(err)
	}
}

func openConn6(t *testing.T, h *host) *Conn {
	t.Helper()
	var c *Conn
	h.do(func() (err error) {
		c, err = OpenConn("eth0", true, bootClock, func(a netip.Addr) bool { return a == vip6 || a == self })
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func term6(d time.Duration) *fence.Term {
	return fence.NewTerm(1, []netip.Addr{vip6}, bootClock()+int64(d), bootClock)
}

// The bytes of the vector, in the header that RFC 9568 section 5.1.2 wants.
func TestAdvertOnTheWire6(t *testing.T) {
	director, other := wired6(t)
	c, wire := openConn6(t, director), newTap6(t, other, "cli0")
	v := vectorOf(vectors(t), "IPv6, a second")
	director.do(func() error { return c.Send(term6(time.Minute).Permit(), v.advert, Route{}) })
	f := wire.vrrp(soon)
	if f == nil {
		t.Fatal("nothing on the wire")
	}
	ip := f[14:header6]
	if !slices.Equal(f[:6], []byte{0x33, 0x33, 0, 0, 0, 0x12}) || ip[0]>>4 != 6 || ip[6] != 112 || ip[7] != 255 ||
		binary.BigEndian.Uint16(ip)>>4&0xff != tosControl || int(binary.BigEndian.Uint16(ip[4:])) != len(v.wire) ||
		!slices.Equal(ip[8:24], self6.AsSlice()) || !slices.Equal(ip[24:40], Group6.AsSlice()) {
		t.Errorf("headers % x", f[:header6])
	}
	if !slices.Equal(f[header6:], v.wire) {
		t.Errorf("on the wire\n% x, want\n% x", f[header6:], v.wire)
	}
	// And what must not leave.
	ended := term6(time.Minute)
	ended.End()
	for name, p := range map[string]fence.Permit{"zero": {}, "ended": ended.Permit(), "of IPv4": realTerm(time.Minute).Permit()} {
		var err error
		director.do(func() error { err = c.Send(p, v.advert, Route{}); return nil })
		if !errors.Is(err, ErrNoPermit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f := wire.vrrp(quiet); f != nil {
		t.Errorf("one packet more: % x", f)
	}
}

func TestReceive6(t *testing.T) {
	director, other := wired6(t)
	c, wire := openConn6(t, director), newTap6(t, other, "cli0")
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	src := netip.MustParseAddr("fe80::9")
	payload, err := vectorOf(vectors(t), "IPv6, a second").advert.Marshal(src, Group6)
	if err != nil {
		t.Fatal(err)
	}
	wire.inject(src, 254, payload)
	p, err := c.Receive(ctx)
	if err != nil || p.Src != src || p.Dst != Group6 || p.TTL != 254 || !slices.Equal(p.Payload, payload) {
		t.Fatalf("received %+v, %v", p, err)
	}
	cancel()
	if _, err := c.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// Without a link-local address nothing is sent, and the reason says so.
func TestNoLinkLocalSource(t *testing.T) {
	director, other := wired6(t)
	c, wire := openConn6(t, director), newTap6(t, other, "cli0")
	director.do(func() error {
		l, err := netlink.LinkByName("eth0")
		own, err2 := netlink.ParseAddr("fe80::2/64")
		return errors.Join(err, err2, netlink.AddrDel(l, own), configure6("eth0", vip6.String()+"/128"))
	})
	var err error
	director.do(func() error { err = c.Send(term6(time.Minute).Permit(), vectors(t)[0].advert, Route{}); return nil })
	if !errors.Is(err, ErrNoPermit) {
		t.Errorf("IPv4's advert: %v", err)
	}
	director.do(func() error {
		err = c.Send(term6(time.Minute).Permit(), vectorOf(vectors(t), "IPv6, a second").advert, Route{})
		return nil
	})
	if !errors.Is(err, ErrNoLinkLocal) || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("with nothing but the VIP: %v", err)
	}
	if f := wire.vrrp(quiet); f != nil {
		t.Errorf("it left: % x", f)
	}
}

// One VRID for both families on one interface: two routers, two sockets.
func TestListenerSpeaksBothFamilies(t *testing.T) {
	director, other := wired6(t)
	director.do(func() error { return configure("eth0", self.String()+"/24") })
	wire4, wire6 := newTap(t, other, "cli0"), newTap6(t, other, "cli0")
	l := New(Config{Clock: bootClock})
	six := vi1
	six.ID, six.Name, six.Version, six.AuthPass, six.Interval, six.Addresses = 2, "VI_6", 3, "", 100*time.Millisecond, []netip.Addr{vip6}
	director.do(func() error { return l.SetRouters([]Router{vi1, six}) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(director.ns); err != nil {
			done <- err
			return
		}
		done <- l.Run(ctx)
	}()
	src := netip.MustParseAddr("fe80::9")
	heard, err := six.Advert(90).Marshal(src, Group6)
	if err != nil {
		t.Fatal(err)
	}
	wire6.inject(src, 255, heard)
	status := func() (st Status) {
		director.do(func() error { st = l.Status(); return nil })
		return st
	}
	for end := time.Now().Add(soon); len(status().Routers[1].Peers) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the other speaker is not heard: %+v", status())
		}
	}
	st := status()
	if p := st.Routers[1].Peers[0]; p.Addr != src || !p.Accepted || len(st.Routers[0].Peers) != 0 {
		t.Errorf("heard %+v", st.Routers)
	}
	if st.Routers[0].Source != self || st.Routers[1].Source != self6 {
		t.Errorf("sources %v, %v", st.Routers[0].Source, st.Routers[1].Source)
	}
	director.do(func() error { return l.Acquired(2, term6(time.Minute).Permit()) })
	first := wire6.vrrp(soon)
	second := wire6.vrrp(soon)
	if first == nil || second == nil || binary.BigEndian.Uint16(first[header6+4:]) != 10 {
		t.Errorf("adverts % x, % x, want an interval of 10 centiseconds", first, second)
	}
	if f := wire4.vrrp(quiet); f != nil {
		t.Errorf("the IPv4 router, which is not owned, speaks: % x", f)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}
