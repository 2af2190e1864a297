package cluster

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lbcluster/fsm"
)

func TestBallots(t *testing.T) {
	b, now := newBallots(), time.Now()
	votes := func(of fsm.MemberID) fsm.Command { return fsm.Command{Votes: &fsm.CastVotes{Member: of}} }
	taken := 0
	for i := range 10000 { // ten seconds of a thousand a second
		if b.take("m2", votes("m2"), now.Add(time.Duration(i)*time.Millisecond)) == nil {
			taken++
		}
	}
	if taken < voteBurst || taken > voteBurst+10*voteRate {
		t.Errorf("%d of a flood were taken", taken)
	}
	now = now.Add(10 * time.Second)
	if err := b.take("m3", votes("m3"), now); err != nil {
		t.Errorf("another member: %v", err)
	}
	attempts, err := 10000, error(nil)
	for ; err == nil; attempts++ { // empties what a moment has brought
		if err = b.take("m2", votes("m2"), now); err == nil {
			taken++
		}
	}
	if !errors.Is(err, ErrBusy) {
		t.Errorf("the flood: %v", err)
	}
	if err := b.take("m2", settle("fast"), now); err != nil {
		t.Errorf("what is no vote: %v", err)
	}
	if err := b.take("m3", votes("m2"), now); !errors.Is(err, fsm.ErrDenied) {
		t.Errorf("in another's name: %v", err)
	}
	refused, flooding := b.counts(now)
	if refused["m2"] != uint64(attempts-taken) || refused["m3"] != 1 || len(flooding) != 2 {
		t.Errorf("refused %v, flooding %v", refused, flooding)
	}
	if err := b.take("m2", votes("m2"), now.Add(time.Second)); err != nil {
		t.Errorf("a second later: %v", err)
	}
	if _, flooding := b.counts(now.Add(2 * floodMemory)); len(flooding) != 0 {
		t.Errorf("flooding %v long after", flooding)
	}
}

// TestFloodOfVotes: one member votes without end; it is held back and named, and the
// others' votes and writes go on.
func TestFloodOfVotes(t *testing.T) {
	t.Parallel()
	all := three(t)
	leader := leaderOf(t, all)
	confused, calm := all[1], all[2]
	if leader == confused {
		confused = all[0]
	} else if leader == calm {
		calm = all[0]
	}
	vote := func(m *machineUnderTest, i int) error {
		_, err := m.node.Propose(within10(t), fsm.Command{Votes: &fsm.CastVotes{Member: mustID(m), Opinions: []fsm.Opinion{{
			Target: "nothing", Vote: fsm.Vote{Detail: fmt.Sprint(i)},
		}}}})
		return err
	}
	var busy atomic.Uint64
	eventually(t, "the flood is held back", func() bool {
		var g sync.WaitGroup
		for i := range 20 {
			g.Go(func() {
				err := vote(confused, i)
				if errors.Is(err, ErrBusy) {
					busy.Add(1)
				} else if err != nil && !errors.Is(err, ErrUncertain) && !errors.Is(err, ErrNoLeader) { // a busy machine elects
					t.Error(err)
				}
			})
		}
		g.Wait()
		return busy.Load() > 0
	})
	if err := vote(calm, 0); err != nil {
		t.Errorf("another member's vote: %v", err)
	}
	if _, err := confused.node.Propose(within10(t), settle("fast")); err != nil {
		t.Errorf("another command of the confused one: %v", err)
	}
	id, counted, named := mustID(confused), uint64(0), false
	for _, m := range all {
		st := m.node.Status()
		counted += st.RefusedVotes[id]
		named = named || slices.Contains(st.Flooding, id)
	}
	if counted < busy.Load() || !named {
		t.Errorf("%d refusals are counted of %d; named: %v", counted, busy.Load(), named)
	}
}
