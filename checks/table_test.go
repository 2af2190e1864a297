package checks

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// TestRealTable: file, table, checks and agreed health together, with the real
// state machine of a cluster of one director: a server that dies leaves what
// the kernel shall have, and comes back.
func TestRealTable(t *testing.T) {
	read, problems := conf.Parse("../fsm/conf/testdata/pair.conf", os.ReadFile, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var (
			mu     sync.Mutex
			table  = fsm.New()
			runner *Runner
		)
		propose := func(_ context.Context, c fsm.Command) (fsm.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			next, result, err := table.Apply(c)
			if err != nil {
				return result, err
			}
			table = next
			runner.Update("m1", table)
			return result, nil
		}
		runner = New(Config{Propose: propose, Check: n.check})
		must := func(c fsm.Command) {
			c.Version, c.By, c.At = fsm.CommandVersion, "test", time.Now()
			if _, err := propose(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		must(fsm.Command{Found: &fsm.Found{Cluster: "c", Name: "dir1", Addr: netip.MustParseAddrPort("172.25.88.11:7500"), Profile: "default"}})
		must(fsm.Command{Apply: &fsm.ApplySet{Set: "default", Config: read.Config}})
		inKernel := func() string {
			mu.Lock()
			defer mu.Unlock()
			var list []netip.Addr
			for _, d := range table.Effective()[0].Dests {
				list = append(list, d.Addr)
			}
			return fmt.Sprint(list)
		}

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- runner.Run(ctx) }()
		for _, step := range []struct {
			what string
			down bool
			wait time.Duration // at most: loop 6 s, and 3 retries of 3 s to go down
			want string
		}{
			{"both up", false, 7 * time.Second, "[172.25.88.2 172.25.88.3]"},
			{"one dies", true, 16 * time.Second, "[172.25.88.3]"},
			{"and comes back", false, 7 * time.Second, "[172.25.88.2 172.25.88.3]"},
		} {
			n.set(n.down, web1, step.down)
			after(step.wait)
			if got := inKernel(); got != step.want {
				t.Errorf("%s: %s, want %s", step.what, got, step.want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
