package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
)

// The protocols on the members' port.
const (
	alpnRaft   = "lbcluster-raft"
	alpnMember = "lbcluster-member"
	alpnJoin   = "lbcluster-join"
	alpnLease  = "lbcluster-lease"
	alpnReader = "lbcluster-reader"
)

const (
	handshakeLimit = 5 * time.Second // for a TLS handshake, from the first byte
	maxHandshakes  = 64              // at a time; a port scan holds no more
	maxJoins       = 16              // enrolment connections at a time
)

// peerConn is a connection whose other end is known. It hides the TLS type,
// because net/http closes TLS connections whose ALPN it does not know.
type peerConn struct {
	net.Conn
	peer  fsm.MemberID // empty: a joiner or a reader
	proto string
	// removed: it was a member once; all it is told is that it is none.
	removed bool
	forget  func()
}

// Close closes the connection and takes it off the books.
func (c *peerConn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// mux is the members' port: it accepts, makes TLS, checks who is there and
// hands the connection to whoever speaks its protocol.
type mux struct {
	cluster string
	creds   *credentials
	log     *slog.Logger
	// gone reports whether a member was removed from the cluster.
	gone func(fsm.MemberID) bool

	queues  map[string]*queue
	slots   chan struct{}
	joins   chan struct{}
	readers chan struct{}
	refused atomic.Uint64 // handshakes that failed, were refused or did not fit

	mu    sync.Mutex
	conns map[*peerConn]struct{} // of members, both directions
}

func newMux(cluster string, creds *credentials, gone func(fsm.MemberID) bool, log *slog.Logger) *mux {
	m := &mux{
		cluster: cluster, creds: creds, gone: gone, log: log,
		queues:  make(map[string]*queue),
		slots:   make(chan struct{}, maxHandshakes),
		joins:   make(chan struct{}, maxJoins),
		readers: make(chan struct{}, maxReaders),
		conns:   make(map[*peerConn]struct{}),
	}
	for _, p := range []string{alpnRaft, alpnMember, alpnJoin, alpnLease, alpnReader} {
		m.queues[p] = &queue{ch: make(chan net.Conn), done: make(chan struct{})}
	}
	return m
}

// run accepts on ln until ctx ends, then closes it and every connection.
func (m *mux) run(ctx context.Context, ln net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		ln.Close()
		for _, q := range m.queues {
			q.Close()
		}
		m.cut(func(fsm.MemberID) bool { return true })
		return nil
	})
	g.Go(func() error {
		for {
			c, err := ln.Accept()
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				// Out of descriptors, most likely: it passes.
				m.log.Warn("cannot accept a connection", "error", err)
				sleep(ctx, 100*time.Millisecond)
				continue
			}
			select {
			case m.slots <- struct{}{}:
				g.Go(func() error {
					defer func() { <-m.slots }()
					m.admit(ctx, c)
					return nil
				})
			default:
				m.refused.Add(1)
				c.Close()
			}
		}
	})
	return g.Wait()
}

// admit shakes hands and hands the connection over.
func (m *mux) admit(ctx context.Context, c net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	tc := tls.Server(c, m.serverConfig())
	err := tc.HandshakeContext(ctx)
	if err == nil {
		err = m.dispatch(ctx, tc)
	}
	if err != nil {
		m.refused.Add(1)
		m.log.Debug("connection refused", "from", c.RemoteAddr(), "error", err)
		c.Close()
	}
}

func (m *mux) dispatch(ctx context.Context, tc *tls.Conn) error {
	cs := tc.ConnectionState()
	switch cs.NegotiatedProtocol {
	case alpnJoin:
		return m.handLimited(ctx, tc, alpnJoin, m.joins)
	case alpnReader:
		if err := isReader(cs, m.cluster); err != nil {
			return fmt.Errorf("not a reader of this cluster: %w", err)
		}
		return m.handLimited(ctx, tc, alpnReader, m.readers)
	}
	id, err := memberOf(cs, m.cluster)
	if err != nil {
		return err
	}
	pc := m.track(tc, id, cs.NegotiatedProtocol)
	pc.removed = m.gone(id)
	if pc.removed && pc.proto != alpnMember {
		pc.forget()
		return fmt.Errorf("%w: %s", ErrRemoved, id)
	}
	return m.hand(ctx, pc.proto, pc)
}

// handLimited hands over a connection of somebody who is no member, and counts it
// among the places that there are for such.
func (m *mux) handLimited(ctx context.Context, c net.Conn, proto string, places chan struct{}) error {
	select {
	case places <- struct{}{}:
	default:
		return fmt.Errorf("too many connections for %s at a time", proto)
	}
	var once sync.Once
	free := func() { once.Do(func() { <-places }) }
	return m.hand(ctx, proto, &peerConn{Conn: c, proto: proto, forget: free})
}

func (m *mux) hand(ctx context.Context, proto string, c *peerConn) error {
	q := m.queues[proto]
	select {
	case q.ch <- c:
		return nil
	case <-q.done:
	case <-ctx.Done():
	}
	c.Close()
	return net.ErrClosed
}

// serverConfig demands a client certificate of everybody but joiners.
func (m *mux) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpnRaft, alpnMember, alpnJoin, alpnLease, alpnReader},
		// Session tickets would let a connection skip the certificate.
		SessionTicketsDisabled: true,
		Certificates:           []tls.Certificate{m.creds.leaf},
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if len(h.SupportedProtos) != 1 {
				return nil, errors.New("the client does not offer exactly one protocol")
			}
			proto := h.SupportedProtos[0]
			cfg := &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: []string{proto},
				SessionTicketsDisabled: true, Certificates: []tls.Certificate{m.creds.leaf},
			}
			switch proto {
			case alpnJoin:
			case alpnRaft, alpnMember, alpnLease, alpnReader:
				cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, m.creds.pool
			default:
				return nil, fmt.Errorf("unknown protocol %q", proto)
			}
			return cfg, nil
		},
	}
}

// dial connects to a member and demands that it is that member.
func (m *mux) dial(ctx context.Context, id fsm.MemberID, addr netip.AddrPort, proto string) (net.Conn, error) {
	if m.gone(id) {
		return nil, fmt.Errorf("%w: %s", ErrRemoved, id)
	}
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	tc := tls.Client(c, &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{proto},
		ServerName:   hostName(id, m.cluster),
		RootCAs:      m.creds.pool,
		Certificates: []tls.Certificate{m.creds.leaf},
	})
	if err := tc.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s at %s: %w", id, addr, err)
	}
	return m.track(tc, id, proto), nil
}

// track notes a connection with a member, so that cut finds it.
func (m *mux) track(c net.Conn, id fsm.MemberID, proto string) *peerConn {
	pc := &peerConn{Conn: c, peer: id, proto: proto}
	pc.forget = func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.conns, pc)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[pc] = struct{}{}
	return pc
}

// cut closes the connections with members that which names.
func (m *mux) cut(which func(fsm.MemberID) bool) {
	m.closeAll(func(c *peerConn) bool { return which(c.peer) })
}

// cutProtocol closes the connections that speak proto.
func (m *mux) cutProtocol(proto string) {
	m.closeAll(func(c *peerConn) bool { return c.proto == proto })
}

func (m *mux) closeAll(which func(*peerConn) bool) {
	m.mu.Lock()
	var out []*peerConn
	for c := range m.conns {
		if which(c) {
			out = append(out, c)
		}
	}
	m.mu.Unlock()
	for _, c := range out {
		c.Close()
	}
}

// queue is a net.Listener fed by the mux.
type queue struct {
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.ch:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return streamAddr("members") }

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pinned is the TLS configuration of a joiner: whoever answers must show a CA
// with this hash, and a member's certificate under it.
func pinned(ca []byte) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpnJoin},
		// The name and the roots are not known yet: VerifyConnection checks
		// the chain against the hash instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			i := slices.IndexFunc(cs.PeerCertificates, func(c *x509.Certificate) bool { return certHashIs(c, ca) })
			if i < 1 || cs.NegotiatedProtocol != alpnJoin {
				return ErrWrongCA
			}
			pool := x509.NewCertPool()
			pool.AddCert(cs.PeerCertificates[i])
			if _, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool}); err != nil {
				return fmt.Errorf("%w: %w", ErrWrongCA, err)
			}
			return nil
		},
	}
}
