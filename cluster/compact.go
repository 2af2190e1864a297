package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Raft bounds its log by the number of entries. That is right for votes and
// weights, of some hundred bytes; a configuration of ten thousand real servers is
// one entry of a megabyte and more, and eight thousand of those would be a disk
// full. So the log is bounded in bytes, too: a snapshot is taken when it has grown
// by so many, and as many entries stay behind it as half of that has room for.

// keepLogShort looks after the size of the log until ctx ends.
func (s *session) keepLogShort(ctx context.Context) error {
	for sleep(ctx, s.n.t.Retry); ctx.Err() == nil; sleep(ctx, s.n.t.Retry) {
		inst, err := s.instance()
		if err != nil || inst.store.usable() != nil || inst.store.grown.Load() < s.n.t.SnapshotBytes {
			continue
		}
		done := make(chan error, 1)
		go func() { done <- s.compact(inst) }()
		select {
		case err = <-done:
		case <-ctx.Done():
			return nil
		}
		if err != nil {
			s.log.Warn("the Raft log stays long for now", "error", err)
			sleep(ctx, 10*s.n.t.Retry)
		}
	}
	return nil
}

// compact takes a snapshot and has Raft cut the log behind it.
func (s *session) compact(inst *instance) error {
	before := inst.store.grown.Load()
	trailing, err := inst.store.fitting(s.n.t.SnapshotBytes/2, s.n.t.Trailing)
	if err != nil {
		return err
	}
	rc := inst.raft.ReloadableConfig()
	rc.TrailingLogs = trailing
	if err := inst.raft.ReloadConfig(rc); err != nil {
		return fmt.Errorf("telling Raft how many entries to keep: %w", err)
	}
	began := time.Now()
	err = inst.raft.Snapshot().Error()
	rc.TrailingLogs = s.n.t.Trailing
	if err := inst.raft.ReloadConfig(rc); err != nil {
		return fmt.Errorf("telling Raft how many entries to keep: %w", err)
	}
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("taking a snapshot: %w", err)
	}
	inst.store.grown.Add(-before)
	s.log.Info("the Raft log was compacted for its size", "entries_kept", trailing, "grown_bytes", before, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// fitting is how many of the newest entries have room in so many bytes: at least
// one, at most so many.
func (s *store) fitting(bytes int64, most uint64) (uint64, error) {
	first, err := s.raw.FirstIndex()
	if err != nil {
		return 0, fmt.Errorf("reading the start of the Raft log: %w", err)
	}
	last, err := s.raw.LastIndex()
	if err != nil {
		return 0, fmt.Errorf("reading the end of the Raft log: %w", err)
	}
	n := uint64(0)
	for index := last; index >= max(first, 1) && n < most; index-- {
		var l raft.Log
		if err := s.raw.GetLog(index, &l); err != nil {
			return 0, fmt.Errorf("reading entry %d of the Raft log: %w", index, err)
		}
		if bytes -= size(&l); bytes < 0 {
			break
		}
		n++
	}
	return max(n, 1), nil
}

// size is about what an entry takes on disk.
func size(l *raft.Log) int64 { return int64(len(l.Data) + len(l.Extensions) + 64) }
