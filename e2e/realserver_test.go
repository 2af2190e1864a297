package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// A bare machine becomes a real server by one command, serves clients, follows the
// table, keeps what it has while no member answers, and is what it was afterwards.
func TestRealServerInstall(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	bare := s.AddHost("web3", "172.25.88.4/24")
	bare.ServeName()
	verb := func(args ...string) []string {
		return append(append([]string{"lbcluster", "realserver"}, args...), "--state-dir", "/var/lib/lbcluster/rs", "--run-dir", "/run/rs")
	}
	before := inventory(bare)

	out := s.Dirs[1].MustRun("lbcluster", "token", "--role", "reader")
	token, _, _ := strings.Cut(out, "\n")
	t.Logf("%s", out)
	t.Logf("%s", bare.MustRun(verb("install", "--cluster", s.Dirs[2].Addr.String(), "--token", token)...))
	follower := bare.Start("realserver", verb("run")...)
	if bare.HasAddress(site.VIP) {
		t.Error("a VIP is on lo that nobody wants there")
	}

	text := s.Dirs[0].MustRun("cat", site.Example)
	const vip2 = "172.25.88.101"
	with := strings.Replace(text, "real_server 172.25.88.3 80", "real_server 172.25.88.4 80", 1)
	if with == text {
		t.Fatalf("the example has no real server to replace:\n%s", text)
	}
	s.Dirs[0].WriteFile("/etc/with.conf", with)
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/with.conf", "--prune", "--yes")
	s.Eventually(15*time.Second, "the VIP is on lo", func() error {
		if !bare.HasAddress(site.VIP) {
			return fmt.Errorf("%s", bare.MustRun("ip", "addr", "show", "lo"))
		}
		return nil
	})
	s.AwaitTables(func(rules string) bool {
		return strings.Contains(rules, "172.25.88.4:80") && strings.Count(rules, "-a ") == 2
	})
	served := func(name string) func() error {
		return func() error {
			for range 4 {
				if got, err := s.Client.Curl(context.Background(), "http://"+site.VIP+"/"); err != nil || got == name {
					return err
				}
			}
			return fmt.Errorf("%s serves nothing", name)
		}
	}
	s.Eventually(15*time.Second, "web3 serves a client", served("web3"))
	t.Logf("%s", bare.MustRun(verb("status")...))
	if out, err := s.Watcher.Run(context.Background(), "arping", "-c", "2", "-w", "2", "-I", lab.Interface, site.VIP); err != nil || strings.Contains(strings.ToLower(out), strings.ToLower(bare.MAC.String())) {
		t.Errorf("who answers ARP for the VIP: %v\n%s", err, out)
	}

	// A VIP added to the table comes by itself.
	more := strings.Replace(with, site.VIP, vip2, 1)
	more = with + strings.Replace(more[strings.Index(more, "virtual_server"):], site.VIP, vip2, -1)
	s.Dirs[0].WriteFile("/etc/more.conf", more)
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/more.conf", "--yes")
	s.Eventually(15*time.Second, "the second VIP is on lo", func() error {
		if !bare.HasAddress(vip2) {
			return fmt.Errorf("%s", follower.Output())
		}
		return nil
	})

	// Without members everything stays, and is put back when somebody takes it.
	for _, d := range s.Dirs {
		s.Daemons[d].Kill()
	}
	bare.MustRun("ip", "addr", "del", vip2+"/32", "dev", "lo")
	bare.Sysctl("net.ipv4.conf.all.arp_ignore", "0")
	s.Eventually(40*time.Second, "what was taken is back", func() error {
		if got, err := bare.ReadFile("/proc/sys/net/ipv4/conf/all/arp_ignore"); !bare.HasAddress(vip2) || strings.TrimSpace(got) != "1" {
			return fmt.Errorf("arp_ignore %s %v", got, err)
		}
		return nil
	})
	if out, err := bare.Run(context.Background(), verb("status")...); err == nil || !strings.Contains(out, "no member says which VIPs belong here") {
		t.Errorf("status without members: %v\n%s", err, out)
	}

	t.Logf("%s", bare.MustRun(verb("uninstall")...))
	if after := inventory(bare); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	s.Eventually(10*time.Second, "the follower ends by itself", func() error {
		select {
		case <-follower.Done():
			return nil
		default:
			return fmt.Errorf("it runs: %s", follower.Output())
		}
	})
	if !strings.Contains(bare.MustRun(verb("uninstall")...), "nothing to take back") {
		t.Error("a second time there is something to take back")
	}
}

// A director does for itself what install does elsewhere.
func TestRealServerInstallOnDirector(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 1)
	s.Form()
	out, err := s.Dirs[0].Run(context.Background(), "lbcluster", "realserver", "install", "--vip", "172.25.88.100", "--state-dir", "/run/rs", "--run-dir", "/run/rs")
	if err == nil || !strings.Contains(out, "director dir1") || !strings.Contains(out, "hint: ") {
		t.Errorf("%v: %s", err, out)
	}
	if s.Dirs[0].HasAddress("172.25.88.100") {
		t.Error("the VIP is there all the same")
	}
}

// inventory is what install changes.
func inventory(h *lab.Host) string {
	return h.MustRun("ip", "-br", "addr") + h.MustRun("sh", "-c", "cd /proc/sys/net/ipv4/conf && grep . */arp_ignore */arp_announce")
}
