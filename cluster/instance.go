package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"lbcluster/fsm"
)

// instance is one life of Raft: from opening the store to closing it.
type instance struct {
	raft    *raft.Raft
	store   *store
	machine *machine
	trans   *raft.NetworkTransport
}

// raftConfig is how Raft is run. MaxRPCsInFlight 1 (see newTransport) and
// these time-outs come from measurements; pre-vote is on by default.
func (t Timing) raftConfig(id fsm.MemberID, log hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(id)
	c.HeartbeatTimeout = t.Heartbeat
	c.ElectionTimeout = t.Heartbeat
	c.LeaderLeaseTimeout = t.Heartbeat / 2
	// How late a follower learns of a commit at most; at rest the leader writes to
	// each follower this often, which is most of what an idle member does.
	c.CommitTimeout = min(100*time.Millisecond, t.Heartbeat/4)
	c.SnapshotInterval = t.SnapshotEvery
	c.SnapshotThreshold = t.SnapshotAfter
	c.TrailingLogs = t.Trailing
	// A member that was removed stays up: it says so in its status.
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	c.Logger = log
	return c
}

// serverAddress is how a member is written in the Raft configuration: with
// its id, so that a connection can demand that very member's certificate.
func serverAddress(id fsm.MemberID, addr netip.AddrPort) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + addr.String())
}

func parseServerAddress(a raft.ServerAddress) (fsm.MemberID, netip.AddrPort, error) {
	id, text, ok := strings.Cut(string(a), "@")
	if !ok || id == "" {
		return "", netip.AddrPort{}, fmt.Errorf("%q is no member@address", a)
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return "", netip.AddrPort{}, fmt.Errorf("%q is no member@address: %w", a, err)
	}
	return fsm.MemberID(id), addr, nil
}

// stream is Raft's way to the network for one instance.
type stream struct {
	mux  *mux
	self raft.ServerAddress
	done chan struct{}
	once sync.Once
}

func (s *stream) Accept() (net.Conn, error) {
	q := s.mux.queues[alpnRaft]
	select {
	case c := <-q.ch:
		return c, nil
	case <-q.done:
	case <-s.done:
	}
	return nil, net.ErrClosed
}

func (s *stream) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *stream) Addr() net.Addr { return streamAddr(s.self) }

func (s *stream) Dial(a raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, err := parseServerAddress(a)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.mux.dial(ctx, id, addr, alpnRaft)
}

type streamAddr string

func (a streamAddr) Network() string { return "tls" }
func (a streamAddr) String() string  { return string(a) }

// addresses finds the members' current addresses for Raft.
type addresses struct{ s *session }

// ServerAddr implements raft.ServerAddressProvider.
func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	m := fsm.MemberID(id)
	if m == a.s.id.ID {
		return serverAddress(m, a.s.id.Addr), nil
	}
	addr, ok := a.s.addrOf(m)
	if !ok {
		return "", fmt.Errorf("no address of member %s in the table", id)
	}
	return serverAddress(m, addr), nil
}

func (s *session) newTransport() *raft.NetworkTransport {
	t := s.n.t
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: addresses{s},
		Logger:                newRaftLogger(s.log, "raft-net", &s.removed),
		Stream:                &stream{mux: s.mux, self: serverAddress(s.id.ID, s.id.Addr), done: make(chan struct{})},
		MaxPool:               3,
		// No pipelining: a follower whose disk stalled was seen never to be
		// replicated to again with it.
		MaxRPCsInFlight:         1,
		Timeout:                 max(5*time.Second, 4*t.Heartbeat),
		MsgpackUseNewTimeFormat: true,
	})
}

// openStore opens the Raft store of a data folder. With create it must not be
// there yet, without it must: a member that lost its log must not vote again
// under the same identity.
func openStore(f folder, create bool) (rawStore, error) {
	path := f.path(dirRaft, fileStore)
	_, err := os.Stat(path)
	switch {
	case create && err == nil:
		return nil, fmt.Errorf("%s exists already: move %s aside", path, f.path(dirRaft))
	case !create && errors.Is(err, os.ErrNotExist):
		return nil, lostStore(f, path, errors.New("it is missing"))
	}
	if err := os.MkdirAll(f.path(dirRaft), 0o700); err != nil {
		return nil, fmt.Errorf("opening the Raft store: %w", err)
	}
	raw, err := raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		BoltOptions:             &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType},
		MsgpackUseNewTimeFormat: true,
	})
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("opening %s: another process uses it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return raw, nil
}

// lostStore says what to do about a store that cannot be used again.
func lostStore(f folder, path string, err error) error {
	return fmt.Errorf("the Raft store %s is damaged: %w: this member's memory cannot be trusted; "+
		"move %s aside, run `lbcluster member remove` for it on another member, and join again", path, err, f)
}

// openRaft starts one life of Raft.
func (s *session) openRaft(ctx context.Context) (*instance, error) {
	raw, err := s.n.open(s.n.dir, false)
	if err != nil {
		return nil, err
	}
	st := newStore(raw, s.floor, s.n.t.Write, s.n.t.Retry, &s.n.counts)
	if err := s.probe(ctx, st); err != nil {
		s.discard(ctx, st)
		return nil, err
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(s.n.dir.path(dirRaft), 2, newHCLogger(s.log, "raft-snapshot"))
	if err != nil {
		s.discard(ctx, st)
		return nil, fmt.Errorf("opening the snapshots: %w", err)
	}
	inst := &instance{store: st, machine: newMachine(s.floor, s.n.board.publish), trans: s.newTransport()}
	made := make(chan error)
	// An answer has one taker: this function, or nobody, when ctx has ended.
	answer := func(err error) {
		select {
		case made <- err:
		case <-ctx.Done():
			if err == nil {
				inst.raft.Shutdown()
			}
		}
	}
	st.parking.Store(true)
	// In a goroutine of its own: a read that hangs parks it, and ending the
	// store ends it.
	go func() {
		defer func() {
			if r := recover(); r != nil {
				answer(fmt.Errorf("starting Raft: %v", r))
			}
		}()
		var err error
		inst.raft, err = raft.NewRaft(s.n.t.raftConfig(s.id.ID, newRaftLogger(s.log, "raft", &s.removed)), inst.machine, st, st, snaps, inst.trans)
		answer(err)
	}()
	select {
	case err = <-made:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		inst.trans.Close()
		s.discard(ctx, st)
		return nil, fmt.Errorf("starting Raft: %w", err)
	}
	s.floor.complete()
	return inst, nil
}

// probe finds out whether the store takes writes before Raft relies on it,
// and brings the floor in line with the log.
func (s *session) probe(ctx context.Context, st *store) error {
	ctx, cancel := context.WithTimeout(ctx, s.n.t.Write)
	defer cancel()
	done := st.run(func() error {
		if err := st.raw.SetUint64([]byte("lbcluster-opened"), uint64(time.Now().Unix())); err != nil {
			return fmt.Errorf("writing to the Raft store: %w", err)
		}
		return s.floor.reconcile(st.raw)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("writing to the Raft store: no answer in %v", s.n.t.Write)
	}
}

// discard closes a store, in the worst case when its disk answers again.
func (s *session) discard(ctx context.Context, st *store) {
	closed := make(chan error, 1)
	go func() { closed <- st.close() }()
	select {
	case err := <-closed:
		if err != nil {
			s.log.Warn("closing the Raft store", "error", err)
		}
	case <-ctx.Done():
		select {
		case <-closed:
		case <-time.After(2 * time.Second):
			s.log.Warn("the disk does not answer: the Raft store stays open until the process ends")
		}
	}
}

// stop ends this life of Raft. A leader in good health hands over first, so
// that the cluster does not have to find out.
func (s *session) stop(ctx context.Context, inst *instance) {
	healthy := inst.store.usable() == nil
	if healthy && inst.raft.State() == raft.Leader && len(votersOf(inst.raft.GetConfiguration().Configuration())) > 1 {
		if err := within(4*s.n.t.Heartbeat, inst.raft.LeadershipTransfer().Error); err != nil {
			s.log.Warn("handing over leadership before stopping", "error", err)
		}
	}
	down := inst.raft.Shutdown()
	if !healthy || within(2*time.Second, down.Error) != nil {
		inst.store.end()
		if err := within(2*time.Second, down.Error); err != nil {
			s.log.Warn("Raft does not stop", "error", err)
		}
	}
	inst.trans.CloseStreams()
	inst.trans.Close()
	s.mux.cutProtocol(alpnRaft)
	s.discard(ctx, inst.store)
}

// within runs f and gives up waiting for it after d.
func within(d time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf("no answer in %v", d)
	}
}
