package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// Propose puts a command into the log and returns what it did once it is
// committed and applied by the leader. Any member takes it and forwards it.
// A zero Version is the newest that all members read; a zero At or By is filled in. The table's refusals come back as
// fsm's errors, and nothing was changed then, nor on ErrNoLeader; after
// ErrUncertain nobody knows yet.
//
// This member's own table may be a moment behind: see WaitRevision.
func (n *Node) Propose(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, n.t.Propose)
	defer cancel()
	s, err := n.current(ctx)
	if err != nil {
		return fsm.Result{}, err
	}
	if cmd.Version == 0 {
		t, _ := n.board.latest()
		if err := t.NotYet(cmd); err != nil {
			return fsm.Result{}, err
		}
		cmd.Version = min(n.reads, t.Speaks())
	}
	if cmd.At.IsZero() {
		cmd.At = time.Now()
	}
	if cmd.By == "" {
		cmd.By = string(s.id.ID)
	}
	data, err := cmd.Encode()
	if err != nil {
		return fsm.Result{}, err
	}
	return s.propose(ctx, data)
}

// propose looks for the leader until it has answered or ctx ends.
func (s *session) propose(ctx context.Context, data []byte) (fsm.Result, error) {
	for {
		res, err := s.proposeOnce(ctx, data)
		if err == nil || !errors.Is(err, errNotLeader) {
			return res, err
		}
		if ctx.Err() != nil {
			return fsm.Result{}, s.noLeader(err)
		}
		sleep(ctx, min(50*time.Millisecond, s.n.t.Heartbeat/4))
	}
}

// proposeOnce hands a command to whoever leads now. errNotLeader: it surely
// was not taken.
func (s *session) proposeOnce(ctx context.Context, data []byte) (fsm.Result, error) {
	leader, err := s.leader()
	if err != nil {
		return fsm.Result{}, err
	}
	if leader == s.id.ID {
		return s.applyHere(ctx, s.id.ID, data)
	}
	var res fsm.Result
	sent, err := s.call(ctx, leader, http.MethodPost, "/v1/propose", data, &res)
	var remote *remoteError
	switch {
	case err == nil, errors.As(err, &remote):
		return res, err
	case !sent:
		return res, fmt.Errorf("%w: %w", errNotLeader, err)
	default:
		return res, fmt.Errorf("%w: the leader %s was lost before it answered; the change may still take effect: %w", ErrUncertain, leader, err)
	}
}

// leader names the leader as far as this member knows: from Raft, or from
// what others say while Raft does not run here or hears from nobody.
func (s *session) leader() (fsm.MemberID, error) {
	inst, err := s.instance()
	if err == nil {
		if _, id := inst.raft.LeaderWithID(); id != "" {
			return fsm.MemberID(id), nil
		}
		err = fmt.Errorf("%s knows no leader", s.id.ID)
	}
	for _, k := range s.contacts.all() {
		if k.Err == "" && k.Hello.Leader != "" && k.Hello.Leader != s.id.ID {
			return k.Hello.Leader, nil
		}
	}
	return "", fmt.Errorf("%w: %w", errNotLeader, err)
}

// applyHere puts a member's command into the log; this member must lead.
func (s *session) applyHere(ctx context.Context, from fsm.MemberID, data []byte) (fsm.Result, error) {
	inst, err := s.leading()
	if err != nil {
		return fsm.Result{}, err
	}
	if err := s.rehearse(inst, from, data); err != nil {
		return fsm.Result{}, err
	}
	limit := s.n.t.Propose
	if d, ok := ctx.Deadline(); ok {
		limit = max(time.Until(d), time.Millisecond)
	}
	// Raft's own time limit covers only the way into its queue.
	done := make(chan outcome, 1)
	go func() {
		f := inst.raft.Apply(data, limit)
		o := applied(f)
		done <- o
		if o.err == nil {
			hurry(inst.raft, f.Index())
		}
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return fsm.Result{}, fmt.Errorf("%w: the change was not committed in time, but may still take effect: %w", ErrUncertain, context.Cause(ctx))
	}
}

// hurry has the followers apply an entry at once. They learn that it is committed
// with the next message to them, which is the next entry or else comes within
// raftConfig's CommitTimeout: so an entry is made that says nothing else.
func hurry(r *raft.Raft, index uint64) {
	if r.LastIndex() == index && len(r.GetConfiguration().Configuration().Servers) > 1 {
		r.Barrier(time.Second)
	}
}

// rehearse applies a command to the leader's table without showing the result, so
// that what would be refused does not get into the log: not a wrong token,
// above all. Only a leader that has applied all of its predecessors' log can.
func (s *session) rehearse(inst *instance, from fsm.MemberID, data []byte) error {
	t, _, halted := inst.machine.state()
	if halted != nil {
		return halted
	}
	cmd, err := fsm.Decode(data)
	if err != nil {
		return err
	}
	if err := errors.Join(t.MayWrite(cmd), s.ballots.take(from, cmd, time.Now())); err != nil {
		return err
	}
	if !s.steward.settled(inst.raft.CurrentTerm()) {
		if cmd.Remove != nil { // asked again in a moment: see mayRemove
			return fmt.Errorf("%w: %s is just taking over", errNotLeader, s.id.ID)
		}
		return nil
	}
	if cmd.IfRevision > t.Revision {
		return nil // whoever asks is ahead of this table, which is just being brought up to date
	}
	next, result, err := t.Apply(cmd)
	if err == nil && cmd.Remove != nil {
		err = s.mayRemove(inst, t, cmd.Remove.ID)
	}
	if err == nil {
		inst.machine.expect(rehearsal{data: data, from: t, next: next, result: result})
	}
	return err
}

// mayRemove refuses to remove a voter whom the others need. A removed member
// is locked out at once, while its vote goes only when the pause between
// changes allows: until then the others must be a majority without it.
func (s *session) mayRemove(inst *instance, t *fsm.Table, id fsm.MemberID) error {
	voters := votersOf(inst.raft.GetConfiguration().Configuration())
	if !slices.Contains(voters, id) {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(voters), func(v fsm.MemberID) bool { return v == id || gone(t, v) })
	n, _ := s.reachable(others, time.Now())
	if n > len(voters)/2 {
		return nil
	}
	return fmt.Errorf("%w: %s has a vote, and of %d voters only %d others are in contact: without a majority nothing could be changed any more: "+
		"let it leave by itself (lbcluster leave, on it), or wait until enough others vote", fsm.ErrInvalid, id, len(voters), n)
}

// applied reads what became of an entry.
func applied(f raft.ApplyFuture) outcome {
	switch err := f.Error(); {
	case err == nil:
		return f.Response().(outcome)
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return outcome{err: fmt.Errorf("%w: %w", errNotLeader, err)}
	default:
		return outcome{err: fmt.Errorf("%w: the leader was lost before the change was seen committed; it may still take effect: %w", ErrUncertain, err)}
	}
}

// noLeader says, for people, why there is none.
func (s *session) noLeader(cause error) error {
	committed, _ := s.floor.sets()
	reachable, missing := s.reachable(committed.Voters, time.Now())
	text := fmt.Sprintf("%d of %d voters reachable from %s", reachable, len(committed.Voters), s.id.ID)
	if len(missing) > 0 {
		text += " (not: " + strings.Join(missing, ", ") + ")"
	}
	return fmt.Errorf("%w: %s; nothing was changed: %w", ErrNoLeader, text, cause)
}

// reachable counts the voters in contact and describes the others.
func (s *session) reachable(voters []fsm.MemberID, now time.Time) (int, []string) {
	seen := s.contacts.all()
	count := 0
	var missing []string
	for _, id := range voters {
		k, ok := seen[id]
		switch {
		case id == s.id.ID:
			count++
		case !ok || k.Last.IsZero():
			missing = append(missing, string(id)+" never heard")
		case now.Sub(k.Last) > s.n.t.Silent:
			missing = append(missing, fmt.Sprintf("%s since %v", id, now.Sub(k.Last).Round(time.Second)))
		default:
			count++
		}
	}
	slices.Sort(missing)
	return count, missing
}

// Ask asks another member, or this one, what its Config.Answers tell. Arguments
// may follow the name as in a URL, "journal?limit=10": see [Arguments].
func (n *Node) Ask(ctx context.Context, id fsm.MemberID, what string) ([]byte, error) {
	s, err := n.current(ctx)
	if err != nil {
		return nil, err
	}
	if id == s.id.ID {
		name, args, _ := strings.Cut(what, "?")
		answer, ok := n.cfg.Answers[name]
		if !ok {
			return nil, fmt.Errorf("%w: %s does not answer %q", fsm.ErrNotFound, id, name)
		}
		values, err := url.ParseQuery(args)
		if err != nil {
			return nil, fmt.Errorf("%w: arguments of %q: %w", fsm.ErrInvalid, what, err)
		}
		return answer(withArguments(ctx, values))
	}
	var b []byte
	_, err = s.call(ctx, id, http.MethodGet, "/v1/ask/"+what, nil, &b)
	return b, err
}
