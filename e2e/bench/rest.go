package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

const (
	routers    = 64
	portion    = 16 // of them are added at a time
	restWindow = 5 * time.Second
	hertz      = 100 // USER_HZ, the unit of times in /proc/PID/stat
)

// manyConf is a configuration with n virtual routers and nothing behind them.
func manyConf(n int, version, advert string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global_defs {\n    %s\n}\n", version)
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "vrrp_instance VI_%d {\n    state MASTER\n    interface eth0\n    virtual_router_id %d\n    priority 100\n    advert_int %s\n    virtual_ipaddress {\n        %s%d\n    }\n}\n", i, i, advert, manyPrefix, 100+i)
	}
	return b.String()
}

const manyPrefix = "172.25.88."

// held counts the host's VIPs.
func held(h *lab.Host) int {
	out, _ := h.Run(context.Background(), "ip", "-o", "-4", "addr", "show", "dev", lab.Interface)
	n := 0
	for line := range strings.Lines(out) {
		if strings.Contains(line, "/32 ") {
			n++
		}
	}
	return n
}

// placement waits until n VIPs are on one director each, for a while; the error
// says where they are instead.
func placement(s *site.Site, n int, patience time.Duration) error {
	since := time.Now()
	for deadline := since.Add(patience); ; time.Sleep(50 * time.Millisecond) {
		var on []int
		sum := 0
		for _, h := range s.Dirs {
			on = append(on, held(h))
			sum += on[len(on)-1]
		}
		if sum != n {
			since = time.Now()
		}
		switch {
		case time.Since(since) >= 3*time.Second:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d VIPs are not placed after %v: on the directors are %v%s", n, patience, on, said(s))
		}
	}
}

// awaitPlaced is placement that must succeed; it returns the first director.
func awaitPlaced(s *site.Site, n int) *lab.Host {
	if err := placement(s, n, time.Minute); err != nil {
		s.T.Fatalf("%v", err)
	}
	return s.Dirs[0]
}

// said is how status begins, where there is one.
func said(s *site.Site) string {
	if len(s.Daemons) == 0 {
		return ""
	}
	out, _ := s.Command(s.Dirs[0], "status")
	return "\n" + out[:min(len(out), 600)]
}

// manyLbcluster is a cluster with 64 virtual routers.
func manyLbcluster(t lab.T, initArgs ...string) *contestant {
	s := site.New(t, 3)
	s.Form(initArgs...)
	// All at once, three directors ask for 64 leases at the same moment, which
	// two emulated CPUs do not bear. Where they do not bear them one after the
	// other either, as many as they do are measured.
	n := portion
	apply := func() {
		s.Dirs[0].WriteFile("/etc/many.conf", manyConf(n, "vrrp_version 2", "1"))
		s.Eventually(time.Minute, "the routers are applied", func() error { // the table may change meanwhile
			_, err := s.Dirs[0].Run(context.Background(), "lbcluster", "apply", "-f", "/etc/many.conf", "--prune", "--yes")
			if err != nil {
				text := err.Error()
				err = errors.New(text[max(0, len(text)-300):])
			}
			return err
		})
	}
	for ; n <= routers; n += portion {
		apply()
		if err := placement(s, n, 30*time.Second); err != nil {
			t.Logf("  the machine does not bear so many: %v", err)
			break
		}
	}
	if n -= portion; n == 0 {
		t.Fatalf("not even %d routers are placed", portion)
	}
	if n < routers {
		apply()
	}
	c := lbcluster(s)
	c.calm = func() *lab.Host { return awaitPlaced(s, n) }
	return c
}

// manyKeepalived is a pair with 64 virtual routers, all on the first director.
func manyKeepalived(t lab.T, version, advert string) *contestant {
	s := site.New(t, 2)
	conf := manyConf(routers, version, advert)
	s.Dirs[0].StartKeepalived(conf)
	s.Dirs[1].StartKeepalived(asBackup(conf))
	return &contestant{site: s, pids: (*lab.Host).KeepalivedPids, calm: func() *lab.Host { return awaitPlaced(s, routers) }}
}

// usage is what a director has used up to a moment.
type usage struct {
	at       probe.Time
	out, in  float64 // packets
	cpu, rss float64 // seconds, MB
}

func (c *contestant) usage(h *lab.Host) (u usage, err error) {
	err = h.Do(func() error {
		u.at = probe.Now()
		u.out, u.in = number("tx_packets"), number("rx_packets")
		return nil
	})
	for _, pid := range c.pids(h) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return u, err
		}
		s, m, err := readStat(string(stat))
		if err != nil {
			return u, err
		}
		u.cpu += s
		u.rss += m
	}
	return u, err
}

// number reads one of the interface's counters.
func number(name string) float64 {
	b, _ := os.ReadFile(filepath.Join("/sys/class/net", lab.Interface, "statistics", name))
	n, _ := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
	return n
}

// readStat takes the CPU time in seconds (utime and stime) and the resident
// memory in MB from /proc/PID/stat (proc_pid_stat(5)); the command in it may
// contain blanks and brackets.
func readStat(stat string) (seconds, mb float64, err error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 22 {
		return 0, 0, fmt.Errorf("short: %q", stat)
	}
	var n [3]float64
	for i, at := range []int{11, 12, 21} {
		if n[i], err = strconv.ParseFloat(f[at], 64); err != nil {
			return 0, 0, err
		}
	}
	return (n[0] + n[1]) / hertz, n[2] * float64(os.Getpagesize()) / (1 << 20), nil
}

// rest counts for a while.
func rest(a *attempt) {
	var before []usage
	a.begin("nothing happens")
	for _, h := range a.site.Dirs {
		u, err := a.usage(h)
		a.must(err)
		before = append(before, u)
	}
	a.until(restWindow)
	v := map[quantity]float64{}
	for _, h := range a.site.Dirs {
		v[served] += float64(held(h))
	}
	for i, h := range a.site.Dirs {
		u, err := a.usage(h)
		a.must(err)
		s := u.at.Sub(before[i].at).Seconds()
		out, in, used := (u.out-before[i].out)/s, (u.in-before[i].in)/s, 100*(u.cpu-before[i].cpu)/s
		v[sent], v[heard], v[cpu], v[rss] = max(v[sent], out), max(v[heard], in), max(v[cpu], used), max(v[rss], u.rss)
		v[pktAll] += out
		v[cpuAll] += used
	}
	a.end()
	a.values = v
}
