package e2e

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/interop"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

var interopFull = flag.Bool("interop.full", false, "do all steps with all ways to talk VRRP")

// interopSome is the way that a run which is not full tries: what people have.
var interopSome = interop.Batch{Version: 2, Pass: true}

// TestInterop has a cluster and a real keepalived be VRRP peers in every
// combination of settings, and wants of every event what two keepalived would
// come to. What was seen is left as a result, NAME.txt for each batch.
func TestInterop(t *testing.T) {
	lab.Need(t)
	for _, b := range interop.Batches {
		t.Run(b.String(), func(t *testing.T) {
			if !*interopFull && b != interopSome {
				t.Skip("only with -interop.full")
			}
			r := newInterop(t, b)
			for _, s := range interop.Steps {
				if *interopFull || s.Some {
					r.do(s)
				}
			}
			r.record()
		})
	}
}

// interopRun is a cluster with a router for each cell, and its peer.
type interopRun struct {
	*site.Site
	t          *testing.T
	batch      interop.Batch
	peer       *lab.Host
	keepalived *lab.Proc
	line       interop.Timeline
	pairs      []interop.Pair // one for each cell
	rows       []interop.Row
	cut        *lab.Block
	stopped    []*lab.Host // directors that run no daemon
}

func newInterop(t *testing.T, b interop.Batch) *interopRun {
	t.Helper()
	s := &site.Site{Lab: lab.New(t), T: t, Daemons: map[*lab.Host]*lab.Director{}}
	r := &interopRun{Site: s, t: t, batch: b}
	for i, name := range []string{"dir1", "dir2", "dir3"} {
		s.Dirs = append(s.Dirs, s.AddHost(name, interop.Prefixes(i)...))
	}
	r.peer = s.AddHost(interop.PeerHost, interop.PeerPrefixes()...)
	for _, h := range s.Hosts() {
		h.WatchAddresses(func(at time.Time, addr netip.Addr, on bool) {
			r.line.Add(interop.Change{At: at, Host: h.Name, Addr: addr.String(), On: on})
		})
	}
	s.Found()
	// One director owns all routers, so that each step is about all of them.
	s.Dirs[0].MustRun("lbcluster", "settings", "set", "spares=2")
	s.Dirs[0].WriteFile("/etc/peers.conf", b.Ours())
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/peers.conf", "--yes")
	for _, c := range interop.Cells {
		r.pairs = append(r.pairs, interop.NewPair(c))
	}
	r.settle("the cluster serves all", time.Now(), 20*time.Second)
	return r
}

// look is what was seen of each cell since a time.
func (r *interopRun) look(from time.Time) (seen []interop.Seen) {
	now := time.Now()
	for i := range interop.Cells {
		seen = append(seen, r.line.Look(r.batch.VIP(i), from, now))
	}
	return seen
}

// settle waits until all cells are as the model has them, and says whether they
// came to be.
func (r *interopRun) settle(what string, from time.Time, patience time.Duration) bool {
	for time.Since(from) < patience {
		right := true
		for i, seen := range r.look(from) {
			right = right && seen.Holders == r.pairs[i].Holders
		}
		if right {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.t.Errorf("%s: not as expected after %v", what, patience)
	for _, h := range r.Dirs {
		if out, err := h.Run(context.Background(), "lbcluster", "status"); err == nil {
			r.t.Logf("%s says:\n%s", h.Name, out)
			break
		}
	}
	return false
}

// interopQuiet is for how long more is watched: above a Master_Down_Interval.
const interopQuiet = 4 * time.Second

// do takes one step and judges it.
func (r *interopRun) do(s interop.Step) {
	before := r.pairs
	r.pairs = nil
	for _, p := range before {
		r.pairs = append(r.pairs, p.After(s.Event))
	}
	from := time.Now()
	r.act(s.Name)
	r.settle(s.Name, from, 25*time.Second)
	time.Sleep(interopQuiet)
	for i, seen := range r.look(from) {
		r.rows = append(r.rows, interop.Row{Step: s.Name, Cell: interop.Cells[i], Seen: seen})
		for _, wrong := range interop.Judge(before[i], s, seen) {
			r.t.Errorf("%s: %v: %s", s.Name, interop.Cells[i], wrong)
		}
	}
	for _, l := range strings.Split(string(interop.WriteRecord(r.rows[len(r.rows)-len(interop.Cells):])), "\n") {
		r.t.Log(l)
	}
	for _, h := range r.Dirs {
		if r.Daemons[h] != nil && (s.Event == interop.ClusterStarts || s.Event == interop.DirectorReturns) {
			r.AwaitVoter(h)
		}
	}
}

// record leaves what was seen.
func (r *interopRun) record() {
	if err := os.WriteFile(filepath.Join(r.Results(), r.batch.String()+".txt"), interop.WriteRecord(r.rows), 0o644); err != nil {
		r.t.Error(err)
	}
}
