package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/cluster"
	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// What members ask each other, and how long they wait for the answer.
const (
	askStatus = "status"
	askLimit  = time.Second
)

// The token that init makes.
const (
	firstTokenTTL  = time.Hour
	firstTokenUses = 6
)

var _ api.Backend = (*theDaemon)(nil)

// errEnrolling: a second init or join would take the gate, which it tries, from
// the member that the first one makes.
var errEnrolling = errors.New("another init or join is under way")

// Init implements api.Enroller. The machine is tried first, so that a kernel
// that can't be a director's is an answer here and not a line in a log.
func (d *theDaemon) Init(ctx context.Context, req api.InitRequest) (api.InitReply, error) {
	if !d.enrolling.TryLock() {
		return api.InitReply{}, errEnrolling
	}
	defer d.enrolling.Unlock()
	if _, ok := d.node.Identity(); ok {
		return api.InitReply{}, api.ErrEnrolled
	}
	if err := d.tryKernel(); err != nil {
		return api.InitReply{}, err
	}
	guard, why := guardFor(detectVirtual(), (*time.Duration)(req.Guard))
	token, err := d.node.Init(ctx, req.Profile, guard)
	if err != nil {
		return api.InitReply{}, asAPI(err)
	}
	id, _ := d.node.Identity()
	return api.InitReply{
		Cluster: id.Cluster, ID: id.ID, Addr: id.Addr.String(),
		Token: token, Uses: firstTokenUses, TTL: fsm.Duration(firstTokenTTL),
		Guard: fsm.Duration(guard), GuardWhy: why,
	}, nil
}

// Join implements api.Enroller.
func (d *theDaemon) Join(ctx context.Context, req api.JoinRequest) (api.JoinReply, error) {
	if !d.enrolling.TryLock() {
		return api.JoinReply{}, errEnrolling
	}
	defer d.enrolling.Unlock()
	if _, ok := d.node.Identity(); ok {
		return api.JoinReply{}, api.ErrEnrolled
	}
	if req.Role == "" {
		req.Role = fsm.Director
	}
	if req.Role == fsm.Director {
		if err := d.tryKernel(); err != nil {
			return api.JoinReply{}, err
		}
	}
	var took []time.Duration
	if req.Role == fsm.Witness {
		took = measureRoundTrips(ctx, withPort(req.Addr))
	}
	if err := d.node.Join(ctx, withPort(req.Addr), req.Token, req.Role); err != nil {
		return api.JoinReply{}, asAPI(err)
	}
	if req.Role == fsm.Witness {
		if err := d.checkWitness(ctx, took, req.Force); err != nil {
			return api.JoinReply{}, err
		}
	}
	id, _ := d.node.Identity()
	return api.JoinReply{Cluster: id.Cluster, ID: id.ID}, nil
}

// withPort adds the port that members serve on unless told otherwise.
func withPort(addr string) string {
	if a, err := netip.ParseAddr(addr); err == nil {
		return netip.AddrPortFrom(a, defaultPort).String()
	}
	return addr
}

// tryKernel says whether this machine can be a director.
func (d *theDaemon) tryKernel() error {
	probe := &member{d: d}
	if err := probe.buildDataPlane(nil, false); err != nil {
		return &api.Problem{
			Status: http.StatusForbidden, Code: api.CodeDenied, Title: "refused",
			Detail: "this machine cannot be a director: " + err.Error(),
			Hint:   "put that right and repeat the command; as it is, the machine can be a witness: lbcluster join ADDR --token T --witness",
		}
	}
	probe.close()
	return nil
}

// Leave implements api.Enroller: what is owned is given up first, while the
// voters still know this member.
func (d *theDaemon) Leave(ctx context.Context) error {
	if _, ok := d.node.Identity(); !ok {
		return api.ErrNotEnrolled
	}
	dep := newDeparture(clearKernel)
	if err := d.stopParts(ctx, dep); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	err := d.node.Leave(ctx)
	close(dep.left)
	if err != nil {
		return asAPI(err)
	}
	return errNotCleared(dep.wait(ctx))
}

// stopParts stops this member's parts, which gives up what they hold, and keeps
// them stopped until dep.left is closed; then they run again if the machine is
// still a member.
func (d *theDaemon) stopParts(ctx context.Context, dep departure) error {
	select {
	case d.vacate <- dep:
	case <-ctx.Done():
		return fmt.Errorf("this member's parts did not stop: %w", ctx.Err())
	}
	select {
	case <-dep.stopped:
		return nil
	case <-ctx.Done():
		close(dep.left)
		return fmt.Errorf("this member's parts did not end in time: %w", ctx.Err())
	}
}

// Token implements api.Membership.
func (d *theDaemon) Token(ctx context.Context, req api.TokenRequest) (string, error) {
	if req.TTL == 0 {
		req.TTL = fsm.Duration(time.Hour)
	}
	token, err := d.node.NewToken(ctx, req.TTL.D(), max(req.Uses, 1), req.Role)
	return token, asAPI(err)
}

// RemoveMember implements api.Membership.
func (d *theDaemon) RemoveMember(ctx context.Context, id fsm.MemberID) error {
	return asAPI(d.node.RemoveMember(ctx, id))
}

// Table implements api.Replica.
func (d *theDaemon) Table() *fsm.Table {
	if t := d.node.Table(); t.Cluster != "" {
		return t
	}
	return nil
}

// Propose implements api.Replica.
func (d *theDaemon) Propose(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	r, err := d.node.Propose(ctx, c)
	return r, asAPI(err)
}

// WaitRevision implements api.Replica.
func (d *theDaemon) WaitRevision(ctx context.Context, rev fsm.Revision) error {
	return asAPI(d.node.WaitRevision(ctx, rev))
}

// Others implements api.Observer.
func (d *theDaemon) Others(ctx context.Context) map[fsm.MemberID]api.DirectorReply {
	self, _ := d.node.Identity()
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var mu sync.Mutex
	var g errgroup.Group
	replies := map[fsm.MemberID]api.DirectorReply{}
	for _, m := range d.node.Table().Members {
		if m.ID == self.ID {
			continue
		}
		g.Go(func() error {
			reply := d.askOne(ctx, m.ID)
			mu.Lock()
			defer mu.Unlock()
			replies[m.ID] = reply
			return nil
		})
	}
	_ = g.Wait()
	return replies
}

func (d *theDaemon) askOne(ctx context.Context, id fsm.MemberID) api.DirectorReply {
	b, err := d.node.Ask(ctx, id, askStatus)
	if errors.Is(err, context.DeadlineExceeded) {
		return api.DirectorReply{Error: fmt.Sprintf("no answer within %v", askLimit)}
	}
	if err != nil {
		return api.DirectorReply{Error: err.Error()}
	}
	var s api.DirectorStatus
	if err := json.Unmarshal(b, &s); err != nil {
		return api.DirectorReply{Error: "its answer cannot be read: " + err.Error()}
	}
	return api.DirectorReply{Status: &s}
}

// asAPI puts the node's errors into the API's words.
func asAPI(err error) error {
	for from, to := range map[error]error{
		cluster.ErrUnenrolled: api.ErrNotEnrolled,
		cluster.ErrEnrolled:   api.ErrEnrolled,
		cluster.ErrNoLeader:   api.ErrNoQuorum,
		cluster.ErrUncertain:  api.ErrNoQuorum,
		cluster.ErrToken:      fsm.ErrInvalid,
		cluster.ErrWrongCA:    fsm.ErrDenied,
		cluster.ErrRemoved:    fsm.ErrDenied,
		cluster.ErrLastMember: fsm.ErrInvalid,
	} {
		if errors.Is(err, from) {
			return fmt.Errorf("%w: %w", to, err)
		}
	}
	return err
}
