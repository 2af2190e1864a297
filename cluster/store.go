package cluster

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// errStoreFailed is what a store says once an append went wrong.
var errStoreFailed = errors.New("the Raft store failed and is not used until it has been opened again")

// rawStore is the Raft log and its small registers, as raft-boltdb has them.
type rawStore interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// store stands between Raft and the disk, because Raft trusts disks too much:
// it stays leader for ever behind an append that hangs, and it panics when a
// register cannot be written or an entry cannot be read.
//
//   - An append that takes longer than the limit, or fails, fails the store:
//     Raft gets an error and steps down, every later append is refused, and
//     Failed tells the node, which stops this Raft, waits for the write that is
//     still under way, and opens the store again. So a late write is read back
//     like any other, as after a crash, and never appears behind Raft's back.
//   - Registers and reads that fail are tried again. Raft's goroutine waits;
//     callers have their own time limits. When the node stops, such a goroutine
//     is ended instead of given an error. After the limit they fail the store
//     too: a Raft that waits answers nobody, while those who ask open one
//     connection after another.
//
// It also tells [floor] of every configuration before it is written.
type store struct {
	raw   rawStore
	floor *floor
	limit time.Duration // of one append
	retry time.Duration // pause of a parked operation

	failOnce sync.Once
	failed   chan struct{} // closed when the store failed
	failure  error         // why; set before failed is closed
	closed   chan struct{} // closed by end: parked goroutines are let go
	endOnce  sync.Once
	parking  atomic.Bool // false while Raft is being made: errors are returned then
	writes   sync.WaitGroup
	starting sync.Mutex // between end and the start of an operation

	counts *diskCounts

	grown atomic.Int64 // bytes appended since the log was compacted: see compact
}

// diskCounts is what went wrong with the disk since the process began.
type diskCounts struct {
	appendErrors   atomic.Uint64
	appendTimeouts atomic.Uint64
	retries        atomic.Uint64 // of registers, reads and truncations
	reopened       atomic.Uint64
	parked         atomic.Int64 // operations that wait now
	last           atomic.Pointer[string]
}

// failed counts an error in one of the counters and keeps its words.
func (c *diskCounts) failed(counter *atomic.Uint64, err error) error {
	counter.Add(1)
	text := err.Error()
	c.last.Store(&text)
	return err
}

func newStore(raw rawStore, fl *floor, limit, retry time.Duration, counts *diskCounts) *store {
	return &store{
		raw: raw, floor: fl, limit: limit, retry: retry, counts: counts,
		failed: make(chan struct{}), closed: make(chan struct{}),
	}
}

// fail marks the store as not to be used any more.
func (s *store) fail(err error) error {
	s.failOnce.Do(func() {
		s.failure = err
		close(s.failed)
	})
	return err
}

// usable returns the reason why appends are refused, or nil.
func (s *store) usable() error {
	select {
	case <-s.failed:
		return fmt.Errorf("%w: %w", errStoreFailed, s.failure)
	default:
		return nil
	}
}

// end lets every goroutine of Raft go that waits in the store. Nothing may be
// expected of the store afterwards but close.
func (s *store) end() {
	s.endOnce.Do(func() {
		s.starting.Lock()
		defer s.starting.Unlock()
		close(s.closed)
	})
}

// close waits until the last write is over, however long that takes, and
// closes the file.
func (s *store) close() error {
	s.end()
	s.writes.Wait()
	if err := s.raw.Close(); err != nil {
		return fmt.Errorf("closing the Raft store: %w", err)
	}
	return nil
}

// run does f in a goroutine of its own, so that a disk that hangs holds
// nobody who has to stop. After end nothing begins any more and nothing is
// answered.
func (s *store) run(f func() error) <-chan error {
	done := make(chan error, 1)
	s.starting.Lock()
	defer s.starting.Unlock()
	select {
	case <-s.closed:
	default:
		s.writes.Go(func() { done <- f() })
	}
	return done
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. See [store].
func (s *store) StoreLogs(logs []*raft.Log) error {
	if err := s.usable(); err != nil {
		return err
	}
	// Raft goes on to use its entries after a time-out, while the write may
	// still read them.
	own := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		own[i] = &c
	}
	timer := time.NewTimer(s.limit)
	defer timer.Stop()
	done := s.run(func() error {
		if err := s.floor.appending(own); err != nil {
			return err
		}
		if err := s.raw.StoreLogs(own); err != nil {
			return err
		}
		for _, l := range own {
			s.grown.Add(size(l))
		}
		return nil
	})
	select {
	case err := <-done:
		if err != nil {
			return s.fail(s.counts.failed(&s.counts.appendErrors, fmt.Errorf("appending to the Raft log: %w", err)))
		}
		return nil
	case <-timer.C:
		return s.fail(s.counts.failed(&s.counts.appendTimeouts, fmt.Errorf("appending to the Raft log took longer than %v", s.limit)))
	case <-s.closed:
		return s.fail(errStoreFailed)
	}
}

// DeleteRange implements raft.LogStore: at the front it compacts, which may
// fail and come again; at the end it truncates, and the floor goes down after it.
func (s *store) DeleteRange(min, max uint64) error {
	if err := s.usable(); err != nil {
		return err
	}
	last, err := s.raw.LastIndex()
	if err != nil {
		return fmt.Errorf("reading the end of the Raft log: %w", err)
	}
	truncates := max >= last
	err = s.waitFor(s.run(func() error {
		if err := s.raw.DeleteRange(min, max); err != nil || !truncates {
			return err
		}
		return s.floor.truncated(min)
	}))
	switch {
	case err != nil && truncates:
		return s.fail(s.counts.failed(&s.counts.appendErrors, fmt.Errorf("truncating the Raft log: %w", err)))
	case err != nil:
		return s.counts.failed(&s.counts.retries, fmt.Errorf("compacting the Raft log: %w", err))
	}
	return nil
}

// waitFor returns what done says; when the store ends first, the calling
// goroutine, one of Raft's, ends too: no answer would be right.
func (s *store) waitFor(done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-s.closed:
		runtime.Goexit()
		return nil
	}
}

// park does f until it succeeds. Raft panics on errors of these operations.
func (s *store) park(f func() error) error {
	waiting := false
	var last atomic.Pointer[error]
	if s.parking.Load() {
		// The node then ends this wait.
		stuck := time.AfterFunc(s.limit, func() {
			err := fmt.Errorf("no answer in %v", s.limit)
			if p := last.Load(); p != nil {
				err = *p
			}
			_ = s.fail(fmt.Errorf("using the Raft store: %w", err))
		})
		defer stuck.Stop()
	}
	defer func() { // also when the goroutine is ended
		if waiting {
			s.counts.parked.Add(-1)
		}
	}()
	for {
		err := s.waitFor(s.run(f))
		if err == nil || !s.parking.Load() {
			return err
		}
		_ = s.counts.failed(&s.counts.retries, err)
		if !waiting {
			waiting = true
			s.counts.parked.Add(1)
		}
		last.Store(&err)
		select {
		case <-time.After(s.retry):
		case <-s.closed:
			runtime.Goexit()
		}
	}
}

// GetLog implements raft.LogStore. That an entry is not there is an answer
// that Raft can use; everything else is tried again.
func (s *store) GetLog(index uint64, l *raft.Log) error {
	var missing error
	err := s.park(func() error {
		err := s.raw.GetLog(index, l)
		if errors.Is(err, raft.ErrLogNotFound) {
			missing = err
			return nil
		}
		return err
	})
	if err == nil {
		return missing
	}
	return err
}

// Set and SetUint64 implement raft.StableStore: terms and votes.
func (s *store) Set(key, val []byte) error {
	return s.park(func() error { return s.raw.Set(key, val) })
}

// SetUint64 implements raft.StableStore.
func (s *store) SetUint64(key []byte, val uint64) error {
	return s.park(func() error { return s.raw.SetUint64(key, val) })
}

// FirstIndex and the rest are read as they are: Raft copes with their errors.
func (s *store) FirstIndex() (uint64, error) { return s.raw.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *store) LastIndex() (uint64, error) { return s.raw.LastIndex() }

// Get implements raft.StableStore.
func (s *store) Get(key []byte) ([]byte, error) { return s.raw.Get(key) }

// GetUint64 implements raft.StableStore.
func (s *store) GetUint64(key []byte) (uint64, error) { return s.raw.GetUint64(key) }
