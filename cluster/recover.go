package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// When a majority is gone for good, one director that is left can be made a cluster of
// its own: with the table that is on its disk, one voter, a new epoch, and a new CA and
// new keys, so that no former member is heard by it, or hears it, on any channel. What
// that cannot help against is a majority of the old members that runs somewhere: they
// are a whole cluster still. Only a person can know that they are off.

// dirRecovering holds what a recovery has prepared, whole once its identity is there.
const dirRecovering = "recovering"

// Survivor is what is left of a cluster in one member's data folder.
type Survivor struct {
	Identity Identity
	Epoch    uint64
	Table    *fsm.Table   // all that is in this member's log, agreed on or not
	Others   []fsm.Member // who must be off
	index    uint64       // of the last entry of the log
	term     uint64       // the latest that this member knows
}

// ReadSurvivor reads a data folder whose daemon is stopped, and changes nothing.
func ReadSurvivor(dir string) (*Survivor, error) {
	f := folder(dir)
	id, err := f.identity()
	if err != nil {
		return nil, err
	}
	if id == nil {
		return nil, ErrUnenrolled
	}
	if id.Role != fsm.Director {
		return nil, fmt.Errorf("%w: this machine is a %s: only a director can serve alone", fsm.ErrInvalid, id.Role)
	}
	if err := verifyStore(f); err != nil {
		return nil, err
	}
	s := &Survivor{Identity: Identity{ID: id.ID, Cluster: id.Cluster, Name: id.Name, Role: id.Role, Addr: id.Addr}, Epoch: id.Epoch}
	if err := s.readStore(f); err != nil {
		return nil, err
	}
	self, ok := findMember(s.Table.Members, id.ID)
	if !ok || self.State == fsm.Joining {
		return nil, fmt.Errorf("%w: this machine has not caught up with its cluster since it joined: use a member that has", fsm.ErrInvalid)
	}
	for _, m := range s.Table.Members {
		if m.ID != id.ID {
			s.Others = append(s.Others, m)
		}
	}
	return s, nil
}

// readStore replays the newest snapshot and the log behind it.
func (s *Survivor) readStore(f folder) error {
	raw, err := openStore(f, false)
	if err != nil {
		return err
	}
	defer raw.Close()
	m := newMachine(&floor{path: os.DevNull, dirty: make(chan struct{}, 1), write: func(string, []byte) error { return nil }}, func(*fsm.Table) {})
	if err := s.readSnapshots(f, m); err != nil {
		return err
	}
	last, err := raw.LastIndex()
	if err != nil {
		return fmt.Errorf("reading the Raft log: %w", err)
	}
	for s.index < last {
		var l raft.Log
		if err := raw.GetLog(s.index+1, &l); err != nil {
			return fmt.Errorf("reading entry %d of the Raft log: %w", s.index+1, err)
		}
		if l.Type == raft.LogCommand {
			if out, ok := m.Apply(&l).(outcome); ok && errors.Is(out.err, ErrHalted) {
				return out.err
			}
		}
		s.index, s.term = l.Index, max(s.term, l.Term)
	}
	s.Table, _, _ = m.state()
	if s.Table.Cluster == "" {
		return fmt.Errorf("%w: this machine never received its cluster's table", fsm.ErrInvalid)
	}
	term, err := raw.GetUint64([]byte(keyTerm))
	if err != nil && err.Error() != "not found" {
		return fmt.Errorf("reading Raft's term: %w", err)
	}
	s.term = max(s.term, term)
	return nil
}

// keyTerm is the name under which Raft keeps its term.
const keyTerm = "CurrentTerm"

// readSnapshots restores the newest snapshot that can be read, if there is any.
func (s *Survivor) readSnapshots(f folder, m *machine) error {
	if newestSnapshot(f) == 0 {
		return nil
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(f.path(dirRaft), 2, newHCLogger(slog.New(slog.DiscardHandler), "raft-snapshot"))
	if err != nil {
		return fmt.Errorf("opening the snapshots: %w", err)
	}
	list, err := store.List()
	if err != nil {
		return fmt.Errorf("reading the snapshots: %w", err)
	}
	for _, meta := range list { // the newest first
		_, r, oerr := store.Open(meta.ID)
		if oerr == nil {
			oerr = m.Restore(r)
		}
		if oerr == nil {
			s.index, s.term = meta.Index, meta.Term
			return nil
		}
		err = errors.Join(err, oerr)
	}
	return fmt.Errorf("reading the snapshots: %w", err)
}

// Recovered is what a recovery made.
type Recovered struct {
	Epoch    uint64
	Revision fsm.Revision
	Aside    string // the folder with this member's old files
}

// Recover makes the survivor in a data folder, whose daemon is stopped, a cluster of its
// own. Who calls it knows that all others are off, and has waited until nothing that
// they were promised holds any more. It prepares all before it takes the old identity
// away; called again after a crash in between, it finishes.
func Recover(dir, by string, now time.Time) (Recovered, error) {
	f := folder(dir)
	id, err := f.identity()
	if err != nil {
		return Recovered{}, err
	}
	prepared := folder(f.path(dirRecovering))
	if id == nil {
		if next, err := prepared.identity(); err != nil || next == nil {
			return Recovered{}, errors.Join(ErrUnenrolled, err)
		}
		return f.takeOver(prepared, "")
	}
	s, err := ReadSurvivor(dir)
	if err != nil {
		return Recovered{}, err
	}
	if err := os.RemoveAll(string(prepared)); err != nil {
		return Recovered{}, fmt.Errorf("clearing an unfinished recovery: %w", err)
	}
	if err := s.prepare(prepared, by, now); err != nil {
		return Recovered{}, fmt.Errorf("preparing the recovery: %w", err)
	}
	aside, err := f.setAside(now)
	if err != nil {
		return Recovered{}, err
	}
	return f.takeOver(prepared, aside)
}

// takeOver moves what is prepared to its place, the identity last.
func (f folder) takeOver(prepared folder, aside string) (Recovered, error) {
	id, err := prepared.identity()
	if err != nil {
		return Recovered{}, err
	}
	t, err := readTable(prepared.path(fileTable), id.Cluster, slog.New(slog.DiscardHandler))
	if t == nil { // it was moved before a crash
		t, err = readTable(f.path(fileTable), id.Cluster, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		return Recovered{}, err
	}
	for _, name := range []string{fileCA, fileCAKey, fileCert, fileKey, dirRaft, fileTable, fileIdentity} {
		err := os.Rename(prepared.path(name), f.path(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Recovered{}, fmt.Errorf("finishing the recovery: %w: call it again", err)
		}
	}
	r := Recovered{Epoch: id.Epoch, Aside: aside}
	if t != nil {
		r.Revision = t.Revision
	}
	return r, errors.Join(os.RemoveAll(string(prepared)), syncDir(string(f)))
}

// alone is the table without the others. Their ids are never given again.
func (s *Survivor) alone(by string, now time.Time) (*fsm.Table, error) {
	t := s.Table
	self, _ := findMember(t.Members, s.Identity.ID)
	no, present := false, fsm.Present
	mend := fsm.SetMember{ID: self.ID}
	if self.Silent {
		mend.Silent = &no
	}
	if self.Drained {
		mend.Drained = &no
	}
	if self.State != fsm.Present {
		mend.State = &present
	}
	var commands []fsm.Command
	if mend != (fsm.SetMember{ID: self.ID}) {
		commands = append(commands, fsm.Command{Member: &mend})
	}
	for _, m := range s.Others {
		commands = append(commands, fsm.Command{Remove: &fsm.Remove{ID: m.ID}})
	}
	for _, c := range commands {
		c.Version, c.By, c.At = max(t.Used, 2), by, now
		next, _, err := t.Apply(c)
		if err != nil {
			return nil, err
		}
		t = next
	}
	return t, nil
}

// prepare writes all of the new identity into a folder of its own.
func (s *Survivor) prepare(to folder, by string, now time.Time) error {
	t, err := s.alone(fmt.Sprintf("%s (recover, epoch %d)", by, s.Epoch+1), now)
	if err != nil {
		return err
	}
	id := &identityFile{ID: s.Identity.ID, Cluster: s.Identity.Cluster, Name: s.Identity.Name, Role: s.Identity.Role, Addr: s.Identity.Addr, Epoch: s.Epoch + 1}
	if id.LeaseKey, err = newSecret(); err == nil {
		id.GossipKey, err = newSecret()
	}
	if err != nil {
		return err
	}
	ca, err := newAuthority(id.Cluster)
	if err != nil {
		return err
	}
	key, keyPEM, err := newMemberKey()
	if err != nil {
		return err
	}
	certPEM, err := ca.sign(id.ID, id.Cluster, key.Public())
	if err != nil {
		return err
	}
	caPEM, caKeyPEM, err := ca.pem()
	if err != nil {
		return err
	}
	if err := s.writeStore(to, id, t); err != nil {
		return err
	}
	b, err := t.Snapshot()
	if err != nil {
		return err
	}
	if err := writeFile(to.path(fileTable), b); err != nil {
		return err
	}
	return to.writeEnrolment(id, caPEM, caKeyPEM, certPEM, keyPEM)
}

// writeStore makes a Raft store that begins with a snapshot of t and one voter, behind
// all that the old log had: nothing of that is replayed, whatever it says of members.
func (s *Survivor) writeStore(to folder, id *identityFile, t *fsm.Table) error {
	raw, err := openStore(to, true)
	if err != nil {
		return err
	}
	index, term := s.index+1, s.term+1
	if err := errors.Join(raw.SetUint64([]byte(keyTerm), term), raw.Close()); err != nil {
		return fmt.Errorf("writing the Raft store: %w", err)
	}
	voters := fsm.VoterSet{Tag: fsm.ConfigTag{Epoch: id.Epoch, Term: term, Index: index}, Voters: []fsm.MemberID{id.ID}}
	fl, err := openFloor(to.path(dirRaft, fileFloor), id.Epoch)
	if err != nil {
		return err
	}
	if err := fl.restored(voters, index); err != nil {
		return err
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(to.path(dirRaft), 2, newHCLogger(slog.New(slog.DiscardHandler), "raft-snapshot"))
	if err != nil {
		return fmt.Errorf("opening the snapshots: %w", err)
	}
	config := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(id.ID), Address: serverAddress(id.ID, id.Addr)}}}
	sink, err := snaps.Create(raft.SnapshotVersionMax, index, term, config, index, noTransport())
	if err != nil {
		return fmt.Errorf("writing a snapshot: %w", err)
	}
	if err := (&frozen{committed: voters, applied: index, table: t}).Persist(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return nil
}

// Names lists members' names for people.
func (s *Survivor) Names() []string {
	var names []string
	for _, m := range s.Others {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}
