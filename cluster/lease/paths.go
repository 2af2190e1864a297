package lease

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
)

// A packet goes every way there is (rule 3.9): from each local address to the
// peer's address in the same network, from the main address to the main
// address, and through the relay. It is one packet with one counter, so the
// receiver takes the copy that comes first and drops the others. No copy waits
// for another, so a slow TCP connection delays no datagram.
//
// One kind of packet is spared the relay: the first Ask of a round and the first
// answer to it, between two members who hear each other by datagrams. At rest
// these are nearly all packets, and a TLS record costs both ends as much as the
// datagram. The repetition within the round, and its answer, go every way, so a
// firewall that begins to drop UDP, in one direction even, costs no renewal:
// there is no silence that has to be noticed first.

// arrival is a packet and the way it came. Of the relay both addresses are zero.
type arrival struct {
	b     []byte
	local netip.Addr
	from  netip.AddrPort
}

// way is a pair of addresses between this member and a peer; zero: the relay.
type way struct {
	local netip.Addr // which socket
	to    netip.AddrPort
}

// maxWays bounds the ways to one peer, and so the copies of a packet.
const maxWays = 8

// waysTo lists the ways to a peer's addresses, the first of which is its main
// one: main address to main address whatever lies between, and one in each
// further network that both share, between the first address of each. Both sides
// list addresses alike, so that each way is used in both directions. An address
// of the peer that shares no network with us is no way of its own: routers
// between would take it over the same wires.
func waysTo(main netip.Addr, locals []netip.Prefix, peer []netip.AddrPort) []way {
	if i := slices.IndexFunc(locals, func(p netip.Prefix) bool { return p.Addr() == main }); i > 0 {
		locals = slices.Concat(locals[i:i+1], locals[:i], locals[i+1:]) // the main one first, as the peer has it
	}
	var ways []way
	var done []netip.Prefix // networks that have a way
	for i, to := range peer {
		at := slices.IndexFunc(locals, func(p netip.Prefix) bool { return p.Contains(to.Addr()) })
		if i == 0 {
			ways = append(ways, way{main, to})
		}
		if at < 0 || slices.Contains(done, locals[at].Masked()) || locals[at].Addr() == to.Addr() {
			continue
		}
		done = append(done, locals[at].Masked())
		ways = with(ways, way{locals[at].Addr(), to})
	}
	return ways[:min(len(ways), maxWays)]
}

// sockets keeps a socket open on each local address, whatever becomes of the
// address meanwhile.
type sockets struct {
	d       *Driver
	main    netip.AddrPort
	listen  func(netip.AddrPort) (Conn, error)
	packets chan<- arrival
	wanted  chan []netip.Addr // one slot: beside the main address
	retry   time.Duration
	open    map[netip.Addr]Conn // run's; before it, prepare's

	// What the loop and Status read.
	conns   atomic.Pointer[map[netip.Addr]Conn]
	trouble atomic.Pointer[map[netip.Addr]string]
}

func newSockets(d *Driver, packets chan<- arrival) *sockets {
	s := &sockets{d: d, main: d.cfg.Listen, packets: packets, wanted: make(chan []netip.Addr, 1), retry: time.Second, open: map[netip.Addr]Conn{}}
	s.listen = d.cfg.Open
	if s.listen == nil {
		s.listen = func(at netip.AddrPort) (Conn, error) {
			c, err := listen(at)
			if err != nil {
				return nil, err // not a nil *udpConn in a Conn
			}
			return c, nil
		}
	}
	s.conns.Store(&map[netip.Addr]Conn{})
	s.trouble.Store(&map[netip.Addr]string{})
	return s
}

// prepare opens the main address's socket, so that the first packet has one.
func (s *sockets) prepare() { s.match([]netip.Addr{s.main.Addr()}, func(netip.Addr, Conn) {}) }

// run opens and closes sockets as the local addresses change, until ctx ends.
// An address that can't be bound is shown and tried again: it may come back.
func (s *sockets) run(ctx context.Context) error {
	var g errgroup.Group
	defer func() {
		for _, c := range s.open {
			c.Close() // ends its receiver
		}
		_ = g.Wait()
	}()
	died := make(chan netip.Addr)
	serve := func(at netip.Addr, c Conn) {
		g.Go(func() error {
			if s.receive(at, c) {
				select {
				case died <- at:
				case <-ctx.Done():
				}
			}
			return nil
		})
	}
	for at, c := range s.open {
		serve(at, c)
	}
	want := []netip.Addr{s.main.Addr()}
	for {
		var timer <-chan time.Time
		if again := s.match(want, serve); again {
			timer = time.After(s.retry)
		}
		select {
		case locals := <-s.wanted:
			want = with(locals, s.main.Addr())
		case at := <-died:
			if c := s.open[at]; c != nil {
				c.Close()
				delete(s.open, at)
			}
		case <-timer:
		case <-ctx.Done():
			return nil
		}
	}
}

// match opens what is wanted and not open, and closes the rest; true: not all of
// it could be opened.
func (s *sockets) match(want []netip.Addr, serve func(netip.Addr, Conn)) (again bool) {
	for at, c := range s.open {
		if !slices.Contains(want, at) {
			c.Close()
			delete(s.open, at)
		}
	}
	trouble := map[netip.Addr]string{}
	for _, at := range want {
		if s.open[at] != nil {
			continue
		}
		c, err := s.socket(at)
		if err != nil {
			trouble[at] = err.Error()
			continue
		}
		s.open[at] = c
		serve(at, c)
	}
	s.complain(trouble)
	conns := maps.Clone(s.open)
	s.conns.Store(&conns)
	s.trouble.Store(&trouble)
	return len(trouble) > 0
}

func (s *sockets) socket(at netip.Addr) (Conn, error) {
	if c := s.d.cfg.Conn; c != nil && at == s.main.Addr() {
		return c, nil
	}
	return s.listen(netip.AddrPortFrom(at, s.main.Port()))
}

// complain logs what went wrong once, not at each try.
func (s *sockets) complain(trouble map[netip.Addr]string) {
	before := *s.trouble.Load()
	for at, why := range trouble {
		if before[at] != why {
			s.d.cfg.Log.Warn("no lease packets over one of this machine's addresses; trying again", "addr", at, "err", why)
		}
	}
	for at := range before {
		if trouble[at] == "" {
			s.d.cfg.Log.Info("no trouble any more with an address for lease packets", "addr", at)
		}
	}
}

// maxReceiveErrors is how many errors in a row a socket is given before it is
// opened anew; one ICMP error of a peer that is down is one of them.
const maxReceiveErrors = 1000

// receive moves packets from a socket to the loop. They get their time when
// the loop takes them (R1), not here. True: the socket fails for good.
func (s *sockets) receive(at netip.Addr, conn Conn) bool {
	buf := make([]byte, 1<<16)
	for failures := 0; failures < maxReceiveErrors; {
		n, from, err := conn.Receive(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return false
		case err != nil:
			failures++
			time.Sleep(time.Millisecond)
			continue
		}
		failures = 0
		s.d.enqueue(s.packets, arrival{slices.Clone(buf[:n]), at, from})
	}
	return true
}

// enqueue hands a packet to the loop, or drops it: the loop is late.
func (d *Driver) enqueue(packets chan<- arrival, a arrival) {
	select {
	case packets <- a:
	default:
		d.crowded.Add(1)
	}
}

// spread gives a packet to every way to a peer, and to the relay unless it is
// spared; false: to none.
func (l *loop) spread(to fsm.MemberID, p []byte, spareRelay bool) bool {
	sent := false
	conns := *l.socks.conns.Load()
	for _, w := range l.ways[to] {
		if c := conns[w.local]; c != nil && c.Send(p, w.to) == nil {
			sent = true
		}
	}
	if spareRelay && sent {
		return true
	}
	if l.d.cfg.Relay != nil && l.d.cfg.Relay(to, p) {
		sent = true
	}
	return sent
}

// exchange is a kind of message about a router, to a member.
type exchange struct {
	to     fsm.MemberID
	router uint64
	kind   Kind
}

// routine reports whether all of ms are said for the first time and will be
// said again in the same round if they are lost.
func (l *loop) routine(to fsm.MemberID, ms []Message) bool {
	all := true
	for _, m := range ms {
		if m.Kind != Ask && m.Kind != Grant {
			all = false
			continue
		}
		x := exchange{to, m.Router, m.Kind}
		if l.uttered[x] == m.Seq {
			all = false
		}
		l.uttered[x] = m.Seq
	}
	return all
}

// byDatagram reports whether this member and a peer heard each other by
// datagrams lately.
func (l *loop) byDatagram(now int64, id fsm.MemberID) bool {
	limit := hearingRenews * int64(l.d.cfg.Params.Renew)
	t := l.told[id]
	if t == nil || t.at <= now-limit {
		return false
	}
	self := func(h Heard) bool { return h.Member == l.d.cfg.Self }
	return slices.ContainsFunc(t.heard, self) && l.hear.byDatagram(id, now, limit)
}

// reroute takes over the addresses of peers and of this member.
func (l *loop) reroute(w Want) {
	main := l.d.cfg.Listen.Addr()
	l.ways = make(map[fsm.MemberID][]way, len(w.Peers))
	for id, addrs := range w.Peers {
		l.ways[id] = waysTo(main, w.Locals, addrs)
	}
	var locals []netip.Addr
	for _, p := range w.Locals {
		locals = with(locals, p.Addr())
	}
	replace(l.socks.wanted, locals)
	l.hear.peers(l.ways, l.d.cfg.Relay != nil)
	clear(l.uttered) // who and what is gone needs no entry
}
