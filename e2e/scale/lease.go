package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// leaseSize is the table that leases are renewed beside.
var leaseSize = Size{100, 100}

// phase is something that happens while one director holds the virtual router.
type phase struct {
	name string
	do   func(*tenant)
}

var phases = []phase{
	{"calm", func(*tenant) { time.Sleep(10 * time.Second) }},
	{"10 000 servers are applied", func(n *tenant) { n.apply(n.all(1)); n.await() }},
	{"a look for drift, and calm", func(*tenant) { time.Sleep(10 * time.Second) }},
	{"they are applied again and again, until all three daemons have taken a snapshot", (*tenant).snapshots},
	{"another follower is stopped and started", func(n *tenant) { n.restart(n.other) }},
	{"the leader is stopped and started", func(n *tenant) { n.restart(n.leader) }},
}

// tenant is a cluster whose leader holds nothing.
type tenant struct {
	*site.Site
	size          Size
	leader        *lab.Host
	holder, other *lab.Host // of the followers
	tables        []table
}

// Lease measures how much of a lease's deadline is left at its renewals, in each
// phase's own tenure. Nothing may be late: a lease that is lost is an error.
func Lease(t lab.T, report func(phase, what string, value float64, unit string)) {
	s := site.New(t, 3)
	s.Form()
	n := &tenant{Site: s, size: leaseSize}
	for _, h := range s.Dirs {
		k := tableOf(h)
		defer k.Close()
		n.tables = append(n.tables, k)
	}
	n.apply(parsed(t, Conf(Size{1, 1}, Change{})))
	s.AwaitOwner()
	n.leader = s.AwaitCalm()
	n.holder, n.other = s.Others(n.leader)[0], s.Others(n.leader)[1]
	for _, p := range phases {
		n.move()
		before := n.lease()
		p.do(n)
		after := n.lease()
		if after.State != "holder" || after.Lost != before.Lost || !after.HeldSince.Equal(before.HeldSince) {
			t.Errorf("%s: the lease was lost: %+v, before %+v", p.name, after, before)
		}
		report(p.name, "renewals", float64(after.Renewals), "")
		report(p.name, "least left of the deadline", 100*after.LeastLeft, "%")
		report(p.name, "left on average", 100*after.MeanLeft, "%")
	}
}

// move hands the virtual router to the other follower: a new tenure, of which the
// margins are counted anew.
func (n *tenant) move() {
	n.T.Helper()
	n.AwaitCalm()
	n.holder, n.other = n.other, n.holder
	n.Eventually(30*time.Second, n.holder.Name+" holds the lease", func() error {
		out, err := n.Dirs[0].Run(context.Background(), "lbcluster", "router", "move", "VI_1", n.holder.Name)
		if owner, _ := n.Owner(); owner != n.holder {
			return fmt.Errorf("%s: %w", out, errors.Join(err, errors.New("it does not")))
		}
		return nil
	})
	time.Sleep(time.Second) // renewals of the new tenure
}

// lease is what the holder says of its lease.
func (n *tenant) lease() site.Lease {
	n.T.Helper()
	var l site.Lease
	n.Eventually(10*time.Second, n.holder.Name+" tells of its lease", func() error {
		local, err := n.Local(n.holder)
		if err == nil && len(local.Leases) == 0 {
			err = errors.New("it has none")
		}
		if err == nil {
			l = local.Leases[0]
		}
		return err
	})
	return l
}

// parsed is a keepalived.conf as the API takes it.
func parsed(t lab.T, text string) fsm.Config {
	r, problems := conf.Parse("f", func(string) ([]byte, error) { return []byte(text), nil }, nil)
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return r.Config
}

func (n *tenant) all(weight int) fsm.Config {
	return parsed(n.T, Conf(n.size, Change{Weight: weight}))
}

// apply applies a configuration through the leader's socket, or any.
func (n *tenant) apply(c fsm.Config) {
	n.T.Helper()
	h := n.Dirs[0]
	client := api.NewClient(fmt.Sprintf("/proc/%d/root/run/lbcluster/lbcluster.sock", n.Daemons[h].Pid()))
	table, err := client.Table(context.Background(), 0)
	if err == nil {
		_, err = client.Apply(context.Background(), api.ApplyRequest{Set: "default", Config: c, IfRevision: table.Revision, Prune: true, Brief: true})
	}
	if err != nil {
		n.T.Fatalf("apply: %v", err)
	}
}

func (n *tenant) await() {
	n.T.Helper()
	await(n.T, time.Now(), "the whole table", n.tables, func(k table) bool { ok, err := k.full(n.size); return ok && err == nil })
}

// snapshots applies the table until all daemons have made one of it.
func (n *tenant) snapshots() {
	n.T.Helper()
	before := map[*lab.Host]string{}
	for _, h := range n.Dirs {
		before[h] = snapshotsOf(h)
	}
	done := func() bool {
		for h, had := range before {
			if snapshotsOf(h) == had {
				return false
			}
		}
		return true
	}
	configs := []fsm.Config{n.all(2), n.all(3)}
	for i := 0; i < 100 && !done(); i++ {
		n.apply(configs[i%2])
	}
	if !done() {
		n.T.Errorf("no snapshot was taken by all: %v", before)
	}
	n.await()
}

// snapshotsOf names the snapshots that a director has.
func snapshotsOf(h *lab.Host) string {
	var names []string
	err := h.Do(func() error {
		all, err := os.ReadDir(lab.DataDir + "/raft/snapshots")
		for _, e := range all {
			if !strings.HasSuffix(e.Name(), ".tmp") {
				names = append(names, e.Name())
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return strings.Join(names, " ")
}

func (n *tenant) restart(h *lab.Host) {
	n.T.Helper()
	if err := n.Daemons[h].Stop(); err != nil {
		n.T.Fatalf("stop %s: %v", h.Name, err)
	}
	n.Start(h)
	n.AwaitCalm()
}
