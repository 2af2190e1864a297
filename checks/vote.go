package checks

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"lbcluster/fsm"
)

const (
	// batch is how long changes of opinion are gathered before they are
	// proposed in one command: servers tend to go together.
	batch = 20 * time.Millisecond
	// A proposal that failed is made again after retryMin, then after twice as
	// long each time, at most retryMax.
	retryMin = 100 * time.Millisecond
	retryMax = 2 * time.Second
	// proposeTimeout bounds one proposal.
	proposeTimeout = 10 * time.Second
	// unseen bounds how long a committed proposal is trusted to show up in the
	// table before the opinions are compared with it again.
	unseen = 5 * time.Second
)

// vote proposes opinions while the table disagrees with them, until ctx ends.
func (r *Runner) vote(ctx context.Context) error {
	var sent fsm.Revision // the table's after our last proposal
	var until time.Time   // when we stop waiting to see it
	retry := time.Duration(0)
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.voting:
		case <-again.C:
		}
		if !pause(ctx, batch) {
			return nil
		}
		cmd, at := r.ballot()
		if cmd == nil {
			retry = 0
			continue
		}
		if left := time.Until(until); at < sent && left > 0 {
			again.Reset(left) // the table that has them is on its way
			continue
		}
		result, err := r.cast(ctx, *cmd)
		if err == nil {
			if retry > 0 {
				r.log.Info("votes on real servers are taken again", "opinions", len(cmd.Votes.Opinions))
			}
			sent, until, retry = result.Revision, time.Now().Add(unseen), 0
			again.Reset(unseen)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		r.log.Log(ctx, loudness(retry), "cannot vote on real servers, trying again", "error", err, "opinions", len(cmd.Votes.Opinions))
		retry = min(max(2*retry, retryMin), retryMax)
		if !pause(ctx, retry) {
			return nil
		}
		poke(r.voting)
	}
}

// loudness makes the first failure of a row a warning and keeps the rest quiet.
func loudness(retry time.Duration) slog.Level {
	if retry == 0 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (r *Runner) cast(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return r.propose(ctx, cmd)
}

// ballot returns the command that makes the table agree with the opinions, nil
// if it does, and the table's revision. Only a present director votes.
func (r *Runner) ballot() (*fsm.Command, fsm.Revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	self, ok := r.member()
	if !ok || self.Role != fsm.Director || self.State != fsm.Present {
		return nil, 0
	}
	var opinions []fsm.Opinion
	for name, t := range r.targets {
		voted, has := r.table.Votes[name][r.self]
		if t.known && (!has || voted.Up != t.up || t.up && voted.Weighs != t.weighs() || t.held && voted.Detail != t.flaps.String()) {
			opinions = append(opinions, fsm.Opinion{Target: name, Vote: t.vote()})
		}
	}
	if len(opinions) == 0 {
		return nil, r.table.Revision
	}
	slices.SortFunc(opinions, func(a, b fsm.Opinion) int { return cmp.Compare(a.Target, b.Target) })
	return &fsm.Command{
		By: string(r.self), At: time.Now(),
		Votes: &fsm.CastVotes{Member: r.self, Opinions: opinions},
	}, r.table.Revision
}
