package scale

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/dataplane/ipvs"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// Report is told of each figure; ms are milliseconds.
type Report func(what string, value float64, unit string)

func (r Report) ms(what string, d time.Duration) { r(what, float64(d.Microseconds())/1000, "ms") }

// restFor is how long a daemon is watched at rest.
const restFor = 20 * time.Second

// Cluster measures three directors. It leaves them with the table as it was applied
// first.
func Cluster(t lab.T, size Size, report Report) { cluster(t, size, restFor, report) }

// Quick is Cluster with a short look at the daemon at rest, for tests.
func Quick(t lab.T, size Size, report Report) { cluster(t, size, time.Second, report) }

func cluster(t lab.T, size Size, rest time.Duration, report Report) {
	s := site.New(t, 3)
	s.Form()
	var tables []table
	for _, h := range s.Dirs {
		k := tableOf(h)
		defer k.Close()
		tables = append(tables, k)
	}
	apply := func(what string, c Change, wanted func(table) bool) {
		s.Dirs[0].WriteFile("/etc/size.conf", Conf(size, c))
		began := time.Now()
		s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/size.conf", "--yes", "--prune")
		report.ms(what+": the command", time.Since(began))
		report.ms(what+": in all three kernels", await(t, began, what, tables, wanted))
	}
	full := func(k table) bool { ok, err := k.full(size); return ok && err == nil }
	apply("apply all", Change{}, full)
	s.AwaitOwner()
	service, server := middle(size)
	apply("apply one weight", Change{Weight: 7}, func(k table) bool { return k.weight(service, server) == 7 })
	apply("apply one server less", Change{Weight: 7, Less: 1}, func(k table) bool {
		dests, err := k.Dests(key(size.Services - 1))
		return err == nil && len(dests) == size.Servers-1
	})
	apply("apply one server more", Change{Weight: 7}, full)

	byAPI(t, s, size, tables, report)
	repair(t, size, tables[2], report)
	restart(t, s, report)
	u := lab.UseOver([]int{s.Daemons[s.Dirs[2]].Pid()}, rest)
	report("a daemon at rest: memory", u.RSS, "MB")
	report("a daemon at rest: CPU", 100*u.CPU.Seconds()/rest.Seconds(), "%")
	report("a daemon's Raft log and snapshots", diskOf(s.Dirs[2]), "MB")
}

// changes is how many weights are set one after the other.
const changes = 50

// byAPI sets a weight again and again, from one director's socket to all kernels: no
// program has to start for it.
func byAPI(t lab.T, s *site.Site, size Size, tables []table, report Report) {
	client := api.NewClient(fmt.Sprintf("/proc/%d/root/run/lbcluster/lbcluster.sock", s.Daemons[s.Dirs[1]].Pid()))
	service, server := middle(size)
	var took []time.Duration
	for n := range changes {
		weight := 100 + n
		began := time.Now()
		if _, err := client.Override(context.Background(), api.OverrideRequest{Server: server, Weight: &weight}); err != nil {
			t.Fatalf("set a weight: %v", err)
		}
		took = append(took, await(t, began, "a weight", tables, func(k table) bool { return k.weight(service, server) == weight }))
	}
	if _, err := client.Override(context.Background(), api.OverrideRequest{Server: server, ResetWeight: true}); err != nil {
		t.Fatalf("set a weight back: %v", err)
	}
	slices.Sort(took)
	report.ms("one weight through the API, in all three kernels: median", took[len(took)/2])
	report.ms(fmt.Sprintf("one weight through the API, in all three kernels: worst of %d", changes), took[len(took)-1])
}

// repair removes a real server beside lbcluster.
func repair(t lab.T, size Size, k table, report Report) {
	service, server := middle(size)
	gone := ipvs.Op{Verb: ipvs.RemoveDest, Service: ipvs.Service{Key: service}, Dest: ipvs.Dest{DestKey: ipvs.DestKey{Addr: server.Addr(), Port: server.Port()}}}
	if err := k.Do(gone); err != nil {
		t.Fatalf("remove a real server by hand: %v", err)
	}
	took := await(t, time.Now(), "repaired", []table{k}, func(k table) bool { return k.weight(service, server) > 0 })
	report.ms("a server that somebody removed is back", took)
}

// restart stops and starts a daemon that owns nothing, until it would be ready to own.
func restart(t lab.T, s *site.Site, report Report) {
	h := s.Dirs[2]
	if h == s.AwaitOwner() {
		h = s.Dirs[1]
	}
	if err := s.Daemons[h].Stop(); err != nil {
		t.Fatalf("stop %s: %v", h.Name, err)
	}
	began := time.Now()
	s.Start(h)
	s.Eventually(2*time.Minute, h.Name+" is ready to own", func() error {
		l, err := s.Local(h)
		if err != nil {
			return err
		}
		if !l.Kernel.Applied || len(l.Leases) == 0 || l.Leases[0].Unfit != "" {
			return fmt.Errorf("applied: %v, leases %+v", l.Kernel.Applied, l.Leases)
		}
		return nil
	})
	report.ms("a daemon restarts, until it would be ready to own", time.Since(began))
}

// diskOf is the size of a director's log and snapshots, in MB; files may be sparse.
func diskOf(h *lab.Host) float64 {
	out := strings.Fields(h.MustRun("du", "-sk", lab.DataDir+"/raft"))
	kb := 0
	fmt.Sscan(out[0], &kb)
	return float64(kb) / 1024
}
