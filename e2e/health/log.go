package health

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"lbcluster/dataplane/ipvs"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// What is measured of the log.
var (
	FlapCrowd    = Crowd{Servers: 1000, Repeated: 1}
	flapSettings = Settings{Loop: 3, Timeout: 2, Retry: 0, Pause: 1}
)

const (
	flaps   = 3
	calmFor = 60 * time.Second
)

// log counts what a crowd that flaps, and calm, write to the Raft log.
func (r *runner) log(c Crowd, flaps int, calm time.Duration) error {
	return lab.Main("health-log", r.say, func(t lab.T) {
		name := fmt.Sprintf("%s, checked each %d s by three directors", c, flapSettings.Loop)
		r.say("%s", name)
		l := flap(t, c, flaps, calm)
		note := func(what string, value float64, unit string) {
			r.note(Figure{Deaths, name, ours, what, value, unit})
		}
		n := float64(flaps)
		note("all down and up again once: votes of a director on a server", float64(2*3*c.Servers), "")
		note("all down and up again once: entries of the Raft log", float64(l.Entries)/n, "")
		note("all down and up again once: their bytes", float64(l.Bytes)/n, "")
		note("the largest of these entries, bytes", float64(l.Largest), "")
		note(fmt.Sprintf("%.0f s of calm: entries of the Raft log", calm.Seconds()), float64(l.Calm), "")
	})
}

// Log is what was written to the Raft log.
type Log struct {
	Entries, Bytes, Largest int // while servers flapped
	Calm                    int // entries while nothing happened
}

// QuickLog has a small crowd flap once, for tests.
func QuickLog(t lab.T, c Crowd) Log { return flap(t, c, 1, 5*time.Second) }

// flap lets a crowd die and return so often, and then leaves all in peace.
func flap(t lab.T, c Crowd, times int, calm time.Duration) Log {
	s := site.New(t, 3)
	farm := newFarm(s, flapSettings)
	s.Form()
	applyCrowd(s, c, flapSettings)
	awaitCrowd(s, c, true)
	settle := 2 * time.Duration(flapSettings.Loop) * time.Second // until all opinions are in
	time.Sleep(settle)
	before := applied(s)
	for range times {
		farm.Kill()
		awaitCrowd(s, c, false)
		farm.Serve()
		awaitCrowd(s, c, true)
	}
	time.Sleep(settle)
	flapped := applied(s)
	time.Sleep(calm)
	l := entries(s, before, flapped, applied(s))
	return l
}

// newFarm adds the crowd's host and gives the directors the way to it.
func newFarm(s *site.Site, set Settings) *lab.Farm {
	f := s.Farm("farm", "172.25.88.70/24", crowdNetwork, time.Duration(set.Loop)*time.Second)
	for _, h := range s.Dirs {
		f.Known(h, crowdNetwork)
	}
	return f
}

func applyCrowd(s *site.Site, c Crowd, set Settings) {
	s.Dirs[0].WriteFile("/etc/crowd.conf", crowdConf(c, set))
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/crowd.conf", "--yes")
}

// awaitCrowd waits until all real servers are in all directors' tables, or none.
func awaitCrowd(s *site.Site, c Crowd, in bool) {
	s.T.Helper()
	want := 0
	if in {
		want = c.entries()
	}
	for _, h := range s.Dirs {
		k := ipvs.New(fmt.Sprintf("/proc/self/fd/%d", h.NetNS()))
		s.Eventually(2*time.Minute, fmt.Sprintf("%s has %d real servers in its table", h.Name, want), func() error {
			return wantEntries(k, want)
		})
		k.Close()
	}
}

func wantEntries(k *ipvs.Handle, want int) error {
	all, err := k.List()
	n := 0
	for _, s := range all {
		n += len(s.Dests)
	}
	if err == nil && n != want {
		err = fmt.Errorf("it has %d", n)
	}
	return err
}

// applied is the log index that all directors have applied.
func applied(s *site.Site) (index uint64) {
	s.T.Helper()
	s.Eventually(20*time.Second, "all directors have applied the same", func() error {
		index = 0
		for _, h := range s.Dirs {
			l, err := s.Local(h)
			if err != nil {
				return err
			}
			if index != 0 && index != l.Raft.Applied {
				return fmt.Errorf("%s has applied %d, another %d", h.Name, l.Raft.Applied, index)
			}
			index = l.Raft.Applied
		}
		return nil
	})
	return index
}

// entries reads a piece of a director's log, behind from and up to to, and stops the
// director for it; what came from there to end came in the calm.
func entries(s *site.Site, from, to, end uint64) (l Log) {
	s.T.Helper()
	h := s.Dirs[2]
	if err := s.Daemons[h].Stop(); err != nil {
		s.T.Fatalf("stop %s: %v", h.Name, err)
	}
	err := h.Do(func() (err error) {
		l, err = readLog(lab.DataDir+"/raft/raft.db", from, to)
		return err
	})
	if err != nil {
		s.T.Fatalf("%s: its Raft log: %v", h.Name, err)
	}
	l.Calm = int(end - to)
	return l
}

func readLog(file string, from, to uint64) (l Log, err error) {
	db, err := raftboltdb.New(raftboltdb.Options{Path: file, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: time.Second}, MsgpackUseNewTimeFormat: true})
	if err != nil {
		return l, err
	}
	defer db.Close()
	for i := from + 1; i <= to; i++ {
		var entry raft.Log
		if err := db.GetLog(i, &entry); err != nil {
			return l, fmt.Errorf("entry %d: %w", i, err)
		}
		l.Entries++
		l.Bytes += len(entry.Data)
		l.Largest = max(l.Largest, len(entry.Data))
	}
	return l, nil
}
