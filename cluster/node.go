package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// Node is this machine's part in a cluster. Its methods may be called from
// any goroutine; those that take a context end with it.
type Node struct {
	cfg    Config
	t      Timing
	log    *slog.Logger
	dir    folder
	board  *board
	counts diskCounts
	// open opens the Raft store of the folder; tests put a bad disk below it.
	open func(f folder, create bool) (rawStore, error)
	// reads is the newest version of commands that this program reads; tests make it older.
	reads int

	relay atomic.Pointer[relay] // the session's; nil: there is none

	enrolling sync.Mutex // one Init, Join or Leave at a time

	mu      sync.Mutex
	id      *identityFile
	newly   bool
	session *session
	changed chan struct{} // closed and replaced when id or session change
}

// New reads the data folder and starts nothing. A folder without an identity
// is a node that is in no cluster yet. What is damaged is an error that names
// the file and says what to do.
func New(cfg Config) (*Node, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data folder: %w", err)
	}
	n := &Node{
		cfg: cfg, t: cfg.Timing.withDefaults(), log: log, dir: folder(cfg.Dir),
		board: newBoard(), changed: make(chan struct{}), open: openStore, reads: fsm.CommandVersion,
	}
	n.dir.sweep()
	id, err := n.dir.identity()
	if err != nil || id == nil {
		return n, err
	}
	if _, err := n.dir.credentials(); err != nil {
		return nil, fmt.Errorf("%w: restore it from a backup, or move %s aside, remove this member on another one and join again", err, n.dir)
	}
	if err := verifyStore(n.dir); err != nil {
		return nil, err
	}
	t, err := readTable(n.dir.path(fileTable), id.Cluster, log)
	if err != nil {
		return nil, err
	}
	if t != nil {
		n.board.publish(t)
	}
	n.id = id
	return n, nil
}

// readTable reads the table that was kept for the start. It is only a help
// until Raft has caught up, so a damaged one is no reason not to start. One that a
// newer program has written is: this one would take part in something that it does
// not understand.
func readTable(path, cluster string, log *slog.Logger) (*fsm.Table, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var t *fsm.Table
	if err == nil {
		t, err = fsm.Restore(b)
	}
	if err == nil && t.Cluster != cluster {
		err = fmt.Errorf("it is of cluster %s", t.Cluster)
	}
	if errors.Is(err, fsm.ErrUnknownCommand) {
		return nil, fmt.Errorf("%s: %w: a newer lbcluster ran here, and this one is too old for the cluster's table: install the newer one again; nothing was changed", path, err)
	}
	if err != nil {
		log.Warn("the kept copy of the table is not used", "file", path, "error", err)
		return nil, nil
	}
	return t, nil
}

// Readable says why this program is too old for the table in a data folder, as [New]
// would; nil: it is not.
func Readable(dir string) error {
	id, err := folder(dir).identity()
	if err != nil || id == nil {
		return err
	}
	_, err = readTable(folder(dir).path(fileTable), id.Cluster, slog.New(slog.DiscardHandler))
	return err
}

// Run waits until the node is in a cluster, then serves it until ctx ends. It
// hands over leadership and closes what it opened before it returns. A disk or
// a network that fails never ends it: see Status.
func (n *Node) Run(ctx context.Context) error {
	for {
		id, err := n.awaitIdentity(ctx)
		if err != nil {
			return nil
		}
		s, err := n.newSession(id)
		if err != nil {
			n.log.Error("cannot serve the cluster; trying again", "error", err)
			sleep(ctx, n.t.Retry)
			continue
		}
		serving, stop := context.WithCancel(ctx)
		s.leave = stop
		n.setSession(s)
		err = s.run(serving)
		stop()
		n.setSession(nil)
		if err != nil {
			n.log.Error("serving the cluster ended; trying again", "error", err)
			sleep(ctx, n.t.Retry)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (n *Node) awaitIdentity(ctx context.Context) (*identityFile, error) {
	for {
		n.mu.Lock()
		id, changed := n.id, n.changed
		n.mu.Unlock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if id != nil {
			return id, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (n *Node) notify() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *Node) setSession(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.session = s
	n.relay.Store(nil)
	if s != nil {
		n.relay.Store(s.relay)
	}
	n.notify()
}

func (n *Node) setIdentity(id *identityFile, newly bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.id, n.newly = id, newly
	n.notify()
}

// current returns the running session, waiting for it if the node is in a cluster.
func (n *Node) current(ctx context.Context) (*session, error) {
	for {
		n.mu.Lock()
		id, s, changed := n.id, n.session, n.changed
		n.mu.Unlock()
		switch {
		case id == nil:
			return nil, ErrUnenrolled
		case s != nil && s.id == id:
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("this member is not running: %w", ctx.Err())
		}
	}
}

// Identity tells who this member is; false: it is in no cluster.
func (n *Node) Identity() (Identity, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.id == nil {
		return Identity{}, false
	}
	return Identity{
		ID: n.id.ID, Cluster: n.id.Cluster, Name: n.id.Name, Role: n.id.Role, Addr: n.id.Addr,
		LeaseKey: append([]byte(nil), n.id.LeaseKey...), NewlyEnrolled: n.newly,
	}, true
}

// Table returns the newest table that this member has; never nil. It is the
// empty table while the node is in no cluster.
func (n *Node) Table() *fsm.Table {
	t, _ := n.board.latest()
	return t
}

// Watch sends the table, at once and whenever it changed, until ctx ends and
// the channel is closed. A slow reader misses tables, never the newest.
// Revisions only grow, but for the empty table that follows a Leave.
func (n *Node) Watch(ctx context.Context) <-chan *fsm.Table { return n.board.watch(ctx) }

// WaitRevision waits until this member's table is at rev or later.
func (n *Node) WaitRevision(ctx context.Context, rev fsm.Revision) error {
	err := n.board.until(ctx, func(t *fsm.Table) bool { return t.Revision >= rev })
	if err != nil {
		return fmt.Errorf("waiting for revision %d: this member is at %d: %w", rev, n.Table().Revision, err)
	}
	return nil
}

// Voters returns the Raft configurations for the lease: the newest that is
// known to be committed, which a requester counts in, and the newest that is
// in the log, below which a voter refuses. Both are empty before Raft has run.
func (n *Node) Voters() (committed, appended fsm.VoterSet) {
	n.mu.Lock()
	s := n.session
	n.mu.Unlock()
	if s == nil {
		return fsm.VoterSet{}, fsm.VoterSet{}
	}
	return s.floor.sets()
}

// Appended returns the configurations that are in this member's log later than
// the committed one that Voters returns, oldest first: R14's joint majority is
// one of that and of each of these. Empty but for moments of a change. Who wants
// both asks for these first: what is committed in between is then in both.
func (n *Node) Appended() []fsm.VoterSet {
	n.mu.Lock()
	s := n.session
	n.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.floor.later()
}

// Floor returns the tag of the newest configuration in this member's log,
// committed or not, as a voter of the lease needs it at each vote; false while
// it is not known. It waits for no disk.
func (n *Node) Floor() (fsm.ConfigTag, bool) {
	n.mu.Lock()
	s := n.session
	n.mu.Unlock()
	if s == nil {
		return fsm.ConfigTag{}, false
	}
	return s.floor.tag()
}

// Init founds a cluster with this machine as its first member and returns a
// token for the others: one hour, six uses, any role. Run must be running.
// Profile names the lease's timing; empty: "default". Guard is
// fsm.Settings.Guard.
func (n *Node) Init(ctx context.Context, profile string, guard time.Duration) (string, error) {
	n.enrolling.Lock()
	defer n.enrolling.Unlock()
	if _, ok := n.Identity(); ok {
		return "", ErrEnrolled
	}
	if profile == "" {
		profile = "default"
	}
	if err := n.found(profile, guard); err != nil {
		return "", err
	}
	err := n.board.until(ctx, func(t *fsm.Table) bool { return t.Cluster != "" })
	if err != nil {
		return "", fmt.Errorf("the cluster is founded, but its table did not come up in time: %w", err)
	}
	return n.NewToken(ctx, time.Hour, 6, "")
}

// found makes the CA, the identity and a Raft log with one voter. The
// founding command follows from the steward, also after a crash in between.
func (n *Node) found(profile string, guard time.Duration) error {
	var raw [10]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return fmt.Errorf("drawing the cluster's id: %w", err)
	}
	id := &identityFile{
		ID: "m1", Cluster: strings.ToLower(base32.StdEncoding.EncodeToString(raw[:])),
		Name: n.cfg.Name, Role: fsm.Director, Addr: n.cfg.Addr, Profile: profile, Guard: guard,
	}
	// What the table would refuse later is refused before anything is written.
	if _, _, err := fsm.New().Apply(id.founding(time.Now(), n.reads)); err != nil {
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
	if id.LeaseKey, err = newSecret(); err == nil {
		id.GossipKey, err = newSecret()
	}
	if err != nil {
		return err
	}
	first := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(id.ID), Address: serverAddress(id.ID, id.Addr),
	}}}
	if err := n.makeStore(id, &first); err != nil {
		return err
	}
	if err := n.dir.writeEnrolment(id, caPEM, caKeyPEM, certPEM, keyPEM); err != nil {
		return err
	}
	n.setIdentity(id, true)
	return nil
}

// founding is the first command of the cluster's log.
func (f *identityFile) founding(now time.Time, reads int) fsm.Command {
	return fsm.Command{
		Version: reads, By: string(f.ID), At: now,
		Found: &fsm.Found{Cluster: f.Cluster, Name: f.Name, Addr: f.Addr, Profile: f.Profile, Guard: fsm.Duration(f.Guard), Reads: reads},
	}
}

// makeStore makes the Raft store of a new identity, with its first
// configuration if it founds the cluster. What a crashed attempt left goes
// away: without an identity it never took part in anything.
func (n *Node) makeStore(id *identityFile, first *raft.Configuration) error {
	if err := os.RemoveAll(n.dir.path(dirRaft)); err != nil {
		return fmt.Errorf("clearing an unfinished start: %w", err)
	}
	raw, err := n.open(n.dir, true)
	if err != nil {
		return err
	}
	fl, err := openFloor(n.dir.path(dirRaft, fileFloor), id.Epoch)
	if err != nil {
		raw.Close()
		return err
	}
	st := newStore(raw, fl, n.t.Write, n.t.Retry, &n.counts)
	if first != nil {
		log := newHCLogger(n.log, "raft")
		err = raft.BootstrapCluster(n.t.raftConfig(id.ID, log), st, st, raft.NewDiscardSnapshotStore(), noTransport(), *first)
	}
	if cerr := st.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("making the Raft store: %w", err)
	}
	return nil
}

// noTransport satisfies BootstrapCluster, which does not use it with Raft's
// present protocol.
func noTransport() raft.Transport {
	_, t := raft.NewInmemTransport("")
	return t
}
