package vrrp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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

// host is a network namespace with a thread of its own.
type host struct {
	t    *testing.T
	ns   netns.NsHandle
	jobs chan func()
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and raw sockets")
	}
	h := &host{t: t, jobs: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.ns, err = netns.Get()
		}
		ready <- err
		for job := range h.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { close(h.jobs); h.ns.Close() })
	return h
}

func (h *host) do(f func() error) {
	h.t.Helper()
	done := make(chan error)
	h.jobs <- func() { done <- f() }
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

// wired makes two hosts on one wire: eth0 (director, with its own address) and
// cli0 (whoever listens).
func wired(t *testing.T) (director, other *host) {
	t.Helper()
	director, other = newHost(t), newHost(t)
	director.do(func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "cli0", PeerNamespace: netlink.NsFd(other.ns)}
		return errors.Join(netlink.LinkAdd(v), configure("eth0", self.String()+"/24"))
	})
	other.do(func() error { return configure("cli0", peer1.String()+"/24") })
	// Until the kernel has seen the carrier it drops what is sent, silently.
	director.do(func() error { return carrier("eth0") })
	other.do(func() error { return carrier("cli0") })
	return director, other
}

func configure(name, prefix string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(l, a), netlink.LinkSetUp(l))
}

func carrier(name string) error {
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
	}
	return fmt.Errorf("%s has no carrier", name)
}

// tap is an AF_PACKET socket: it sees and sends what is on the wire.
type tap struct {
	t  *testing.T
	fd int
}

func newTap(t *testing.T, h *host, name string) *tap {
	t.Helper()
	p := &tap{t: t}
	h.do(func() (err error) {
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		ip := binary.NativeEndian.Uint16([]byte{8, 0})
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: ip, Ifindex: l.Attrs().Index})
	})
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// vrrp waits for the next frame of protocol 112; nil: none came.
func (p *tap) vrrp(wait time.Duration) []byte {
	buf := make([]byte, 2000)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		tv := unix.NsecToTimeval(int64(time.Until(end)) + 1000)
		unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		n, err := unix.Read(p.fd, buf)
		if err == nil && n >= 34 && buf[23] == 112 {
			return slices.Clone(buf[:n])
		}
	}
	return nil
}

// inject puts an advert of another speaker on the wire.
func (p *tap) inject(src netip.Addr, ttl byte, payload []byte) {
	p.t.Helper()
	f := []byte{1, 0, 0x5e, 0, 0, 18, 2, 0, 0, 0, 0, 9, 8, 0}
	h := make([]byte, 20)
	h[0], h[1], h[8], h[9] = 0x45, 0xc0, ttl, 112
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	copy(h[12:], src.AsSlice())
	copy(h[16:], Group.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h, 0))
	if _, err := unix.Write(p.fd, append(append(f, h...), payload...)); err != nil {
		p.t.Fatal(err)
	}
}

func bootClock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

func realTerm(d time.Duration) *fence.Term {
	return fence.NewTerm(1, []netip.Addr{vip}, bootClock()+int64(d), bootClock)
}

func openConn(t *testing.T, h *host) *Conn {
	t.Helper()
	var c *Conn
	h.do(func() (err error) {
		c, err = OpenConn("eth0", false, bootClock, func(a netip.Addr) bool { return a == vip })
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

const (
	soon  = 2 * time.Second
	quiet = 50 * time.Millisecond
)

// The bytes on the wire are those of the vector that was put together by hand,
// in the IP header that keepalived writes.
func TestAdvertOnTheWire(t *testing.T) {
	director, other := wired(t)
	c := openConn(t, director)
	wire := newTap(t, other, "cli0")
	tm := realTerm(time.Minute)
	for _, i := range []int{0, 4} { // version 2 with PASS, version 3
		v := vectors(t)[i]
		director.do(func() error { return c.Send(tm.Permit(), v.advert, Route{}) })
		f := wire.vrrp(soon)
		if f == nil {
			t.Fatalf("%s: nothing on the wire", v.name)
		}
		ip := f[14:34]
		if !slices.Equal(f[:6], []byte{1, 0, 0x5e, 0, 0, 18}) || ip[0] != 0x45 || ip[1] != 0xc0 || ip[8] != 255 || ip[9] != 112 ||
			int(binary.BigEndian.Uint16(ip[2:])) != 20+len(v.wire) || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 ||
			!slices.Equal(ip[12:16], self.AsSlice()) || !slices.Equal(ip[16:20], Group.AsSlice()) || checksum(ip, 0) != 0 {
			t.Errorf("%s: headers % x", v.name, f[:34])
		}
		if got := f[34:]; !slices.Equal(got[:min(len(got), len(v.wire))], v.wire) {
			t.Errorf("%s: on the wire\n% x, want\n% x", v.name, got, v.wire)
		}
	}
	if f := wire.vrrp(quiet); f != nil {
		t.Errorf("one packet more: % x", f)
	}
}

func TestSendDemandsAPermit(t *testing.T) {
	director, other := wired(t)
	c := openConn(t, director)
	wire := newTap(t, other, "cli0")
	a := vectors(t)[0].advert
	ended, past := realTerm(time.Minute), realTerm(-time.Millisecond)
	ended.End()
	elsewhere := fence.NewTerm(1, []netip.Addr{peer1}, bootClock()+int64(time.Minute), bootClock)
	for name, p := range map[string]fence.Permit{
		"zero": {}, "ended": ended.Permit(), "run out": past.Permit(), "for another address": elsewhere.Permit(),
	} {
		var err error
		director.do(func() error { err = c.Send(p, a, Route{}); return nil })
		if !errors.Is(err, ErrNoPermit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	zero := a
	zero.Priority = 0
	if err := c.Send(realTerm(time.Minute).Permit(), zero, Route{}); !errors.Is(err, ErrNoFarewell) {
		t.Errorf("priority 0 by Send: %v", err)
	}
	if f := wire.vrrp(quiet); f != nil {
		t.Errorf("it left: % x", f)
	}
}

func TestSendZeroHasItsOwnRule(t *testing.T) {
	director, other := wired(t)
	c := openConn(t, director)
	wire := newTap(t, other, "cli0")
	a := vectors(t)[0].advert // skew 609 ms
	held, ended := realTerm(time.Minute), realTerm(time.Minute)
	ended.End()
	now := bootClock()
	for name, f := range map[string]Farewell{
		"nothing":            {},
		"no permit":          {Ended: now},
		"still held":         {Permit: held.Permit(), Ended: now},
		"half a second late": {Permit: ended.Permit(), Ended: now - int64(500*time.Millisecond)},
		"in the future":      {Permit: ended.Permit(), Ended: now + int64(time.Minute)},
		"end unknown":        {Permit: ended.Permit()},
	} {
		var err error
		director.do(func() error { err = c.SendZero(f, a, Route{}); return nil })
		if !errors.Is(err, ErrNoFarewell) && !errors.Is(err, ErrNoPermit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f := wire.vrrp(quiet); f != nil {
		t.Fatalf("it left: % x", f)
	}
	director.do(func() error { return c.SendZero(Farewell{Permit: ended.Permit(), Ended: bootClock()}, a, Route{}) })
	want := vectors(t)[1].wire
	if f := wire.vrrp(soon); f == nil || !slices.Equal(f[34:34+len(want)], want) {
		t.Errorf("the farewell: % x", f)
	}
}

// The source is the interface's own address, also when the VIP comes first.
func TestSourceIsNeverAVIP(t *testing.T) {
	director, other := wired(t)
	wire := newTap(t, other, "cli0")
	director.do(func() error {
		l, err := netlink.LinkByName("eth0")
		own, err2 := netlink.ParseAddr(self.String() + "/24")
		return errors.Join(err, err2, netlink.AddrDel(l, own), configure("eth0", vip.String()+"/32"))
	})
	c := openConn(t, director)
	p := realTerm(time.Minute).Permit()
	var err error
	director.do(func() error { err = c.Send(p, vectors(t)[0].advert, Route{}); return nil })
	if !errors.Is(err, ErrNoSource) {
		t.Fatalf("with nothing but the VIP: %v", err)
	}
	director.do(func() error { return configure("eth0", self.String()+"/24") })
	director.do(func() error { return c.Send(p, vectors(t)[0].advert, Route{}) })
	if f := wire.vrrp(soon); f == nil || !slices.Equal(f[26:30], self.AsSlice()) {
		t.Errorf("sent % x", f)
	}
}

func TestReceive(t *testing.T) {
	director, other := wired(t)
	c := openConn(t, director)
	wire := newTap(t, other, "cli0")
	v := vectors(t)[0]
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()

	// Our own are not looped back, so the first that is heard is the other's.
	director.do(func() error { return c.Send(realTerm(time.Minute).Permit(), v.advert, Route{}) })
	wire.inject(peer1, 254, v.wire)
	p, err := c.Receive(ctx)
	if err != nil || p.Src != peer1 || p.Dst != Group || p.TTL != 254 || !slices.Equal(p.Payload, v.wire) {
		t.Fatalf("received %+v, %v", p, err)
	}
	wire.inject(peer1, 255, make([]byte, 1400)) // garbage of the longest kind arrives whole
	if p, err = c.Receive(ctx); err != nil || len(p.Payload) != 1400 {
		t.Fatalf("received %d bytes, %v", len(p.Payload), err)
	}
	cancel()
	if _, err := c.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

func TestOpenConnErrors(t *testing.T) {
	h := newHost(t)
	var err error
	h.do(func() error { _, err = OpenConn("eth7", false, bootClock, nil); return nil })
	if err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("an interface that is not there: %v", err)
	}
}

// Everything together, in a namespace.
func TestListenerOnTheWire(t *testing.T) {
	director, other := wired(t)
	wire := newTap(t, other, "cli0")
	l := New(Config{Clock: bootClock})
	director.do(func() error { return l.SetRouters([]Router{vi1}) })
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
	wire.inject(peer1, 255, packet(t, peer1, vi1.Advert(90)).Payload)
	for end := time.Now().Add(soon); len(l.Status().Routers[0].Peers) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the other speaker is not heard: %+v", l.Status())
		}
	}
	if f := wire.vrrp(quiet); f != nil {
		t.Fatalf("an advert without a lease: % x", f)
	}
	tm := realTerm(time.Minute)
	director.do(func() error { return l.Acquired(1, tm.Permit()) })
	want := vectors(t)[0].wire
	if f := wire.vrrp(soon); f == nil || !slices.Equal(f[34:34+len(want)], want) {
		t.Fatalf("the owner's advert: % x", f)
	}
	tm.End()
	director.do(func() error { l.Lost(1, true); return nil })
	want = vectors(t)[1].wire
	if f := wire.vrrp(soon); f == nil || !slices.Equal(f[34:34+len(want)], want) {
		t.Fatalf("the farewell: % x", f)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if st := fmt.Sprint(l.Status().Routers[0].LinkError); st == "" {
		t.Error("Run has ended and the interface is still open")
	}
}

// A permit that runs out while the packet is being put together stops it.
func TestPermitIsCheckedLast(t *testing.T) {
	director, other := wired(t)
	c := openConn(t, director)
	wire := newTap(t, other, "cli0")
	reads := int64(0)
	p := fence.NewTerm(1, []netip.Addr{vip}, 2, func() int64 { reads++; return reads }).Permit()
	if !p.Covers(vip) {
		t.Fatal("the test expects a permit that is valid at the first look")
	}
	reads = 0
	var err error
	director.do(func() error { err = c.Send(p, vectors(t)[0].advert, Route{}); return nil })
	if !errors.Is(err, ErrNoPermit) || reads < 2 {
		t.Errorf("%v after %d looks", err, reads)
	}
	if f := wire.vrrp(quiet); f != nil {
		t.Errorf("it left: % x", f)
	}
}
