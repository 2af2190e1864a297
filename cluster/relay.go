package cluster

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lbcluster/fsm"
)

// Limits of the streams that carry lease packets. A packet is worth nothing
// when it is late, so nothing on its way waits for long or piles up.
const (
	maxRelayed    = 1 << 14                // bytes of a packet; the frame before it is two bytes, its length
	relayQueue    = 64                     // packets to one member that wait for the network
	relayFresh    = 500 * time.Millisecond // older ones are not written any more
	relayWrite    = 2 * time.Second        // for one write, and for the peer's kernel to acknowledge it
	relayDial     = 3 * time.Second
	relayIdle     = 30 * time.Second // without a packet the receiving end hangs up
	relayBuffer   = 16 << 10         // of the sockets
	relayMaxPause = 5 * time.Second  // between attempts to connect
)

// relay carries lease packets between members over the members' port: one
// stream each way, which only its dialler writes to. It is the way that is left
// where a firewall drops UDP. Sending never waits: each member has a queue of
// its own, so that one that is stuck costs nobody else anything.
type relay struct {
	dial    func(ctx context.Context, to fsm.MemberID) (net.Conn, error)
	deliver func(from fsm.MemberID, packet []byte)
	log     *slog.Logger
	pause   time.Duration // after the first failed attempt; doubles

	lines   atomic.Pointer[map[fsm.MemberID]*relayLine]
	dropped atomic.Uint64 // packets that found no room or came too late

	mu   sync.Mutex
	from map[fsm.MemberID]net.Conn // the newest stream of each member
}

// relayLine is the way to one member.
type relayLine struct {
	queue chan relayed
	stop  context.CancelFunc
}

type relayed struct {
	packet []byte
	since  time.Time
}

func newRelay(s *session) *relay {
	r := &relay{
		log: s.log, pause: s.n.t.Retry / 4, deliver: s.n.cfg.OnLeasePacket,
		from: make(map[fsm.MemberID]net.Conn),
		dial: func(ctx context.Context, to fsm.MemberID) (net.Conn, error) {
			addr, ok := s.addrOf(to)
			if !ok {
				return nil, fmt.Errorf("%w: no member %s", fsm.ErrNotFound, to)
			}
			return s.mux.dial(ctx, to, addr, alpnLease)
		},
	}
	r.lines.Store(&map[fsm.MemberID]*relayLine{})
	return r
}

// Relay sends a sealed lease packet to a member over the members' port. It
// waits for nothing and takes no lock; false: the packet was dropped. The
// packet must not be changed afterwards.
func (n *Node) Relay(to fsm.MemberID, packet []byte) bool {
	r := n.relay.Load()
	return r != nil && r.send(to, packet)
}

// send puts a packet into the member's queue, in place of the oldest if it is full.
func (r *relay) send(to fsm.MemberID, packet []byte) bool {
	line := (*r.lines.Load())[to]
	if line == nil || len(packet) == 0 || len(packet) > maxRelayed {
		return false
	}
	for range 2 {
		select {
		case line.queue <- relayed{packet, time.Now()}:
			return true
		default:
		}
		select {
		case <-line.queue:
			r.dropped.Add(1)
		default:
		}
	}
	r.dropped.Add(1)
	return false
}

// run serves the streams of others from ln and keeps a line to each of the
// members that others lists, again after each change, until ctx ends.
func (r *relay) run(ctx context.Context, ln net.Listener, others func() ([]fsm.MemberID, <-chan struct{})) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.accept(ctx, g, ln) })
	g.Go(func() error {
		for {
			ids, changed := others()
			r.follow(ctx, g, ids)
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// follow starts lines to new members and stops those to members that are gone.
func (r *relay) follow(ctx context.Context, g *errgroup.Group, ids []fsm.MemberID) {
	old, next := *r.lines.Load(), make(map[fsm.MemberID]*relayLine, len(ids))
	for _, id := range ids {
		if next[id] = old[id]; next[id] != nil {
			continue
		}
		lineCtx, stop := context.WithCancel(ctx)
		line := &relayLine{queue: make(chan relayed, relayQueue), stop: stop}
		next[id] = line
		g.Go(func() error {
			defer stop()
			r.keep(lineCtx, id, line)
			return nil
		})
	}
	r.lines.Store(&next)
	for id, line := range old {
		if next[id] == nil {
			line.stop()
		}
	}
}

// keep connects to a member whenever there is something to send.
func (r *relay) keep(ctx context.Context, to fsm.MemberID, line *relayLine) {
	pause, up := r.pause, false
	for ctx.Err() == nil {
		var first relayed
		select {
		case first = <-line.queue:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		err := r.stream(ctx, to, line, first, func() { up = true })
		if ctx.Err() != nil {
			return
		}
		if up || time.Since(began) > relayMaxPause {
			r.log.Debug("the lease's stream ended", "to", to, "error", err)
			pause, up = r.pause, false
		}
		sleep(ctx, pause)
		pause = min(2*pause, relayMaxPause)
	}
}

// stream connects to a member and writes to it until that fails or ctx ends.
func (r *relay) stream(ctx context.Context, to fsm.MemberID, line *relayLine, first relayed, up func()) error {
	dialCtx, cancel := context.WithTimeout(ctx, relayDial)
	defer cancel()
	conn, err := r.dial(dialCtx, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	tune(conn)
	up()
	ended := make(chan struct{})
	watch := context.AfterFunc(ctx, func() { conn.Close() })
	defer watch()
	go func() { // nothing is ever sent to us here: what ends the read is the connection's end
		defer close(ended)
		_, _ = io.Copy(io.Discard, conn)
	}()
	defer func() { conn.Close(); <-ended }()
	for frames := r.collect(line, first); ; {
		if len(frames) > 0 {
			_ = conn.SetWriteDeadline(time.Now().Add(relayWrite))
			if _, err := conn.Write(frames); err != nil {
				return err
			}
		}
		select {
		case next := <-line.queue:
			frames = r.collect(line, next)
		case <-ended:
			return errors.New("the other end hung up")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// collect makes one write of all that waits and is still worth it.
func (r *relay) collect(l *relayLine, first relayed) []byte {
	var frames []byte
	for next := first; ; {
		if time.Since(next.since) < relayFresh {
			frames = binary.BigEndian.AppendUint16(frames, uint16(len(next.packet)))
			frames = append(frames, next.packet...)
		} else {
			r.dropped.Add(1)
		}
		if len(frames) > maxRelayed {
			return frames
		}
		select {
		case next = <-l.queue:
		default:
			return frames
		}
	}
}

// accept takes the streams that others opened.
func (r *relay) accept(ctx context.Context, g *errgroup.Group, ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil // the mux has ended
		}
		pc, ok := c.(*peerConn)
		if !ok {
			c.Close()
			continue
		}
		tune(pc)
		r.mu.Lock()
		if old := r.from[pc.peer]; old != nil {
			old.Close() // it dialled again: that one is dead
		}
		r.from[pc.peer] = pc
		r.mu.Unlock()
		g.Go(func() error {
			defer r.forget(pc)
			stop := context.AfterFunc(ctx, func() { pc.Close() })
			defer stop()
			err := r.read(pc, pc.peer)
			r.log.Debug("a lease's stream ended", "from", pc.peer, "error", err)
			return nil
		})
	}
}

func (r *relay) forget(pc *peerConn) {
	pc.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from[pc.peer] == net.Conn(pc) {
		delete(r.from, pc.peer)
	}
}

// read delivers a stream's packets until it ends.
func (r *relay) read(c net.Conn, from fsm.MemberID) error {
	in := bufio.NewReaderSize(c, maxRelayed+2)
	var size [2]byte
	for {
		if err := c.SetReadDeadline(time.Now().Add(relayIdle)); err != nil {
			return err
		}
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint16(size[:])
		if n == 0 || n > maxRelayed {
			return fmt.Errorf("a lease packet of %d bytes", n)
		}
		packet := make([]byte, n)
		if _, err := io.ReadFull(in, packet); err != nil {
			return err
		}
		if r.deliver != nil {
			r.deliver(from, packet)
		}
	}
}

// tune keeps little in the kernel, and gives up soon on a peer that does not
// acknowledge (RFC 5482, TCP_USER_TIMEOUT). Where the kernel refuses, the write
// deadline is left.
func tune(c net.Conn) {
	if pc, ok := c.(*peerConn); ok {
		c = pc.Conn
	}
	if tc, ok := c.(*tls.Conn); ok {
		c = tc.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetWriteBuffer(relayBuffer)
	_ = tcp.SetReadBuffer(relayBuffer)
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(relayWrite.Milliseconds()))
	})
}
