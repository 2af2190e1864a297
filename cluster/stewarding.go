package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// catchUpSlack is by how many entries a member may lag and still count as
// caught up: it answered a moment ago, and the log went on since.
const catchUpSlack = 32

// steward is the leader's loop around [nextChange].
type steward struct {
	s      *session
	undo   countdown // of run alone
	drains drains    // likewise
	ramps  ramps     // likewise

	mu      sync.Mutex
	term    uint64 // of the leadership in which it settled
	at      time.Time
	changed time.Time // last change of the voters that it saw committed
	last    change    // for status
}

func newSteward(s *session) *steward { return &steward{s: s} }

// settled reports whether this member, leading in term, has applied all that
// was committed before.
func (w *steward) settled(term uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return term != 0 && w.term == term
}

func (w *steward) doing() change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// run acts while this member leads, until ctx ends.
func (w *steward) run(ctx context.Context) error {
	tick := time.NewTicker(max(w.s.n.t.Heartbeat/4, 20*time.Millisecond))
	defer tick.Stop()
	for {
		t, tableChanged := w.s.n.board.latest()
		w.undo.look(t, time.Now()) // whoever leads or not: who leads when it ends has counted, too
		w.drains.look(t, time.Now())
		w.ramps.look(t, time.Now())
		did, err := w.step(ctx)
		if err != nil && ctx.Err() == nil {
			w.s.log.Warn("a change of the members did not work; trying again", "error", err)
			sleep(ctx, w.s.n.t.Heartbeat)
		}
		if did {
			continue
		}
		select {
		case <-tableChanged:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// step does at most one change.
func (w *steward) step(ctx context.Context) (did bool, err error) {
	inst, err := w.s.leading()
	if err != nil {
		w.rest()
		return false, nil
	}
	term := inst.raft.CurrentTerm()
	if !w.settled(term) {
		return false, w.settle(ctx, inst, term)
	}
	t, _, halted := inst.machine.state()
	if halted != nil {
		return false, w.stepDown(inst)
	}
	if t.Cluster == "" {
		return w.found(ctx)
	}
	if rev, over := w.undo.over(t, time.Now()); over {
		return true, w.takeBack(ctx, rev)
	}
	if o, over := w.drains.over(t, time.Now()); over {
		return true, w.endDrain(ctx, o)
	}
	if steps := w.ramps.over(t, time.Now()); len(steps) > 0 {
		return true, w.goOn(ctx, steps)
	}
	v := w.look(inst, t)
	c := nextChange(v)
	w.mu.Lock()
	w.last = c
	w.mu.Unlock()
	if c.Kind == noChange {
		return false, nil
	}
	w.s.log.Info("changing the members", "change", string(c.Kind), "id", string(c.ID), "why", c.Why)
	if err := w.do(ctx, inst, v, c); err != nil {
		return false, fmt.Errorf("%s %s: %w", c.Kind, c.ID, err)
	}
	return true, nil
}

func (w *steward) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = change{}
}

// settle waits until the first entry of this leadership is committed and
// everything before it applied. Only from then on does the leader know enough
// to act, and from then it counts the pause before the first change (R16).
func (w *steward) settle(ctx context.Context, inst *instance, term uint64) error {
	limit := 10 * w.s.n.t.Heartbeat
	if err := w.await(ctx, inst.raft.Barrier(limit), limit); err != nil {
		if inst.raft.State() != raft.Leader || inst.raft.CurrentTerm() != term {
			return nil // it was a short leadership
		}
		return fmt.Errorf("taking over: %w", err)
	}
	if inst.raft.State() != raft.Leader || inst.raft.CurrentTerm() != term {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.term, w.at, w.changed = term, time.Now(), time.Time{}
	return nil
}

// await waits for one of Raft's futures, which have no time limit of their own.
func (w *steward) await(ctx context.Context, f raft.Future, limit time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf("no answer in %v", limit)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// found proposes the founding command, if this is the founder.
func (w *steward) found(ctx context.Context) (bool, error) {
	id := w.s.id
	if id.Profile == "" {
		return false, nil
	}
	if _, err := w.s.n.Propose(ctx, id.founding(time.Now(), w.s.n.reads)); err != nil {
		return false, fmt.Errorf("founding the cluster: %w", err)
	}
	return true, nil
}

// stepDown hands over: a leader that cannot read the log must not lead.
func (w *steward) stepDown(inst *instance) error {
	if err := within(4*w.s.n.t.Heartbeat, inst.raft.LeadershipTransfer().Error); err != nil {
		return fmt.Errorf("handing over, since this member cannot read the log: %w", err)
	}
	return nil
}

// look gathers the view.
func (w *steward) look(inst *instance, t *fsm.Table) view {
	now := time.Now()
	// The index before the servers: a change in between makes what is decided
	// from this view fail, instead of pass unseen.
	committed, appended := w.s.floor.sets()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(committed.Voters, appended.Voters) {
		// A change whose commit was not seen in time: the pause begins with
		// the commit, whenever that is.
		w.changed = now
	}
	v := view{
		Now: now, Self: w.s.id.ID, Members: t.Members, Config: appended.Tag.Index, Settled: w.at, Changed: w.changed,
		Spacing: w.s.n.t.spacing(t.Settings), Silent: w.s.n.t.Silent, Back: w.s.n.t.Back,
		Progress: make(map[fsm.MemberID]progress),
	}
	for _, srv := range inst.raft.GetConfiguration().Configuration().Servers {
		v.Servers = append(v.Servers, server{fsm.MemberID(srv.ID), srv.Suffrage == raft.Voter})
	}
	commit := inst.raft.CommitIndex()
	for id, k := range w.s.contacts.all() {
		v.Progress[id] = progress{
			CaughtUp: k.Hello.Applied > 0 && k.Hello.Applied+catchUpSlack >= commit && k.Hello.Trouble == "",
			Last:     k.Last, Since: k.Since,
		}
	}
	return v
}

// do carries out one change and waits until it is committed. Changes of the
// Raft configuration are bound to the one that the view was made of: a steward
// that stalled after it looked, lost the leadership and has it again must not
// follow up at once the change that another leader made meanwhile (R16).
func (w *steward) do(ctx context.Context, inst *instance, v view, c change) error {
	limit := 10 * w.s.n.t.Heartbeat
	id := raft.ServerID(c.ID)
	var err error
	switch c.Kind {
	case addNonvoter, promote:
		m, _ := findMember(v.Members, c.ID)
		add := inst.raft.AddNonvoter
		if c.Kind == promote {
			add = inst.raft.AddVoter
		}
		err = w.await(ctx, add(id, serverAddress(c.ID, m.Addr), v.Config, limit), limit)
	case demote:
		err = w.await(ctx, inst.raft.DemoteVoter(id, v.Config, limit), limit)
	case dropServer:
		err = w.await(ctx, inst.raft.RemoveServer(id, v.Config, limit), limit)
	case handOver:
		to, _ := findMember(v.Members, c.ID)
		err = w.await(ctx, inst.raft.LeadershipTransferToServer(id, serverAddress(c.ID, to.Addr)), limit)
	default:
		err = w.propose(ctx, c)
	}
	srv, _ := v.server(c.ID)
	if c.changesVoters(srv.Voter) {
		// Also after an error: the change may be committed yet.
		w.mu.Lock()
		w.changed = time.Now()
		w.mu.Unlock()
	}
	return err
}

// propose makes the changes that are the table's.
func (w *steward) propose(ctx context.Context, c change) error {
	cmd := fsm.Command{Member: &fsm.SetMember{ID: c.ID}}
	switch c.Kind {
	case markPresent:
		state := fsm.Present
		cmd.Member.State = &state
	case markSilent, markBack:
		silent := c.Kind == markSilent
		cmd.Member.Silent = &silent
	case removeMember:
		cmd = fsm.Command{Remove: &fsm.Remove{ID: c.ID}}
	}
	_, err := w.s.n.Propose(ctx, cmd)
	return err
}
