package vrrp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

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
	// ErrNoLinkLocal: the interface has no IPv6 link-local address but VIPs; RFC
	// 9568 section 5.1.2.1 wants one as the source.
	ErrNoLinkLocal = errors.New("the interface has no IPv6 link-local address of its own to send adverts from (is IPv6 switched off there?)")
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

// socket is a raw socket of protocol 112 on one interface, for one family.
type socket interface {
	// write sends an advert with TTL 255.
	write(src, dst netip.Addr, payload []byte) error
	read(buf []byte) (Packet, error)
	SetReadDeadline(time.Time) error
	Close() error
}

// Conn sends and receives adverts of one family on one interface. Safe for
// concurrent use.
type Conn struct {
	name  string
	v6    bool
	raw   socket
	open  func(*net.Interface) (socket, error)
	clock fence.Clock
	vips  func(netip.Addr) bool

	mu    sync.Mutex
	own   []netip.Prefix // the interface's addresses of the family that are no VIPs
	asked time.Time
	via   map[string]way // by Route.Via
}

// way is a socket on an interface that adverts leave by.
type way struct {
	raw   socket
	index int // of the interface: it may have been made anew
}

// Route is where an advert comes from and goes to.
type Route struct {
	To []netip.Addr // one copy each; empty: the group of the family
	// From is used if the interface has it; else an address is chosen.
	From netip.Addr
	// Via is the interface that it leaves by; empty: the connection's own.
	Via string
}

// OpenConn opens a raw socket on the interface, in the network namespace of the
// calling thread, joined to the group of the family. isVIP tells addresses that
// are never a source. Needs CAP_NET_RAW.
func OpenConn(name string, v6 bool, clock fence.Clock, isVIP func(netip.Addr) bool) (*Conn, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("open VRRP on %s: %w", name, err)
	}
	open := openSocket4
	if v6 {
		open = openSocket6
	}
	raw, err := open(ifi)
	if err != nil {
		return nil, fmt.Errorf("open VRRP on %s: %w", name, err)
	}
	return &Conn{name: name, v6: v6, raw: raw, open: open, clock: clock, vips: isVIP}, nil
}

// group is where the adverts go.
func (c *Conn) group() netip.Addr {
	if c.v6 {
		return Group6
	}
	return Group
}

// Close ends Receive.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := []error{c.raw.Close()}
	for _, w := range c.via {
		errs = append(errs, w.raw.Close())
	}
	return errors.Join(errs...)
}

// out is the socket that adverts of a route leave by.
func (c *Conn) out(r Route) (socket, error) {
	if r.Via == "" {
		return c.raw, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w, open := c.via[r.Via]
	ifi, err := net.InterfaceByName(r.Via)
	if open && (err != nil || ifi.Index != w.index) {
		w.raw.Close()
		delete(c.via, r.Via)
		open = false
	}
	if err != nil {
		return nil, fmt.Errorf("leave by %s: %w", r.Via, err)
	}
	if !open {
		if w.raw, err = c.open(ifi); err != nil {
			return nil, fmt.Errorf("leave by %s: %w", r.Via, err)
		}
		w.index = ifi.Index
		if c.via == nil {
			c.via = map[string]way{}
		}
		c.via[r.Via] = w
	}
	return w.raw, nil
}

// Send sends an advert with a priority above 0, if the permit is valid at this
// moment and covers the first address; else ErrNoPermit.
func (c *Conn) Send(p fence.Permit, a Advert, r Route) error {
	if a.Priority == 0 {
		return fmt.Errorf("send: %w: a farewell is sent by SendZero", ErrNoFarewell)
	}
	if len(a.Addrs) == 0 || !p.Covers(a.Addrs[0]) {
		return fmt.Errorf("send an advert for VRID %d: %w", a.VRID, ErrNoPermit)
	}
	return c.send(a, r, func() bool { return p.Valid() })
}

// SendZero sends the farewell: a with priority 0, if f's lease has ended,
// and not longer ago than half of a's skew time (counted with a's priority);
// else ErrNoFarewell.
func (c *Conn) SendZero(f Farewell, a Advert, r Route) error {
	ours := Router{Version: a.Version, Priority: a.Priority, Interval: a.Interval}
	a.Priority = 0
	if f.Permit == (fence.Permit{}) {
		return fmt.Errorf("send a farewell for VRID %d: %w", a.VRID, ErrNoPermit)
	}
	return c.send(a, r, func() bool { return !f.Permit.Valid() && inFarewell(ours, f.Ended, c.clock()) })
}

// send writes the packet, one copy for each destination, and asks may just
// before each leaves. A destination that cannot be reached keeps no other from
// its copy.
func (c *Conn) send(a Advert, r Route, may func() bool) error {
	src, err := c.Source(r)
	if err != nil {
		return fmt.Errorf("send an advert on %s: %w", c.name, err)
	}
	raw, err := c.out(r)
	if err != nil {
		return fmt.Errorf("send an advert on %s: %w", c.name, err)
	}
	to := r.To
	if len(to) == 0 {
		to = []netip.Addr{c.group()}
	}
	var errs []error
	for _, dst := range to {
		payload, err := a.Marshal(src, dst)
		if err != nil {
			return err
		}
		if !may() {
			if a.Priority == 0 {
				return fmt.Errorf("send a farewell for VRID %d: %w", a.VRID, ErrNoFarewell)
			}
			return fmt.Errorf("send an advert for VRID %d: %w", a.VRID, ErrNoPermit)
		}
		if err := raw.write(src, dst, payload); err != nil {
			errs = append(errs, fmt.Errorf("send an advert on %s to %s: %w", c.name, dst, err))
		}
	}
	return errors.Join(errs...)
}

// Source is where adverts come from: r's own choice if the interface has it,
// else the first address of the family that is no VIP and, to unicast peers, of
// their network; of IPv6 the link-local one, unless the peers have none. The
// addresses are looked up again each second, since they change under a running
// daemon. It calls isVIP.
func (c *Conn) Source(r Route) (netip.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil || time.Since(c.asked) >= sourceFor {
		if err := c.look(); err != nil {
			return netip.Addr{}, err
		}
	}
	if src, ok := chooseSource(c.own, r); ok {
		return src, nil
	}
	c.own = nil
	if c.v6 {
		return netip.Addr{}, ErrNoLinkLocal
	}
	return netip.Addr{}, ErrNoSource
}

// look reads the interface's addresses. mu is held.
func (c *Conn) look() error {
	c.own = nil
	ifi, err := net.InterfaceByName(c.name)
	if err != nil {
		return err
	}
	list, err := ifi.Addrs()
	if err != nil {
		return fmt.Errorf("read its addresses: %w", err)
	}
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if ip := p.Addr(); err == nil && ip.Is6() == c.v6 && !c.vips(ip) {
			c.own = append(c.own, p)
		}
	}
	c.asked = time.Now()
	return nil
}

// chooseSource picks among the interface's own addresses.
func chooseSource(own []netip.Prefix, r Route) (netip.Addr, bool) {
	best, bestRank := netip.Addr{}, 0
	for _, p := range own {
		if rank := sourceRank(p, r); rank > bestRank {
			best, bestRank = p.Addr(), rank
		}
	}
	return best, bestRank > 0
}

// sourceRank says how well an address serves; 0: not at all.
func sourceRank(p netip.Prefix, r Route) int {
	a, peer := p.Addr(), netip.Addr{}
	if len(r.To) > 0 {
		peer = r.To[0]
	}
	near := a.IsLinkLocalUnicast() == (!peer.IsValid() || peer.IsLinkLocalUnicast())
	switch {
	case a == r.From:
		return 4
	case a.Is6() && !near:
		return 0
	case peer.IsValid() && p.Masked().Contains(peer):
		return 3
	}
	return 2
}

// Receive waits for the next packet of protocol 112 on the interface. It ends
// with ctx's error, or net.ErrClosed after Close.
func (c *Conn) Receive(ctx context.Context) (Packet, error) {
	stop := context.AfterFunc(ctx, func() { c.raw.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	p, err := c.raw.read(make([]byte, maxPacket))
	if err == nil {
		return p, nil
	}
	if ctx.Err() != nil {
		return Packet{}, ctx.Err()
	}
	return Packet{}, fmt.Errorf("receive adverts on %s: %w", c.name, err)
}

// maxPacket is above the longest advert (255 IPv6 addresses); a longer packet is
// refused for its length.
const maxPacket = 4352
