package health

import (
	"fmt"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/farm"
	"lbcluster/e2e/site"
)

// crowd is what is checked, and how often.
type crowd struct {
	Crowd
	Settings
}

func (c crowd) String() string { return fmt.Sprintf("%s, each every %d s", c.Crowd, c.Loop) }

// each is a check a second, given a second.
var each = Settings{Loop: 1, Timeout: 1, Retry: 0, Pause: 1}

// crowds are what the guest bears; keepalived's process is at its end with little more
// than 2000 checks a second.
var crowds = []crowd{
	{Crowd{1000, 1}, each},
	{Crowd{2000, 1}, each},
	{Crowd{200, 10}, each},
	{Crowd{10000, 1}, Settings{Loop: 10, Timeout: 5, Retry: 0, Pause: 1}},
}

const (
	loadFor = 12 * time.Second // how long checks are counted
	warmFor = 3 * time.Second  // before
	idleFor = 5 * time.Second  // without checks
)

// load measures one director with each program.
func (r *runner) load(c crowd, d time.Duration) error {
	for _, who := range []struct {
		name  string
		start func(*site.Site, crowd) (pids []int, idle lab.Usage)
	}{{ours, startOurs}, {theirs, startTheirs}} {
		err := lab.Main(fmt.Sprintf("checkers-%s-%d-%d", who.name, c.Servers, c.Repeated), r.say, func(t lab.T) {
			r.say("%s", c)
			s := site.New(t, 1)
			f := newFarm(s, c.Settings)
			pids, idle := who.start(s, c)
			k := ipvs.New(fmt.Sprintf("/proc/self/fd/%d", s.Dirs[0].NetNS()))
			defer k.Close()
			s.Eventually(2*time.Minute, "all real servers are in the table", func() error { return wantEntries(k, c.entries()) })
			time.Sleep(warmFor + time.Duration(c.Loop)*time.Second)
			before, began := f.Counts(), time.Now()
			u := lab.UseOver(pids, max(d, 2*time.Duration(c.Loop)*time.Second))
			took := time.Since(began)
			for _, f := range loadFigures(c, who.name, u, idle, f.Counts().Sub(before), took) {
				r.note(f)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cpuACheck is lbcluster's without what it used before.
const cpuACheck = "CPU a check, without that"

// loadFigures are what is told of a load; idle is of idleFor.
func loadFigures(c crowd, who string, u, idle lab.Usage, n farm.Counts, took time.Duration) []Figure {
	rest := time.Duration(float64(idle.CPU) * took.Seconds() / idleFor.Seconds())
	late := 0.0
	if n.Again > 0 {
		late = 100 * float64(n.Late) / float64(n.Again)
	}
	f := func(what string, value float64, unit string) Figure {
		return Figure{Checkers, c.String(), who, what, value, unit}
	}
	a := float64(max(n.Accepted, 1))
	all := []Figure{
		f("checks that reached the servers, a second", float64(n.Accepted)/took.Seconds(), ""),
		f("CPU in all", 100*u.CPU.Seconds()/took.Seconds(), "%"),
		f("CPU before there were checks", 100*rest.Seconds()/took.Seconds(), "%"),
		f(cpuACheck, ms(u.CPU-rest)/a, "ms"),
		f("CPU a check, all of it", ms(u.CPU)/a, "ms"),
		f("memory", u.RSS, "MB"),
	}
	if who == ours || c.Repeated == 1 { // else an address is asked more often than that
		all = append(all, f("checks later than a tenth of the interval", late, "%"))
	}
	return all
}

func startOurs(s *site.Site, c crowd) ([]int, lab.Usage) {
	s.Form()
	pids := []int{s.Daemons[s.Dirs[0]].Pid()}
	time.Sleep(time.Second)
	idle := lab.UseOver(pids, idleFor)
	applyCrowd(s, c.Crowd, c.Settings)
	return pids, idle
}

func startTheirs(s *site.Site, c crowd) ([]int, lab.Usage) {
	h := s.Dirs[0]
	h.StartKeepalived(crowdConf(c.Crowd, c.Settings))
	s.Eventually(20*time.Second, "keepalived's checker runs", func() error {
		if n := len(h.KeepalivedPids()); n < 2 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	return h.KeepalivedPids(), lab.Usage{}
}
