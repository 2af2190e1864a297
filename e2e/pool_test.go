package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// poolConf is a virtual server; %POOL% is what is said of its pool.
const poolConf = `
virtual_server 172.25.88.100 80 {
    delay_loop 1
    retry 0
    lb_algo rr
    lb_kind DR
    protocol TCP
    %POOL%
    real_server 172.25.88.2 80 {
        weight 2
        TCP_CHECK {
            connect_timeout 2
        }
    }
    real_server 172.25.88.3 80 {
        weight 1
        TCP_CHECK {
            connect_timeout 2
        }
    }
}
`

const poolRouter = `
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    virtual_ipaddress {
        172.25.88.100
    }
}
`

// What a pool has in the kernel is what keepalived makes of the same file, whichever
// of its servers are up; and its clients get the sorry server's page in between.
func TestPoolsAsKeepalived(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	s.RealServer("sorry", "172.25.88.9/24", site.VIP)
	peer := s.AddHost("peer", "172.25.88.40/24") // keepalived, for its table alone
	s.Form()
	e := open(s)
	for name, pool := range map[string]string{
		"nothing said":   "",
		"inhibited":      "inhibit_on_failure",
		"sorry server":   "sorry_server 172.25.88.9 80",
		"sorry, at rest": "sorry_server 172.25.88.9 80\n    sorry_server_inhibit",
		"quorum":         "sorry_server 172.25.88.9 80\n    quorum 2\n    hysteresis 1",
		"quorum alone":   "quorum 3",
	} {
		t.Run(name, func(t *testing.T) {
			conf := strings.ReplaceAll(poolConf, "%POOL%", pool)
			ka := peer.StartKeepalived(conf)
			defer ka.Stop()
			e.applied(t, poolRouter+conf)
			s.AwaitOwner()
			e.wantAsPeer(t, peer, "both are up", 2)
			e.stopped(t, s.Web1)
			e.wantAsPeer(t, peer, "the heavier is down", -1)
			e.stopped(t, s.Web2)
			e.wantAsPeer(t, peer, "both are down", -1)
			if strings.Contains(pool, "sorry_server ") {
				e.wantPage(t, "sorry")
			}
			s.Web2.StartNginx()
			e.wantAsPeer(t, peer, "the lighter is up again", -1)
			s.Web1.StartNginx()
			e.wantAsPeer(t, peer, "both are up again", 2)
			e.wantPage(t, "web")
		})
	}
	e.wantNoOverlap(t)
}

// Backups are checked, serve while too few of the others are up, and rest again.
func TestBackupsServe(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	backup := s.RealServer("backup", "172.25.88.9/24", site.VIP)
	s.Form()
	e := open(s)
	conf := strings.ReplaceAll(poolConf, "%POOL%", "")
	e.applied(t, poolRouter+strings.TrimSuffix(strings.TrimSpace(conf), "}")+`
    real_server 172.25.88.9 80 {
        weight 0
        @lbcluster lbcluster_backup 5
        TCP_CHECK {
            connect_timeout 2
        }
    }
}
`)
	s.AwaitOwner()
	weights := func(when string, want ...string) {
		t.Helper()
		e.await(when, 20*time.Second, func() bool {
			for _, h := range e.Dirs {
				rules := e.Rules(h)
				for _, w := range want {
					if !strings.Contains(rules, "-r 172.25.88."+w) {
						return false
					}
				}
				if strings.Count(rules, "-a ") != len(want) {
					return false
				}
			}
			return true
		})
	}
	weights("the backup rests", "2:80 -g -w 2", "3:80 -g -w 1", "9:80 -g -w 0")
	e.wantPage(t, "web")
	e.stopped(t, s.Web1)
	weights("one is enough", "3:80 -g -w 1", "9:80 -g -w 0")
	e.stopped(t, s.Web2)
	weights("the backup serves", "9:80 -g -w 5")
	e.wantPage(t, "backup")
	e.wantTold(t, "a backup: too few of the others are up")
	e.stopped(t, backup)
	weights("it is found down too")
	backup.StartNginx()
	s.Web2.StartNginx()
	weights("it rests again", "3:80 -g -w 1", "9:80 -g -w 0")
	e.wantPage(t, "web2")
	e.wantNoOverlap(t)
}

// A server that has come up gets its weight step by step, on all directors alike.
func TestSlowStart(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	s.Form()
	e := open(s)
	conf := strings.ReplaceAll(strings.ReplaceAll(poolConf, "%POOL%", ""), "weight 2", "weight 10")
	e.applied(t, poolRouter+conf)
	yaml := e.Dirs[0].MustRun("lbcluster", "export", "--format", "yaml")
	slow := strings.Replace(yaml, "scheduler: rr\n", "scheduler: rr\n    slow_start: 10s\n", 1)
	if slow == yaml {
		t.Fatalf("no scheduler in\n%s", yaml)
	}
	e.Dirs[0].WriteFile("/etc/slow.yaml", slow)
	e.ordered(t, "apply", "-f", "/etc/slow.yaml", "--yes")
	s.AwaitOwner()
	e.wantServers(t, "both are up", "172.25.88.2:80", "172.25.88.3:80")
	if rules := e.Rules(e.Dirs[0]); !strings.Contains(rules, "-r 172.25.88.2:80 -g -w 10") {
		t.Errorf("up from the beginning:\n%s", rules)
	}
	e.stopped(t, s.Web1)
	e.wantServers(t, "one is down", "172.25.88.3:80")
	s.Web1.StartNginx()
	seen := map[*lab.Host][]string{}
	e.await("it has its whole weight on all directors", 40*time.Second, func() bool {
		done := 0
		for _, h := range e.Dirs {
			_, rest, there := strings.Cut(e.Rules(h), "-r 172.25.88.2:80 -g -w ")
			if !there {
				continue
			}
			weight := strings.Fields(rest)[0]
			if all := seen[h]; len(all) == 0 || all[len(all)-1] != weight {
				seen[h] = append(all, weight)
			}
			if weight == "10" {
				done++
			}
		}
		return done == len(e.Dirs)
	})
	for _, h := range e.Dirs {
		if got := strings.Join(seen[h], " "); got != "2 4 6 8 10" {
			t.Errorf("%s had the weights %s", h.Name, got)
		}
	}
	e.wantNoOverlap(t)
}

func (e *eyes) stopped(t *testing.T, web *lab.Host) {
	t.Helper()
	if err := web.Nginx().Stop(); err != nil {
		t.Fatal(err)
	}
}

// wantAsPeer waits until all directors' tables are the peer's, which has changed since
// the last call, with so many real servers of some weight (-1: any number).
func (e *eyes) wantAsPeer(t *testing.T, peer *lab.Host, when string, up int) {
	t.Helper()
	time.Sleep(3 * time.Second) // delay_loop is 1, for both
	var theirs string
	e.await(when+": the same as keepalived", 20*time.Second, func() bool {
		theirs = e.Rules(peer)
		for _, h := range e.Dirs {
			if e.Rules(h) != theirs {
				return false
			}
		}
		return true
	})
	if n := strings.Count(theirs, "-a ") - strings.Count(theirs, "-w 0"); up >= 0 && n != up {
		t.Errorf("%s: %d servers of some weight:\n%s", when, n, theirs)
	}
	t.Logf("%s:\n%s", when, theirs)
}

func (e *eyes) wantPage(t *testing.T, from string) {
	t.Helper()
	var page string
	e.await("the page is "+from+"'s", 10*time.Second, func() bool {
		page, _ = e.Client.Curl(context.Background(), "http://"+site.VIP+"/")
		return strings.HasPrefix(page, from)
	})
}
