package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/dataplane/ipvs"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
	"lbcluster/fsm"
)

// stallLimit leaves a change out: the machine itself stood still for longer.
const stallLimit = 60 * time.Millisecond

// requests is how often each of the two clients opens a connection.
const requests = 20 * time.Millisecond

// The two systems, as figures name them.
const (
	ours   = "lbcluster"
	theirs = "keepalived"
)

// contest is three directors of lbcluster and a keepalived pair that balance over the
// same real servers.
type contest struct {
	*site.Site
	pair    []*lab.Host
	api     *api.Client
	seen    fsm.Revision // events up to here are known
	watches map[string][]*watch
	clients map[string]*lab.HTTPProber
	stalls  *lab.StallRecorder
}

func newContest(t lab.T, s Settings) *contest {
	c := &contest{Site: site.New(t, 3), watches: map[string][]*watch{}, clients: map[string]*lab.HTTPProber{}}
	for i := range 2 {
		c.pair = append(c.pair, c.AddHost(fmt.Sprintf("ka%d", i+1), fmt.Sprintf("172.25.88.%d/24", 21+i)))
	}
	second := c.Lab.Client("client2", "172.25.88.140/24", 32)
	for _, h := range []*lab.Host{c.Web1, c.Web2} {
		h.AddAddress("lo", pairVIP+"/32")
	}
	c.Form()
	c.api = api.NewClient(fmt.Sprintf("/proc/%d/root/run/lbcluster/lbcluster.sock", c.Daemons[c.Dirs[0]].Pid()))
	conf := c.conf(s)
	c.Dirs[0].WriteFile("/etc/pair.conf", conf)
	c.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/pair.conf", "--yes")
	c.pair[0].StartKeepalived(forPair(conf))
	c.pair[1].StartKeepalived(asBackup(forPair(conf)))
	for who, hosts := range map[string][]*lab.Host{ours: c.Dirs, theirs: c.pair} {
		for _, h := range hosts {
			c.watches[who] = append(c.watches[who], watchServer(t, h, serviceOf(who), c.Web2.Addr))
		}
	}
	c.await(true)
	c.AwaitOwner()
	c.Eventually(20*time.Second, "keepalived's first director has its VIP", func() error {
		if !c.pair[0].HasAddress(pairVIP) {
			return fmt.Errorf("it has not")
		}
		return nil
	})
	c.clients[ours] = c.ProbeHTTP(c.Client, site.Target, requests)
	c.clients[theirs] = c.ProbeHTTP(second, pairVIP+":80", requests)
	c.stalls = c.RecordStalls(5 * time.Millisecond)
	return c
}

func (c *contest) conf(s Settings) string {
	conf, err := pairConf(s)
	if err != nil {
		c.T.Fatalf("%v", err)
	}
	return conf
}

// set gives both other settings.
func (c *contest) set(s Settings) {
	conf := c.conf(s)
	c.Dirs[0].WriteFile("/etc/pair.conf", conf)
	c.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/pair.conf", "--yes")
	for i, conf := range []string{forPair(conf), asBackup(forPair(conf))} {
		c.pair[i].WriteFile("/etc/keepalived/keepalived.conf", conf)
		pids := c.pair[i].KeepalivedPids()
		if err := syscall.Kill(min(pids[0], pids[len(pids)-1]), syscall.SIGHUP); err != nil {
			c.T.Fatalf("reload keepalived: %v", err)
		}
	}
	time.Sleep(time.Second + 2*time.Duration(s.Loop)*time.Second) // a first result is judged by other rules
	c.await(true)
}

func serviceOf(who string) ipvs.Key {
	vip := site.VIP
	if who == theirs {
		vip = pairVIP
	}
	return ipvs.Key{Addr: netip.MustParseAddr(vip), Port: 80, Protocol: ipvs.TCP}
}

// await waits until all tables have the server, or lack it.
func (c *contest) await(in bool) map[string]change {
	c.T.Helper()
	out := map[string]change{}
	c.Eventually(60*time.Second, fmt.Sprintf("web2 in all tables: %v", in), func() (err error) {
		for who, w := range c.watches {
			if out[who], err = changes(w, in); err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// turn is one death or return of a real server, as both systems took it.
type turn struct {
	down     bool
	began    time.Time
	tables   map[string]change
	vote     time.Time      // when the vote that decided was put forward
	failed   map[string]int // clients' requests from its death until all tables lack it
	standing bool           // the machine stood still meanwhile
}

// let a server die or return, some time within the interval of its checks.
func (c *contest) turn(s Settings, down bool) turn {
	c.T.Helper()
	time.Sleep(rand.N(time.Duration(s.Loop) * time.Second))
	u := turn{down: down, failed: map[string]int{}}
	from := probe.Now()
	if u.began = time.Now(); down {
		_ = c.Web2.Nginx().SignalAll(syscall.SIGKILL)
		_ = c.Web2.Nginx().Wait()
	} else {
		c.Web2.StartNginx()
	}
	u.tables = c.await(!down)
	u.vote = c.decided(u.began, down)
	time.Sleep(100 * time.Millisecond) // answers that are under way
	for who, p := range c.clients {
		end := from.Add(u.tables[who].last.Sub(u.began))
		for _, r := range p.Records() {
			if r.Start >= from && r.Start <= end && r.Result != probe.OK {
				u.failed[who]++
			}
		}
	}
	for _, stall := range c.stalls.Stalls(stallLimit) {
		u.standing = u.standing || stall.At >= from
	}
	return u
}

// decided is when the vote was proposed that changed the agreed health.
func (c *contest) decided(since time.Time, down bool) time.Time {
	c.T.Helper()
	word := map[bool]string{true: "is down", false: "is up"}[down]
	var at time.Time
	c.Eventually(10*time.Second, "an event says that a server "+word, func() error {
		r, err := c.api.Events(context.Background(), api.EventsRequest{After: c.seen})
		if err != nil {
			return err
		}
		for _, e := range r.Events {
			if e.Kind == "health" && strings.Contains(e.Text, word) && e.At.After(since) {
				at, c.seen = e.At, e.Revision
			}
		}
		if at.IsZero() {
			return fmt.Errorf("the events since revision %d are %+v", c.seen, r.Events)
		}
		return nil
	})
	return at
}
