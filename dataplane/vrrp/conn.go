package vrrp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"lbcluster/dataplane/fence"
)

// Errors of sending.
var (
	// ErrNoPermit: the lease does not hold at this instant, or does not name the
	// advert's first address.
	ErrNoPermit = errors.New("no valid lease for this advert")
	// ErrNoFarewell: the conditions for a priority-0 advert do not hold.
	ErrNoFarewell = errors.New("too late, or too early, for a priority 0 advert")
	// ErrNoSource: the interface has no IPv4 address but VIPs.
	ErrNoSource = errors.New("the interface has no IPv4 address of its own to send adverts from")
)

const (
	tosControl = 0xc0 // internetwork control, as keepalived sets it
	sourceFor  = time.Second
)

// Packet is one received packet of protocol 112.
type Packet struct {
	Src, Dst netip.Addr
	TTL      int
	Payload  []byte
}

// Farewell is the right to send one priority-0 advert: what is left of a lease
// after it ended. It is a type of its own, so that nothing above priority 0 can
// be sent by it, and no Permit that still holds can be used for a farewell: as
// long as the lease holds, a BACKUP that obeys would be a second owner.
type Farewell struct {
	Permit fence.Permit // that has ended
	// Ended is when, CLOCK_BOOTTIME ns: the earlier of its deadline and of its
	// being given up. After a freeze it is the deadline, long past.
	Ended int64
}

// Conn sends and receives adverts on one interface. Safe for concurrent use.
type Conn struct {
	name  string
	raw   *ipv4.RawConn
	clock fence.Clock
	vips  func(netip.Addr) bool

	mu     sync.Mutex
	source netip.Addr
	asked  time.Time
}

// OpenConn opens a raw socket on the interface, in the network namespace of the
// calling thread, joined to 224.0.0.18. isVIP tells addresses that are never a
// source. Needs CAP_NET_RAW.
func OpenConn(name string, clock fence.Clock, isVIP func(netip.Addr) bool) (_ *Conn, err error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("open VRRP on %s: %w", name, err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error { return bindTo(rc, name) }}
	pc, err := lc.ListenPacket(context.Background(), "ip4:112", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("open VRRP on %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			pc.Close()
		}
	}()
	raw, err := ipv4.NewRawConn(pc)
	if err != nil {
		return nil, fmt.Errorf("open VRRP on %s: %w", name, err)
	}
	err = errors.Join(
		raw.JoinGroup(ifi, &net.IPAddr{IP: Group.AsSlice()}),
		raw.SetMulticastInterface(ifi),
		raw.SetMulticastLoopback(false),
		raw.SetMulticastTTL(maxTTL),
		raw.SetControlMessage(ipv4.FlagDst, true),
	)
	if err != nil {
		return nil, fmt.Errorf("set up VRRP on %s: %w", name, err)
	}
	return &Conn{name: name, raw: raw, clock: clock, vips: isVIP}, nil
}

// bindTo limits the socket to one interface and to groups that it joined
// itself (IP_MULTICAST_ALL would give it those of every process).
func bindTo(rc syscall.RawConn, name string) error {
	var inner error
	err := rc.Control(func(fd uintptr) {
		inner = errors.Join(
			unix.BindToDevice(int(fd), name),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0),
		)
	})
	return errors.Join(err, inner)
}

// Close ends Receive.
func (c *Conn) Close() error { return c.raw.Close() }

// Send multicasts an advert with a priority above 0, if the permit is valid at
// this moment and covers the first address; else ErrNoPermit.
func (c *Conn) Send(p fence.Permit, a Advert) error {
	if a.Priority == 0 {
		return fmt.Errorf("send: %w: a farewell is sent by SendZero", ErrNoFarewell)
	}
	if len(a.Addrs) == 0 || !p.Covers(a.Addrs[0]) {
		return fmt.Errorf("send an advert for VRID %d: %w", a.VRID, ErrNoPermit)
	}
	return c.send(a, func() bool { return p.Valid() })
}

// SendZero multicasts the farewell: a with priority 0, if f's lease has ended,
// and not longer ago than half of a's skew time (counted with a's priority);
// else ErrNoFarewell.
func (c *Conn) SendZero(f Farewell, a Advert) error {
	ours := Router{Version: a.Version, Priority: a.Priority, Interval: a.Interval}
	a.Priority = 0
	if f.Permit == (fence.Permit{}) {
		return fmt.Errorf("send a farewell for VRID %d: %w", a.VRID, ErrNoPermit)
	}
	return c.send(a, func() bool { return !f.Permit.Valid() && inFarewell(ours, f.Ended, c.clock()) })
}

// send writes the packet and asks may just before it leaves.
func (c *Conn) send(a Advert, may func() bool) error {
	src, err := c.from()
	if err != nil {
		return fmt.Errorf("send an advert on %s: %w", c.name, err)
	}
	payload, err := a.Marshal(src, Group)
	if err != nil {
		return err
	}
	h := &ipv4.Header{
		Version: ipv4.Version, Len: ipv4.HeaderLen, TOS: tosControl, TotalLen: ipv4.HeaderLen + len(payload),
		TTL: maxTTL, Protocol: protocol, Src: src.AsSlice(), Dst: Group.AsSlice(),
	}
	if !may() {
		if a.Priority == 0 {
			return fmt.Errorf("send a farewell for VRID %d: %w", a.VRID, ErrNoFarewell)
		}
		return fmt.Errorf("send an advert for VRID %d: %w", a.VRID, ErrNoPermit)
	}
	if err := c.raw.WriteTo(h, payload, nil); err != nil {
		return fmt.Errorf("send an advert on %s: %w", c.name, err)
	}
	return nil
}

// from is the interface's first address that is no VIP, looked up again each
// second: addresses change under a running daemon.
func (c *Conn) from() (netip.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.source.IsValid() && time.Since(c.asked) < sourceFor {
		return c.source, nil
	}
	ifi, err := net.InterfaceByName(c.name)
	if err != nil {
		return netip.Addr{}, err
	}
	list, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read its addresses: %w", err)
	}
	i := slices.IndexFunc(list, func(a net.Addr) bool { ip, ok := own4(a); return ok && !c.vips(ip) })
	if i < 0 {
		return netip.Addr{}, ErrNoSource
	}
	c.source, _ = own4(list[i])
	c.asked = time.Now()
	return c.source, nil
}

// own4 is the IPv4 address of an interface address.
func own4(a net.Addr) (netip.Addr, bool) {
	p, err := netip.ParsePrefix(a.String())
	return p.Addr(), err == nil && p.Addr().Is4()
}

// Receive waits for the next packet of protocol 112 on the interface. It ends
// with ctx's error, or net.ErrClosed after Close.
func (c *Conn) Receive(ctx context.Context) (Packet, error) {
	stop := context.AfterFunc(ctx, func() { c.raw.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 2048) // above the longest advert; a longer packet is refused for its length
	h, payload, _, err := c.raw.ReadFrom(buf)
	if err != nil {
		if ctx.Err() != nil {
			return Packet{}, ctx.Err()
		}
		return Packet{}, fmt.Errorf("receive adverts on %s: %w", c.name, err)
	}
	src, _ := netip.AddrFromSlice(h.Src.To4())
	dst, _ := netip.AddrFromSlice(h.Dst.To4())
	return Packet{Src: src, Dst: dst, TTL: h.TTL, Payload: payload}, nil
}
