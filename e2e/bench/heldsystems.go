package bench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// recommended is the scheduler that docs/connections.md recommends.
const recommended = "mh\n    mh-port\n    mh-fallback"

// drainedServer is the real server of held-drain.
const drainedServer = "172.25.88.2"

// syncPause is how long keepalived's sync daemons are left alone before a trial.
const syncPause = 3 * time.Second

// heldConf is a configuration with connections synchronised, or not, and with
// that scheduler in place of rr.
func heldConf(conf string, sync bool, scheduler string) string {
	if sync {
		conf = strings.Replace(conf, "global_defs {", "global_defs {\n    lvs_sync_daemon eth0 VI_1", 1)
	}
	return strings.Replace(conf, "lb_algo rr", "lb_algo "+scheduler, 1)
}

// heldLbcluster is a cluster of three directors in one setting.
func heldLbcluster(t lab.T, sync bool, scheduler string) *contestant {
	s := site.Up(t, 3)
	example, err := os.ReadFile(site.Example)
	if err != nil {
		t.Fatalf("reading the example: %v", err)
	}
	s.Dirs[0].WriteFile("/etc/held.conf", heldConf(string(example), sync, scheduler))
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/held.conf", "--yes")
	c := lbcluster(s)
	calm := c.calm
	c.calm = func() *lab.Host {
		owner := calm()
		if sync {
			awaitSynchronised(s, owner)
		}
		return owner
	}
	c.weigh = func(how string) error {
		out, status := s.Command(s.Dirs[0], "server", how, drainedServer)
		if status != 0 {
			return fmt.Errorf("lbcluster server %s: exit status %d: %s", how, status, out)
		}
		return nil
	}
	return c
}

// awaitSynchronised waits until every director knows the others' connections.
func awaitSynchronised(s *site.Site, ask *lab.Host) {
	s.Eventually(30*time.Second, "all directors know all connections", func() error {
		out, _ := s.Command(ask, "status")
		if strings.Count(out, "knows them all") == len(s.Dirs) {
			return nil
		}
		time.Sleep(300 * time.Millisecond) // each look takes the machine's time
		return fmt.Errorf("status says\n%s", out)
	})
}

// heldKeepalived is a pair with a sync daemon, as people configure it.
func heldKeepalived(t lab.T) *contestant {
	conf, err := pairConf("vrrp_version 2", "1")
	if err != nil {
		t.Fatalf("%v", err)
	}
	c := keepalivedWith(t, heldConf(conf, true, "rr"))
	calm := c.calm
	c.calm = func() *lab.Host {
		owner := calm()
		awaitSyncDaemons(c.site)
		return owner
	}
	return c
}

// awaitSyncDaemons waits until the master tells of its connections and the backup
// listens, and a moment more: what is opened before that is not known to both.
func awaitSyncDaemons(s *site.Site) {
	s.Eventually(20*time.Second, "the pair synchronises connections", func() error {
		for i, want := range []string{"master sync daemon", "backup sync daemon"} {
			out, err := s.Dirs[i].Run(context.Background(), "ipvsadm", "-l", "--daemon")
			if err != nil || !strings.Contains(out, want) {
				time.Sleep(300 * time.Millisecond)
				return fmt.Errorf("%s has no %s: %s %v", s.Dirs[i].Name, want, out, err)
			}
		}
		return nil
	})
	time.Sleep(syncPause)
}

// weighKeepalived writes another weight into both files and has them read again.
func weighKeepalived(procs map[*lab.Host]*lab.Proc, confs map[*lab.Host]string, how string) error {
	for h, conf := range confs {
		if how == "drain" {
			conf = drained(conf)
		}
		h.WriteFile("/etc/keepalived/keepalived.conf", conf)
		if err := procs[h].Signal(syscall.SIGHUP); err != nil {
			return fmt.Errorf("reloading keepalived of %s: %w", h.Name, err)
		}
	}
	return nil
}

// drained is a configuration in which the first real server has the weight 0.
func drained(conf string) string {
	before, after, _ := strings.Cut(conf, "real_server "+drainedServer+" ")
	return before + "real_server " + drainedServer + " " + strings.Replace(after, "weight 1", "weight 0", 1)
}
