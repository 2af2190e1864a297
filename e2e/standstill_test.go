package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// slowlyChecked is a virtual server whose check is under way nearly all the time:
// the page takes a second. Its parameter is a port.
const slowlyChecked = `
virtual_server 172.25.88.100 %[1]d {
    delay_loop 0.1
    retry 0
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 172.25.88.2 %[1]d {
        HTTP_GET {
            connect_port 80
            connect_timeout 2
            url {
                path /slow?%[1]d
                status_code 200
            }
        }
    }
}
`

// Directors that are frozen have checks under way whose time is over when they go on;
// the servers are well. One director's word is enough here, as two that are frozen
// together would be a majority.
func TestFrozenDirectorsCondemnNobody(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	web := s.Web1
	web.WriteFile("/etc/nginx.conf", strings.Replace(web.MustRun("cat", "/etc/nginx.conf"), "root /run/www;", "root /run/www;\n    location /slow { limit_rate 1k; }", 1))
	web.WriteFile("/run/www/slow", strings.Repeat("slow\n", 400))
	if err := web.Nginx().Stop(); err != nil {
		t.Fatal(err)
	}
	web.StartNginx()
	s.Form()
	e := open(s)
	conf, ports := poolRouter, []string(nil)
	for port := 8000; port < 8010; port++ {
		conf += fmt.Sprintf(slowlyChecked, port)
		ports = append(ports, fmt.Sprintf("172.25.88.2:%d", port))
	}
	e.applied(t, conf)
	e.ordered(t, "settings", "set", "health=any-down")
	owner := s.AwaitOwner()
	e.wantServers(t, "they are well", ports...)
	for range 3 {
		for _, h := range e.Dirs {
			if h != owner {
				if err := e.Daemons[h].Freeze(); err != nil {
					t.Fatal(err)
				}
			}
		}
		pause(3 * time.Second)
		var errs []error
		for _, h := range e.Dirs {
			if h != owner {
				errs = append(errs, e.Daemons[h].Thaw())
			}
		}
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		e.AwaitCalm()
		owner = e.AwaitOwner()
		pause(2 * time.Second)
	}
	events := e.Dirs[0].MustRun("lbcluster", "events")
	if strings.Contains(events, " is down: ") {
		t.Errorf("servers that were well all the time were taken out:\n%s", events)
	}
	repeated := 0
	for _, h := range e.Dirs {
		log, err := os.ReadFile(e.Daemons[h].Log)
		if err != nil {
			t.Fatal(err)
		}
		repeated += strings.Count(string(log), "this process stood still meanwhile")
	}
	t.Logf("%d failed checks were repeated", repeated)
	if repeated == 0 {
		t.Error("no check was under way when the directors were frozen: nothing was tested")
	}
	e.wantNoOverlap(t)
}
