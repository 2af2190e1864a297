package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"lbcluster/fsm"
)

// Leave takes this member out of its cluster: it gives up its vote when the
// pause between changes of the voters allows (several seconds), goes out of
// Raft and of the table, and keeps its old files in a folder aside. The node is
// in no cluster afterwards and may Join again. ErrLastMember: it is alone.
// When ctx ends half way the member goes on leaving; call Leave again.
func (n *Node) Leave(ctx context.Context) error {
	n.enrolling.Lock()
	defer n.enrolling.Unlock()
	s, err := n.current(ctx)
	if err != nil {
		return err
	}
	if len(n.Table().Members) == 1 {
		return ErrLastMember
	}
	// A member that was removed, or that is out since an earlier call, can
	// propose nothing any more.
	if st, err := s.askStanding(ctx); !errors.Is(err, ErrRemoved) && (err != nil || st.InConfig) {
		leaving := fsm.Leaving
		_, err := n.Propose(ctx, fsm.Command{Member: &fsm.SetMember{ID: s.id.ID, State: &leaving}})
		if err != nil && !errors.Is(err, fsm.ErrNotFound) {
			return fmt.Errorf("leaving: %w", err)
		}
		if err := s.awaitOut(ctx); err != nil {
			return err
		}
	}
	return n.forget(ctx, s)
}

// Abandon takes this machine out of its cluster without asking anybody: it is
// alone, or no majority answers. The others, if there are any, go on counting it
// until somebody removes it; its old files are kept in a folder aside.
func (n *Node) Abandon(ctx context.Context) error {
	n.enrolling.Lock()
	defer n.enrolling.Unlock()
	s, err := n.current(ctx)
	if err != nil {
		return err
	}
	return n.forget(ctx, s)
}

// awaitOut waits until the leader says that this member is in no Raft
// configuration any more.
func (s *session) awaitOut(ctx context.Context) error {
	for {
		st, err := s.askStanding(ctx)
		switch {
		case err == nil && !st.InConfig:
			return nil
		case errors.Is(err, ErrRemoved):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("leaving is under way (%+v), but did not end in time; call again: %w", st, ctx.Err())
		}
		sleep(ctx, min(200*time.Millisecond, s.n.t.Heartbeat))
	}
}

// askStanding asks the leader, whoever that is. A member that is out hears
// from nobody who leads, so it asks the others in turn; being refused by one
// that answered before means that the table has let go of it.
func (s *session) askStanding(ctx context.Context) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	st, err := s.standing(s.id.ID)
	if err == nil {
		return st, nil
	}
	for _, id := range s.others() {
		if _, err = s.call(ctx, id, http.MethodGet, "/v1/standing/"+string(s.id.ID), nil, &st); err == nil {
			return st, nil
		}
	}
	return standing{InConfig: true}, err
}

// forget ends the session and sets the identity aside. In memory the identity
// goes first, or Run would serve it again.
func (n *Node) forget(ctx context.Context, s *session) error {
	n.mu.Lock()
	newly := n.newly
	n.mu.Unlock()
	n.setIdentity(nil, false)
	s.leave()
	var err error
	var aside string
	select {
	case <-s.ended:
		aside, err = n.dir.setAside(time.Now())
	case <-ctx.Done():
		err = fmt.Errorf("the member is out of the cluster, but does not stop: %w", ctx.Err())
	}
	if err != nil {
		n.setIdentity(s.id, newly)
		return fmt.Errorf("leaving: %w; call again", err)
	}
	n.log.Info("left the cluster", "old_files", aside)
	n.board.reset()
	return nil
}

// RemoveMember takes another member, dead or alive, out of the table, which
// locks it out at once; its vote follows when the pause between changes
// allows.
func (n *Node) RemoveMember(ctx context.Context, id fsm.MemberID) error {
	if self, ok := n.Identity(); ok && self.ID == id {
		return fmt.Errorf("%w: a member removes itself by leaving", fsm.ErrInvalid)
	}
	if _, err := n.Propose(ctx, fsm.Command{Remove: &fsm.Remove{ID: id}}); err != nil {
		return fmt.Errorf("removing %s: %w", id, err)
	}
	return nil
}
