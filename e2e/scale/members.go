package scale

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// membersSize is the table that clusters of several sizes get.
var membersSize = Size{10, 100}

// memberCounts are the sizes of clusters that are measured, routerCounts how many
// virtual routers one of three has; VRIDs go to 255.
var (
	memberCounts = []int{3, 5, 7}
	routerCounts = []int{1, 64, 255}
)

// Members measures a cluster of so many directors.
func Members(t lab.T, members int, report Report) {
	s := site.New(t, members)
	s.Form()
	var tables []table
	for _, h := range s.Dirs {
		k := tableOf(h)
		defer k.Close()
		tables = append(tables, k)
	}
	s.Dirs[0].WriteFile("/etc/size.conf", Conf(membersSize, Change{}))
	began := time.Now()
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/size.conf", "--yes")
	report.ms("apply all: in all kernels", await(t, began, "the table", tables, func(k table) bool { ok, err := k.full(membersSize); return ok && err == nil }))
	s.AwaitOwner()
	byAPI(t, s, membersSize, tables, report)
	rest(s, report)
}

// rest tells what daemons need that have nothing to do: the average of all.
func rest(s *site.Site, report Report) {
	time.Sleep(2 * time.Second)
	var pids []int
	for _, d := range s.Daemons {
		pids = append(pids, d.Pid())
	}
	const d = 10 * time.Second
	u := lab.UseOver(pids, d)
	n := float64(len(pids))
	report("a daemon at rest: memory", u.RSS/n, "MB")
	report("a daemon at rest: CPU", 100*u.CPU.Seconds()/d.Seconds()/n, "%")
}

// Routers measures three directors with so many virtual routers, and nothing else.
func Routers(t lab.T, routers int, report Report) {
	s := site.New(t, 3)
	s.Form()
	s.Dirs[0].WriteFile("/etc/routers.conf", routersConf(routers))
	began := time.Now()
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/routers.conf", "--yes")
	report.ms("apply: the command", time.Since(began))
	s.Eventually(2*time.Minute, fmt.Sprintf("all of %d virtual routers have an owner", routers), func() error {
		return owned(s, routers)
	})
	report.ms("apply: every virtual router has an owner with its address", time.Since(began))
	rest(s, report)
}

// owned reports what is missing until every router's address is on one director.
func owned(s *site.Site, routers int) error {
	on := 0
	for _, h := range s.Dirs {
		all, err := h.ReadFile("/proc/net/fib_trie")
		if err != nil {
			return err
		}
		on += addressesIn(all)
	}
	if on != routers {
		return fmt.Errorf("%d addresses are on directors", on)
	}
	return nil
}

// addressesIn counts the routers' addresses that a host has, of its fib_trie: local
// ones, each of which it lists twice.
func addressesIn(trie string) int {
	seen := map[netip.Addr]bool{}
	var last netip.Addr
	for l := range strings.Lines(trie) {
		f := strings.Fields(l)
		switch {
		case len(f) == 2 && f[0] == "|--":
			last, _ = netip.ParseAddr(f[1])
		case len(f) == 3 && f[0] == "/32" && f[2] == "LOCAL" && routerNetwork.Contains(last):
			seen[last] = true
		}
	}
	return len(seen)
}

var routerNetwork = netip.MustParsePrefix("10.79.0.0/16")

// routersConf has so many virtual routers with one address each.
func routersConf(routers int) string {
	var b strings.Builder
	for i := range routers {
		fmt.Fprintf(&b, "vrrp_instance VI_%d {\n    state MASTER\n    interface eth0\n    virtual_router_id %d\n    priority 100\n    advert_int 1\n    virtual_ipaddress {\n        10.79.0.%d\n    }\n}\n", i+1, i+1, i+1)
	}
	return b.String()
}
