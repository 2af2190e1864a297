package checks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lbcluster/fsm"
)

var (
	web1 = netip.MustParseAddrPort("172.25.88.2:80")
	web2 = netip.MustParseAddrPort("172.25.88.3:80")
)

// pairCheck is the check of the sample configuration, without warmup so that
// the moments are exact.
func pairCheck(dest netip.AddrPort) fsm.Check {
	return fsm.Check{
		Kind: fsm.CheckTCP, Dest: dest, ConnectTimeout: fsm.Duration(3 * time.Second), Retry: 3,
		DelayBeforeRetry: fsm.Duration(3 * time.Second), DelayLoop: fsm.Duration(6 * time.Second),
	}
}

func server(dest netip.AddrPort, checks ...fsm.Check) fsm.RealServer {
	return fsm.RealServer{Addr: dest.Addr(), Port: dest.Port(), Weight: 1, Checks: checks}
}

// cluster stands for the cluster: it applies votes to its table as the state
// machine does, and shows each new table to the Runner.
type cluster struct {
	t      *testing.T
	start  time.Time
	mu     sync.Mutex
	runner *Runner
	table  *fsm.Table
	fail   error // what Propose returns
	deaf   bool  // votes are accepted, but no new table is shown
	log    []string
	casts  int
	logged buffer
}

// buffer is a strings.Builder for many goroutines.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newCluster makes one with members m1 and m2, directors, and m3, a witness.
func newCluster(t *testing.T, servers ...fsm.RealServer) *cluster {
	return &cluster{t: t, start: time.Now(), table: &fsm.Table{
		Revision: 1,
		Members: []fsm.Member{
			{ID: "m1", Role: fsm.Director, State: fsm.Present},
			{ID: "m2", Role: fsm.Director, State: fsm.Joining},
			{ID: "m3", Role: fsm.Witness, State: fsm.Present},
		},
		Services: []fsm.VirtualServer{{
			ServiceKey:  fsm.ServiceKey{Addr: netip.MustParseAddr("172.25.88.100"), Port: 80, Protocol: fsm.TCP},
			RealServers: servers,
		}},
		Votes: map[fsm.Target]map[fsm.MemberID]fsm.Vote{},
	}}
}

// change shows the Runner a copy of the table after f.
func (c *cluster) change(f func(*fsm.Table)) {
	c.mu.Lock()
	t := *c.table
	t.Revision++
	t.Services = slices.Clone(t.Services)
	t.Members = slices.Clone(t.Members)
	t.Votes = maps.Clone(t.Votes)
	f(&t)
	c.table = &t
	show := !c.deaf
	c.mu.Unlock()
	if show && c.runner != nil {
		c.runner.Update("m1", &t)
	}
}

func (c *cluster) propose(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
	if cmd.Version != 0 || cmd.Votes == nil || cmd.Votes.Member != "m1" || cmd.By != "m1" {
		c.t.Errorf("malformed command %+v", cmd)
	}
	c.mu.Lock()
	c.casts++
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return fsm.Result{}, fail
	}
	c.change(func(t *fsm.Table) {
		for _, o := range cmd.Votes.Opinions {
			votes := maps.Clone(t.Votes[o.Target])
			if votes == nil {
				votes = map[fsm.MemberID]fsm.Vote{}
			}
			votes["m1"] = o.Vote
			t.Votes[o.Target] = votes
			c.log = append(c.log, fmt.Sprintf("%v %s", time.Since(c.start).Round(10*time.Millisecond), c.describe(t, o)))
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	return fsm.Result{Revision: c.table.Revision, Changed: true}, nil
}

// describe is "172.25.88.2:80 down connection refused".
func (c *cluster) describe(t *fsm.Table, o fsm.Opinion) string {
	for _, info := range t.Targets() {
		if info.Target != o.Target {
			continue
		}
		if o.Up {
			word := " up" + o.Detail
			if o.Weighs != (fsm.Weighing{}) {
				word += " (" + o.Weighs.String() + ")"
			}
			return info.Server.String() + word
		}
		return info.Server.String() + " down " + o.Detail
	}
	return "unknown target " + string(o.Target)
}

// votes returns what was voted so far, and forgets it.
func (c *cluster) votes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log
	c.log = nil
	return log
}

func (c *cluster) proposals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.casts
}

// expect fails unless exactly these votes came since the last call.
func (c *cluster) expect(want ...string) {
	c.t.Helper()
	if got := c.votes(); !slices.Equal(got, want) {
		c.t.Errorf("votes %q, want %q", got, want)
	}
}

var errRefused = errors.New("connection refused")

// network answers probes as told, and remembers when they came.
type network struct {
	start  time.Time
	mu     sync.Mutex
	down   map[netip.AddrPort]bool
	hang   map[netip.AddrPort]bool
	weighs map[netip.AddrPort]fsm.Weighing
	seen   map[netip.AddrPort][]time.Duration
}

func newNetwork() *network {
	return &network{
		start: time.Now(), down: map[netip.AddrPort]bool{}, hang: map[netip.AddrPort]bool{}, weighs: map[netip.AddrPort]fsm.Weighing{},
		seen: map[netip.AddrPort][]time.Duration{},
	}
}

func (n *network) set(m map[netip.AddrPort]bool, a netip.AddrPort, v bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m[a] = v
}

func (n *network) check(ctx context.Context, c fsm.Check) (fsm.Weighing, error) {
	n.mu.Lock()
	n.seen[c.Dest] = append(n.seen[c.Dest], time.Since(n.start))
	hang, down, weighs := n.hang[c.Dest], n.down[c.Dest], n.weighs[c.Dest]
	n.mu.Unlock()
	switch {
	case hang:
		ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout.D())
		defer cancel()
		<-ctx.Done()
		return fsm.Weighing{}, errors.New("no answer within 3s")
	case down:
		return fsm.Weighing{}, errRefused
	}
	return weighs, nil
}

func (n *network) probes(a netip.AddrPort) []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen[a])
}
