package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// maxSnapshot bounds what is read from a snapshot, in bytes.
const maxSnapshot = 256 << 20

// machine shows the table to Raft as its state machine. One Raft instance has
// one machine; when Raft is started again, so is the machine, and what it
// publishes never goes back behind what others have seen (see [board]).
type machine struct {
	floor   *floor
	publish func(*fsm.Table)

	mu      sync.Mutex
	table   *fsm.Table
	applied uint64 // index of the last entry that got here
	halted  error  // once set, nothing is applied any more
	// expected is what the leader found a command to do before it put it into the
	// log: found again if the entry comes while the table is still that one.
	expected rehearsal
}

// rehearsal is what a command does to a table.
type rehearsal struct {
	data       []byte
	from, next *fsm.Table
	result     fsm.Result
}

// outcome is what applying one entry gave, as it travels through Raft.
type outcome struct {
	result fsm.Result
	err    error
}

func newMachine(f *floor, publish func(*fsm.Table)) *machine {
	return &machine{floor: f, publish: publish, table: fsm.New()}
}

// Apply implements raft.FSM. A command that this member cannot read stops the
// machine for good: whatever came after it would be applied to a table that
// differs from everybody else's.
func (m *machine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halted != nil {
		return outcome{err: m.halted}
	}
	next, res, err := m.step(l.Data)
	if errors.Is(err, fsm.ErrUnknownCommand) {
		m.halted = fmt.Errorf("%w at entry %d of the log: %w: this member runs an older version than the others; upgrade it", ErrHalted, l.Index, err)
		return outcome{err: m.halted}
	}
	m.applied = l.Index
	if err == nil {
		m.table = next
		m.publish(next)
	}
	return outcome{result: res, err: err}
}

// step reads and applies one command. A panic in it would end every member at
// the same entry, again at each start; halting keeps them up to be mended.
func (m *machine) step(data []byte) (t *fsm.Table, res fsm.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: applying it panicked: %v", fsm.ErrUnknownCommand, r)
		}
	}()
	e := m.expected
	m.expected = rehearsal{}
	if e.from == m.table && e.next != nil && bytes.Equal(e.data, data) {
		return e.next, e.result, nil
	}
	cmd, err := fsm.Decode(data)
	if err != nil {
		return nil, fsm.Result{}, err
	}
	return m.table.Apply(cmd)
}

// expect remembers a rehearsal, in place of the one before.
func (m *machine) expect(r rehearsal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expected = r
}

// StoreConfiguration implements raft.ConfigurationStore.
func (m *machine) StoreConfiguration(index uint64, c raft.Configuration) {
	m.floor.commit(index, c)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halted == nil {
		m.applied = index
	}
}

// state returns the table, the index it is at, and why it goes no further.
func (m *machine) state() (*fsm.Table, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table, m.applied, m.halted
}

// snapshotFile is what a snapshot holds: the table, and the committed
// configuration with the term that Raft's own header lacks.
type snapshotFile struct {
	Committed fsm.VoterSet    `json:"committed"`
	Applied   uint64          `json:"applied"`
	Table     json.RawMessage `json:"table"`
}

// Snapshot implements raft.FSM. A halted machine has none: Raft would cut the
// entries that it has not applied out of the log.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halted != nil {
		return nil, m.halted
	}
	committed, _ := m.floor.sets()
	return &frozen{committed: committed, applied: m.applied, table: m.table}, nil
}

// Restore implements raft.FSM.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	s, t, err := readSnapshot(r)
	if err != nil {
		return err
	}
	if err := m.floor.restored(s.Committed, s.Applied); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.table, m.applied, m.halted = t, s.Applied, nil
	m.publish(t)
	return nil
}

func readSnapshot(r io.Reader) (snapshotFile, *fsm.Table, error) {
	var s snapshotFile
	b, err := io.ReadAll(io.LimitReader(r, maxSnapshot))
	if err != nil {
		return s, nil, fmt.Errorf("reading a snapshot: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, nil, fmt.Errorf("reading a snapshot: %w", err)
	}
	t, err := fsm.Restore(s.Table)
	if err != nil {
		return s, nil, fmt.Errorf("reading a snapshot: %w", err)
	}
	return s, t, nil
}

// frozen is a table at one index; writing it needs no lock.
type frozen struct {
	committed fsm.VoterSet
	applied   uint64
	table     *fsm.Table
}

// Persist implements raft.FSMSnapshot.
func (f *frozen) Persist(sink raft.SnapshotSink) error {
	t, err := f.table.Snapshot()
	if err != nil {
		return fmt.Errorf("writing a snapshot: %w", err)
	}
	b, err := json.Marshal(snapshotFile{Committed: f.committed, Applied: f.applied, Table: t})
	if err != nil {
		return fmt.Errorf("writing a snapshot: %w", err)
	}
	if _, err := sink.Write(b); err != nil {
		return fmt.Errorf("writing a snapshot: %w", err)
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (f *frozen) Release() {}
