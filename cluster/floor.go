package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// floor remembers the Raft configurations that this member has in its log,
// for the lease's rules R15 and R17: a voter refuses whoever judges by an
// older configuration than the newest one *appended* here, committed or not.
// Raft tells neither an entry's term nor the committed configuration.
//
// A configuration is remembered, on disk, before it is written to the log;
// it is forgotten when the log is truncated below it, or at start when it
// turns out never to have reached the log. Being too high for a while costs
// a vote; being too low costs safety.
//
// The committed configuration is noted too, when the disk finds time: a member
// that starts while there is no leader knows whom to ask. That it may be an
// older one by then is what the floors of the others are for.
type floor struct {
	path  string
	dirty chan struct{} // one slot: the committed configuration wants flush
	write func(path string, data []byte) error

	disk sync.Mutex // held while the file is written

	// mu is never held while the disk is waited for: leases read the sets.
	mu        sync.Mutex
	epoch     uint64
	appended  []fsm.VoterSet // by index; at least those from committed on
	committed fsm.VoterSet
	known     bool // notes were found, or the log and its snapshots have been read
}

// floorFile is what is on disk.
type floorFile struct {
	Committed fsm.VoterSet   `json:"committed"`
	Appended  []fsm.VoterSet `json:"appended"`
}

// openFloor reads the configurations noted at path, if any. What it holds
// means nothing before reconcile.
func openFloor(path string, epoch uint64) (*floor, error) {
	f := &floor{path: path, epoch: epoch, dirty: make(chan struct{}, 1), write: writeFile}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configurations: %w", err)
	}
	var notes floorFile
	if err := json.Unmarshal(b, &notes); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): move it aside; it is made again from the log", path, err)
	}
	f.appended, f.committed, f.known = notes.Appended, notes.Committed, true
	return f, nil
}

// reconcile brings the notes in line with the log: configurations that are in
// the log are in, noted ones that should be in the log and are not go out,
// and those from before its first entry stay.
func (f *floor) reconcile(logs raft.LogStore) error {
	if err := f.readLog(logs); err != nil {
		return err
	}
	return f.save()
}

func (f *floor) readLog(logs raft.LogStore) error {
	first, err := logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("reading the start of the Raft log: %w", err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		return fmt.Errorf("reading the end of the Raft log: %w", err)
	}
	var found []fsm.VoterSet
	if first == 0 {
		// An empty log: only a snapshot can hold configurations, and it brings its own.
		last = 0
	}
	for i := max(first, 1); i <= last; i++ {
		var l raft.Log
		if err := logs.GetLog(i, &l); err != nil {
			if errors.Is(err, raft.ErrLogNotFound) {
				continue // a gap below a snapshot that was received
			}
			return fmt.Errorf("reading entry %d of the Raft log: %w", i, err)
		}
		if v, ok := f.voterSet(&l); ok {
			found = append(found, v)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := slices.DeleteFunc(f.appended, func(v fsm.VoterSet) bool { return first == 0 || v.Tag.Index >= first })
	f.appended = append(before, found...)
	return nil
}

// voterSet reads a configuration entry.
func (f *floor) voterSet(l *raft.Log) (fsm.VoterSet, bool) {
	if l.Type != raft.LogConfiguration {
		return fsm.VoterSet{}, false
	}
	return fsm.VoterSet{
		Tag:    fsm.ConfigTag{Epoch: f.epoch, Term: l.Term, Index: l.Index},
		Voters: votersOf(raft.DecodeConfiguration(l.Data)),
	}, true
}

func votersOf(c raft.Configuration) []fsm.MemberID {
	var ids []fsm.MemberID
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, fsm.MemberID(s.ID))
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// appending notes the configurations among entries that are about to be
// written; the notes are on disk when it returns.
func (f *floor) appending(logs []*raft.Log) error {
	var found []fsm.VoterSet
	for _, l := range logs {
		if v, ok := f.voterSet(l); ok {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		return nil
	}
	f.mu.Lock()
	f.appended = append(f.appended, found...)
	f.mu.Unlock()
	return f.save()
}

// truncated forgets the configurations at and above index, which have left
// the log.
func (f *floor) truncated(index uint64) error {
	f.mu.Lock()
	n := len(f.appended)
	f.appended = slices.DeleteFunc(f.appended, func(v fsm.VoterSet) bool { return v.Tag.Index >= index })
	changed := len(f.appended) != n
	f.mu.Unlock()
	if !changed {
		return nil
	}
	return f.save()
}

// commit notes that the configuration at index is committed. Older ones are
// of no further use.
func (f *floor) commit(index uint64, c raft.Configuration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := fsm.VoterSet{Tag: fsm.ConfigTag{Epoch: f.epoch, Index: index}, Voters: votersOf(c)}
	for _, a := range f.appended {
		if a.Tag.Index == index {
			v.Tag.Term = a.Tag.Term
		}
	}
	f.setCommitted(v, index)
}

// restored takes over the committed configuration that came with a snapshot
// of the log up to applied: nothing else from there down counts any more. The
// notes are on disk when it returns: the entry that held the configuration is
// not in this member's log, and a voter that starts again before the snapshot is
// read must not go by an older one.
func (f *floor) restored(v fsm.VoterSet, applied uint64) error {
	f.mu.Lock()
	f.appended = slices.DeleteFunc(f.appended, func(a fsm.VoterSet) bool { return a.Tag.Index <= applied })
	f.appended = slices.Insert(f.appended, 0, v)
	f.setCommitted(v, v.Tag.Index)
	f.mu.Unlock()
	return f.save()
}

func (f *floor) setCommitted(v fsm.VoterSet, index uint64) {
	if f.committed.Tag.Index > index {
		return // an entry that is applied again after a restart of Raft alone
	}
	f.committed = v
	select {
	case f.dirty <- struct{}{}:
	default:
	}
	f.appended = slices.DeleteFunc(f.appended, func(a fsm.VoterSet) bool { return a.Tag.Index < index })
}

// sets returns the committed configuration and the floor.
func (f *floor) sets() (committed, appended fsm.VoterSet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	appended = f.committed
	for _, v := range f.appended {
		if !v.Tag.Less(appended.Tag) {
			appended = v
		}
	}
	return f.committed, appended
}

// later are the configurations in the log that came after the committed one, in
// the order of their tags: a requester of the lease may be asked to have a
// majority of each of them too.
func (f *floor) later() []fsm.VoterSet {
	f.mu.Lock()
	defer f.mu.Unlock()
	var later []fsm.VoterSet
	for _, v := range f.appended {
		if f.committed.Tag.Less(v.Tag) {
			v.Voters = slices.Clone(v.Voters)
			later = append(later, v)
		}
	}
	slices.SortFunc(later, func(a, b fsm.VoterSet) int {
		if a.Tag.Less(b.Tag) {
			return -1
		}
		return 1
	})
	return later
}

// complete says that the log and its snapshots have been read, so that even
// without notes the floor is what it should be.
func (f *floor) complete() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = true
}

// tag returns the floor's tag; false: the notes are missing, as somebody moved
// them aside, and the log has not been read yet. An empty floor would let a vote
// through by any configuration.
func (f *floor) tag() (fsm.ConfigTag, bool) {
	_, appended := f.sets()
	f.mu.Lock()
	defer f.mu.Unlock()
	return appended.Tag, f.known
}

// flush writes the notes if the disk takes them: for the committed
// configuration, whose loss costs nothing but time.
func (f *floor) flush() error { return f.save() }

// save writes the notes as they are now.
func (f *floor) save() error {
	f.disk.Lock()
	defer f.disk.Unlock()
	f.mu.Lock()
	b, err := json.Marshal(floorFile{f.committed, f.appended})
	f.mu.Unlock()
	if err != nil {
		return fmt.Errorf("noting a configuration: %w", err)
	}
	return f.write(f.path, b)
}
