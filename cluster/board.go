package cluster

import (
	"context"
	"sync"

	"lbcluster/fsm"
)

// board shows the newest table to whoever looks. It never goes back: when
// Raft is started again it replays the log from its snapshot, and tables that
// were seen already are not shown again.
type board struct {
	mu      sync.Mutex
	table   *fsm.Table
	changed chan struct{} // closed and replaced at each change
}

func newBoard() *board {
	return &board{table: fsm.New(), changed: make(chan struct{})}
}

// publish shows t if it is newer than what is shown.
func (b *board) publish(t *fsm.Table) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.Revision <= b.table.Revision {
		return
	}
	b.set(t)
}

// reset shows an empty table: this machine left its cluster.
func (b *board) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(fsm.New())
}

func (b *board) set(t *fsm.Table) {
	b.table = t
	close(b.changed)
	b.changed = make(chan struct{})
}

// latest returns the newest table and a channel that is closed when there is
// a newer one.
func (b *board) latest() (*fsm.Table, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table, b.changed
}

// until waits for a table that ok likes.
func (b *board) until(ctx context.Context, ok func(*fsm.Table) bool) error {
	for {
		t, changed := b.latest()
		if ok(t) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watch sends the newest table, at once and at each change, into a channel
// with one slot: a slow reader misses tables, never the newest. It is closed
// when ctx ends.
func (b *board) watch(ctx context.Context) <-chan *fsm.Table {
	ch := make(chan *fsm.Table, 1)
	go func() {
		defer close(ch)
		for {
			t, changed := b.latest()
			select {
			case <-ch: // take the unread one back
			default:
			}
			ch <- t // this goroutine alone sends, so the slot is free
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch
}
