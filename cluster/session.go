package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
)

// session is a node's time as one member, from enrolment or start until it
// leaves or the daemon stops.
type session struct {
	n        *Node
	id       *identityFile
	creds    *credentials
	log      *slog.Logger
	floor    *floor
	mux      *mux
	client   *http.Client
	contacts *contacts
	gossip   *gossip
	steward  *steward
	relay    *relay
	joins    *bucket
	ballots  *ballots

	removed atomic.Bool // another member said that this one was removed

	kept  fsm.Revision // of the table in the file; keepNotes's alone
	ended chan struct{}
	leave context.CancelFunc

	mu      sync.Mutex
	inst    *instance // nil while Raft does not run
	trouble error     // why not
}

// newSession makes the parts; run starts them.
func (n *Node) newSession(id *identityFile) (*session, error) {
	creds, err := n.dir.credentials()
	if err != nil {
		return nil, err
	}
	fl, err := openFloor(n.dir.path(dirRaft, fileFloor), id.Epoch)
	if err != nil {
		return nil, err
	}
	s := &session{
		n: n, id: id, creds: creds, floor: fl, ended: make(chan struct{}),
		log:   n.log.With("member", string(id.ID)),
		joins: newBucket(20, 5), ballots: newBallots(),
	}
	s.contacts = &contacts{every: n.t.Poll, members: s.others, greet: s.greet}
	s.gossip = newGossip(s)
	s.steward = newSteward(s)
	s.mux = newMux(id.Cluster, creds, s.isGone, s.log)
	s.client = s.newClient()
	s.relay = newRelay(s)
	return s, nil
}

// listen opens the members' port, trying until it works or ctx ends.
func (s *session) listen(ctx context.Context) (net.Listener, error) {
	pause := s.n.t.Retry
	for {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.id.Addr.String())
		if err == nil {
			return ln, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.setInstance(nil, fmt.Errorf("cannot serve members on %s: %w", s.id.Addr, err))
		s.log.Error("cannot serve members; trying again", "addr", s.id.Addr, "error", err)
		sleep(ctx, pause)
		pause = min(2*pause, 10*s.n.t.Retry)
	}
}

// run serves until ctx ends. The rest of the session outlives ctx by as much
// as Raft needs to hand over its leadership.
func (s *session) run(ctx context.Context) error {
	defer close(s.ended)
	ln, err := s.listen(ctx)
	if err != nil {
		return nil
	}
	g, inner := errgroup.WithContext(context.WithoutCancel(ctx))
	inner, cancel := context.WithCancel(inner)
	defer cancel()
	g.Go(func() error {
		defer cancel()
		return s.keepRaft(ctx)
	})
	g.Go(func() error { return s.mux.run(inner, ln) })
	g.Go(func() error {
		return serve(inner, newServer(s.memberHandler(), time.Minute, maxCommand, s.log), s.mux.queues[alpnMember])
	})
	g.Go(func() error {
		srv := newServer(s.joinHandler(), 15*time.Second, maxEnrolRequest, s.log)
		srv.SetKeepAlivesEnabled(false) // whoever has been answered makes room
		return serve(inner, srv, s.mux.queues[alpnJoin])
	})
	g.Go(func() error {
		return serve(inner, newServer(s.readerHandler(), 15*time.Second, maxEnrolRequest, s.log), s.mux.queues[alpnReader])
	})
	g.Go(func() error { return s.relay.run(inner, s.mux.queues[alpnLease], s.othersNow) })
	g.Go(func() error { return s.contacts.run(inner) })
	g.Go(func() error { return s.gossip.run(inner) })
	g.Go(func() error { return s.steward.run(ctx) })
	g.Go(func() error { return s.followTable(inner) })
	g.Go(func() error { return s.keepNotes(inner) })
	g.Go(func() error { return s.sayWhatIsRead(ctx) })
	g.Go(func() error { return s.keepLogShort(inner) })
	err = g.Wait()
	s.client.CloseIdleConnections()
	return err
}

func (s *session) isGone(id fsm.MemberID) bool {
	t, _ := s.n.board.latest()
	return gone(t, id)
}

// keepRaft runs Raft, and runs it again when its store failed.
func (s *session) keepRaft(ctx context.Context) error {
	pause := s.n.t.Retry
	for first := true; ctx.Err() == nil; first = false {
		if !first {
			sleep(ctx, pause)
			pause = min(2*pause, 10*s.n.t.Retry)
			s.n.counts.reopened.Add(1)
		}
		inst, err := s.openRaft(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.log.Error("Raft does not start; trying again", "error", err, "pause", pause)
			}
			s.setInstance(nil, err)
			continue
		}
		s.setInstance(inst, nil)
		began := time.Now()
		select {
		case <-inst.store.failed:
			err = inst.store.failure
			s.log.Error("the Raft store failed; Raft stops and starts again", "error", err)
		case <-ctx.Done():
			err = errors.New("stopping")
		}
		s.stop(ctx, inst)
		s.setInstance(nil, err)
		if time.Since(began) > 30*s.n.t.Retry {
			pause = s.n.t.Retry
		}
	}
	return nil
}

func (s *session) setInstance(inst *instance, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inst, s.trouble = inst, why
}

// instance returns the running Raft, or why there is none.
func (s *session) instance() (*instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inst != nil {
		return s.inst, nil
	}
	if s.trouble != nil {
		return nil, fmt.Errorf("Raft does not run here: %w", s.trouble)
	}
	return nil, errors.New("Raft is starting here")
}

// followTable acts on each new table: connections of removed members are cut.
// It waits for no disk.
func (s *session) followTable(ctx context.Context) error {
	for {
		t, changed := s.n.board.latest()
		s.mux.cut(func(id fsm.MemberID) bool { return gone(t, id) })
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// notesShare: writing notes takes at most one part in so many of the time.
const notesShare = 20

// keepNotes writes the newest table to disk, to start with next time, and the
// committed configuration. A disk that hangs does not hold up the end.
func (s *session) keepNotes(ctx context.Context) error {
	flush := false
	for {
		t, changed := s.n.board.latest()
		written, began := make(chan struct{}), time.Now()
		go func() {
			defer close(written)
			s.keepTable(t)
			if !flush {
				return
			}
			if err := s.floor.flush(); err != nil {
				s.log.Warn("noting the committed configuration", "error", err)
			}
		}()
		select {
		case <-written:
		case <-ctx.Done():
			if within(2*time.Second, func() error { <-written; return nil }) != nil {
				s.log.Warn("the disk does not answer: notes for the next start may be missing")
			}
			return nil
		}
		took := time.Since(began)
		select {
		case <-changed:
			flush = false
		case <-s.floor.dirty:
			flush = true
		case <-ctx.Done():
			return nil
		}
		// A burst of changes is written once, and a large table, which takes a
		// second to write on a slow machine, no more than a twentieth of the time.
		sleep(ctx, min(max(100*time.Millisecond, notesShare*took), 10*time.Second))
	}
}

func (s *session) keepTable(t *fsm.Table) {
	if t.Revision == 0 || t.Revision == s.kept {
		return
	}
	b, err := t.Snapshot()
	if err == nil {
		err = writeFile(s.n.dir.path(fileTable), b)
	}
	if err != nil {
		s.log.Warn("keeping a copy of the table", "error", err)
		return
	}
	s.kept = t.Revision
}

// hello is what this member says of itself.
func (s *session) hello() hello {
	t, _ := s.n.board.latest()
	h := hello{ID: s.id.ID, Revision: t.Revision}
	inst, err := s.instance()
	if err != nil {
		h.Trouble = err.Error()
		return h
	}
	_, applied, halted := inst.machine.state()
	h.Applied, h.Term = applied, inst.raft.CurrentTerm()
	_, leader := inst.raft.LeaderWithID()
	h.Leader = fsm.MemberID(leader)
	if halted != nil {
		h.Trouble = halted.Error()
	}
	return h
}

// standing says where a member stands in the table and in Raft. Only the
// leader knows.
func (s *session) standing(id fsm.MemberID) (standing, error) {
	inst, err := s.leading()
	if err != nil {
		return standing{}, err
	}
	t, _, _ := inst.machine.state()
	var st standing
	_, st.InTable = findMember(t.Members, id)
	for _, srv := range inst.raft.GetConfiguration().Configuration().Servers {
		if srv.ID == raft.ServerID(id) {
			st.InConfig, st.Voter = true, srv.Suffrage == raft.Voter
		}
	}
	return st, nil
}

// leading returns the instance if this member leads, else errNotLeader.
func (s *session) leading() (*instance, error) {
	inst, err := s.instance()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLeader, err)
	}
	if inst.raft.State() != raft.Leader {
		return nil, fmt.Errorf("%w: %s is not", errNotLeader, s.id.ID)
	}
	return inst, nil
}
