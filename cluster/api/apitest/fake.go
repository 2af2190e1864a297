package apitest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// Now is the instant at which everything in a Fake happens.
var Now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// Secret is the join token that a Fake gives and takes.
const Secret = "LBC1-fake-token"

var _ api.Backend = (*Fake)(nil)

// Fake implements api.Backend. Safe for concurrent use.
type Fake struct {
	mu      sync.Mutex
	table   *fsm.Table // nil: not enrolled
	self    fsm.MemberID
	changed chan struct{} // closed and replaced with each new table

	// BeforeApply, if set, runs once before the next ApplySet is applied: a
	// second operator who is a little faster.
	BeforeApply func()
	// Obeys: leases follow at once where an operator moves or drains.
	Obeys bool
	// Fail, if set, is what Propose returns.
	Fail error
	// Edit, if set, changes what a member says about itself.
	Edit func(*api.DirectorStatus)
	// Records are what the members recorded; dead members' are left out.
	Records []journal.Record
	// Forced is what ForceOwn did; Refuse, if set, is what it returns.
	Forced []api.ForceRequest
	Refuse error
	// Dead members do not answer.
	Dead map[fsm.MemberID]string
}

// New is a daemon that waits unenrolled.
func New() *Fake { return &Fake{changed: make(chan struct{})} }

// NewCluster is the first of three directors.
func NewCluster() *Fake {
	f := New()
	if _, err := f.Init(context.Background(), api.InitRequest{}); err != nil {
		panic(err)
	}
	f.Grow("dir2", fsm.Director)
	f.Grow("dir3", fsm.Director)
	return f
}

// Grow enrols one more member, present at once.
func (f *Fake) Grow(name string, role fsm.Role) fsm.MemberID {
	hash := strings.Repeat("ab", 32)
	f.Must(fsm.Command{AddToken: &fsm.Token{Hash: hash, Uses: 1, Expires: Now.Add(time.Hour)}})
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + f.Table().NextMember)}), 7500)
	r := f.Must(fsm.Command{Enrol: &fsm.Enrol{TokenHash: hash, Request: name, Name: name, Role: role, Addr: addr}})
	present := fsm.Present
	f.Must(fsm.Command{Member: &fsm.SetMember{ID: r.Member, State: &present}})
	return r.Member
}

// Must applies a command and panics if it is refused.
func (f *Fake) Must(c fsm.Command) fsm.Result {
	r, err := f.apply(c)
	if err != nil {
		panic(err)
	}
	return r
}

func (f *Fake) apply(c fsm.Command) (fsm.Result, error) {
	if c.Version == 0 {
		c.Version = fsm.CommandVersion
	}
	if c.By == "" {
		c.By = "m1"
	}
	c.At = Now
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table
	if t == nil {
		t = fsm.New()
	}
	next, r, err := t.Apply(c)
	if err != nil {
		return r, err
	}
	f.table = next
	close(f.changed)
	f.changed = make(chan struct{})
	return r, nil
}

// Init founds a cluster with the member dir1 at 10.0.0.11.
func (f *Fake) Init(_ context.Context, req api.InitRequest) (api.InitReply, error) {
	if f.Table() != nil {
		return api.InitReply{}, api.ErrEnrolled
	}
	addr := netip.MustParseAddrPort("10.0.0.11:7500")
	var guard fsm.Duration
	if req.Guard != nil {
		guard = *req.Guard
	}
	r, err := f.apply(fsm.Command{Found: &fsm.Found{Cluster: "c1", Name: "dir1", Addr: addr, Profile: req.Profile, Guard: guard}})
	if err != nil {
		return api.InitReply{}, err
	}
	f.setSelf(r.Member)
	return api.InitReply{Cluster: "c1", ID: r.Member, Addr: addr.String(), Token: Secret, Uses: 2, TTL: fsm.Duration(time.Hour), Guard: guard, GuardWhy: fmt.Sprintf("Guard %v.", guard)}, nil
}

func (f *Fake) setSelf(id fsm.MemberID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.self = id
}

// Join makes this the second member of a cluster that appears from nowhere.
func (f *Fake) Join(ctx context.Context, req api.JoinRequest) (api.JoinReply, error) {
	if f.Table() != nil {
		return api.JoinReply{}, api.ErrEnrolled
	}
	if req.Token != Secret {
		return api.JoinReply{}, fmt.Errorf("%w: the token is not known here, used up or expired", fsm.ErrDenied)
	}
	if _, err := f.Init(ctx, api.InitRequest{}); err != nil {
		return api.JoinReply{}, err
	}
	id := f.Grow("dir2", req.Role)
	f.setSelf(id)
	return api.JoinReply{Cluster: "c1", ID: id}, nil
}

// Leave forgets the cluster.
func (f *Fake) Leave(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.table == nil {
		return api.ErrNotEnrolled
	}
	f.table = nil
	return nil
}

// Eject forgets the cluster; where this is the only member, only with Force.
func (f *Fake) Eject(_ context.Context, req api.EjectRequest) (api.EjectReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reply := api.EjectReply{Removed: []string{}}
	switch {
	case f.table == nil:
		return reply, api.ErrNotEnrolled
	case len(f.table.Members) == 1 && !req.Force:
		return reply, fmt.Errorf("%w: this is the only member", fsm.ErrInvalid)
	case len(f.table.Members) == 1:
		reply.Abandoned = "this is the only member"
	}
	f.table = nil
	return reply, nil
}

// Token returns Secret.
func (f *Fake) Token(context.Context, api.TokenRequest) (string, error) {
	if f.Table() == nil {
		return "", api.ErrNotEnrolled
	}
	return Secret, nil
}

// RemoveMember removes at once.
func (f *Fake) RemoveMember(_ context.Context, id fsm.MemberID) error {
	if f.Table() == nil {
		return api.ErrNotEnrolled
	}
	_, err := f.apply(fsm.Command{Remove: &fsm.Remove{ID: id}})
	return err
}

// Set changes the exported fields while the daemon serves.
func (f *Fake) Set(change func(*Fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// Table is the table.
func (f *Fake) Table() *fsm.Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table
}

// Propose applies to the table after BeforeApply, unless Fail is set.
func (f *Fake) Propose(_ context.Context, c fsm.Command) (fsm.Result, error) {
	f.mu.Lock()
	hook, fail := f.BeforeApply, f.Fail
	if c.Apply != nil {
		f.BeforeApply = nil
	}
	f.mu.Unlock()
	if fail != nil {
		return fsm.Result{}, fail
	}
	if hook != nil && c.Apply != nil {
		hook()
	}
	r, err := f.apply(c)
	if err == nil && f.obeys() {
		f.follow()
	}
	return r, err
}

func (f *Fake) obeys() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Obeys
}

// follow hands over what was moved, and what a drained director owns; what
// nobody owns goes to whom it belongs.
func (f *Fake) follow() {
	t := f.Table()
	for _, u := range t.Units() {
		owner, owned := t.Owners[u.ID]
		order := t.Order(u.ID)
		m, _ := t.Member(owner)
		_, asked := t.Asked(u.ID)
		if len(order) == 0 || order[0] == owner || owned && !asked && !m.Drained {
			continue
		}
		if owned {
			f.Must(fsm.Command{Ownership: &fsm.Ownership{Router: u.ID, Member: owner, Why: "handed over"}})
		}
		f.Must(fsm.Command{Ownership: &fsm.Ownership{Router: u.ID, Member: order[0], Owns: true, Why: "handed over"}})
	}
}

// Journal is Records, whatever the time, and an error for each dead member.
func (f *Fake) Journal(context.Context, time.Time, time.Time) []journal.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []journal.Record
	for _, r := range f.Records {
		if why, dead := f.Dead[r.Node]; dead {
			r = journal.Record{Node: r.Node, Name: r.Name, Error: why}
		}
		out = append(out, r)
	}
	return out
}

// ForceOwn remembers what it is asked for, unless Refuse is set.
func (f *Fake) ForceOwn(_ context.Context, req api.ForceRequest) (api.ForceReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Refuse != nil {
		return api.ForceReply{}, f.Refuse
	}
	if !req.Check {
		f.Forced = append(f.Forced, req)
	}
	return api.ForceReply{Router: req.Router, PoweredOff: req.PoweredOff, Until: Now.Add(req.For.D()), After: fsm.Duration(3 * time.Second)}, nil
}

// WaitRevision waits for a table.
func (f *Fake) WaitRevision(ctx context.Context, rev fsm.Revision) error {
	for {
		f.mu.Lock()
		t, changed := f.table, f.changed
		f.mu.Unlock()
		if t == nil {
			return api.ErrNotEnrolled
		}
		if t.Revision >= rev {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
