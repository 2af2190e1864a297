package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// dsrConf asks both real servers by way of the VIP.
const dsrConf = `
virtual_server 172.25.88.100 80 {
    delay_loop 1
    connect_timeout 1
    retry 1
    delay_before_retry 1
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 172.25.88.2 80 {
        HTTP_GET {
            @lbcluster lbcluster_dsr 172.25.88.100 80
            url {
                path /
                status_code 200
            }
        }
    }
    real_server 172.25.88.3 80 {
        TCP_CHECK {
            @lbcluster lbcluster_dsr 172.25.88.100 80
        }
    }
}
`

// A real server without the VIP on lo is found by every director, whether it owns the
// VIP or not, and people read what is wrong; what this takes is hidden, and gone
// afterwards.
func TestServerWithoutVIP(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	s.Form()
	e := open(s)
	const accept = "/proc/sys/net/ipv4/conf/all/accept_local"
	before, _ := e.Dirs[0].ReadFile(accept)
	e.applied(t, poolRouter+dsrConf)
	s.AwaitOwner()
	servers := func(when string, want ...string) {
		t.Helper()
		e.await(when, 20*time.Second, func() bool {
			return !slices.ContainsFunc(e.Dirs, func(d *lab.Host) bool {
				rules := e.Rules(d)
				return strings.Count(rules, "-a -t ") != len(want) || slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(rules, "-a -t 172.25.88.100:80 -r "+w+" ") })
			})
		})
	}
	list := func() string {
		out, _ := e.Command(e.Dirs[1], "server", "list")
		return out
	}
	servers("both are well", "172.25.88.2:80", "172.25.88.3:80")
	e.await("all have found so", 20*time.Second, func() bool {
		return strings.Count(list(), " up ") == 2
	})
	pause(5 * time.Second)
	servers("both are well still", "172.25.88.2:80", "172.25.88.3:80")
	for _, web := range []*lab.Host{s.Web1, s.Web2} {
		ip := web.Addr.String()
		web.MustRun("ip", "addr", "del", site.VIP+"/32", "dev", "lo")
		left := "172.25.88.2:80"
		if web == s.Web1 {
			left = "172.25.88.3:80"
		}
		servers(ip+" has the VIP no more", left)
		e.await("all three say why", 10*time.Second, func() bool {
			return strings.Contains(list(), "dir1, dir2, dir3 of 3 say so (answers, but the VIP is not on its loopback)")
		})
		t.Logf("%s", list())
		web.AddAddress("lo", site.VIP+"/32")
		servers("it has it again", "172.25.88.2:80", "172.25.88.3:80")
	}
	if err := s.Web2.Nginx().Stop(); err != nil {
		t.Fatal(err)
	}
	servers("nginx is stopped", "172.25.88.2:80")
	e.await("a dead service is called that", 10*time.Second, func() bool { return strings.Contains(list(), "(connection refused)") })
	s.Web2.StartNginx()
	servers("nginx runs", "172.25.88.2:80", "172.25.88.3:80")

	d := e.Dirs[0]
	out, _ := e.Command(d, "status")
	t.Logf("%s%s", out, e.Rules(d))
	if strings.Contains(out, "fwmark") || strings.Contains(out, "18183") {
		t.Errorf("status shows hidden services:\n%s", out)
	}
	if now, _ := d.ReadFile(accept); strings.TrimSpace(now) != "1" {
		t.Errorf("accept_local is %s", now)
	}
	if out, status := e.Command(d, "leave", "--yes"); status != 0 {
		t.Fatalf("leave: status %d: %s", status, out)
	}
	s.Eventually(15*time.Second, "nothing is left", func() error {
		rules := d.MustRun("ipvsadm", "-Sn")
		now, _ := d.ReadFile(accept)
		if strings.TrimSpace(rules) != "" || now != before {
			return fmt.Errorf("accept_local %s, was %s\n%s", now, before, rules)
		}
		return nil
	})
	e.wantNoOverlap(t)
}
