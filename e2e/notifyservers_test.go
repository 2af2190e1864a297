package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

const notifyGlobals = `
global_defs {
    script_user root
    notify_fifo /run/fifo
    notify_fifo_script "/etc/reader all"
    lvs_notify_fifo /run/fifo-lvs
    lvs_notify_fifo_script "/etc/reader lvs"
}
`

const notifyService = `
virtual_server 172.25.88.100 80 {
    delay_loop 1
    retry 0
    lb_algo rr
    lb_kind DR
    protocol TCP
    quorum_up "/etc/ran quorum up"
    quorum_down "/etc/ran quorum down"
    real_server 172.25.88.2 80 {
        weight 2
        notify_up "/etc/ran 'web 1' up"
        notify_down "/etc/ran 'web 1' down"
        TCP_CHECK {
            connect_timeout 2
        }
    }
    real_server 172.25.88.3 80 {
        weight 1
        notify_up "/etc/ran 'web 2' up"
        notify_down "/etc/ran 'web 2' down"
        TCP_CHECK {
            connect_timeout 2
        }
    }
}
`

// heard are the hosts whose programs and pipes are looked at.
type heard struct {
	*eyes
	peer *lab.Host
}

func newHeard(t *testing.T) *heard {
	t.Helper()
	s := site.New(t, 3)
	h := &heard{peer: s.AddHost("peer", "172.25.88.40/24")}
	for _, host := range append([]*lab.Host{h.peer}, s.Dirs...) {
		host.WriteFile("/etc/reader", "#!/bin/sh\nexec cat \"$2\" >>\"/run/lines.$1\"\n")
		host.WriteFile("/etc/ran", "#!/bin/sh\nfor w; do printf '%s,' \"$w\"; done >>/run/ran\necho $# >>/run/ran\n")
		host.MustRun("chmod", "755", "/etc/reader", "/etc/ran")
	}
	s.Form()
	h.eyes = open(s)
	return h
}

// lines of some hosts' file; a pipe's, of servers only. What there was at the start is
// left out: keepalived tells of the states that it begins with.
func lines(file, kinds string, hosts ...*lab.Host) []string {
	var all []string
	for _, host := range hosts {
		out, _ := host.Run(context.Background(), "sh", "-c", "cat "+file+" 2>/dev/null; true")
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			if word, _, _ := strings.Cut(line, " "); line != "" && (kinds == "" || strings.Contains(kinds, word)) {
				all = append(all, line)
			}
		}
	}
	return all
}

// same waits until the cluster's lines are keepalived's since the start, want in number.
func (h *heard) same(t *testing.T, file, kinds string, start, want int) {
	t.Helper()
	h.Eventually(20*time.Second, fmt.Sprintf("%s has %d lines, as keepalived's", file, want), func() error {
		theirs := lines(file, kinds, h.peer)[start:]
		ours := lines(file, kinds, h.Dirs...)
		if len(ours) != want || !slices.Equal(ours, theirs) {
			return fmt.Errorf("%s of the cluster\n  %s\nof keepalived\n  %s", file, strings.Join(ours, "\n  "), strings.Join(theirs, "\n  "))
		}
		return nil
	})
}

// The lines of the pipes, and the programs of servers and pools, are keepalived's, in
// its order; once in the cluster.
func TestNotifyServers(t *testing.T) {
	lab.Need(t)
	h := newHeard(t)
	conf := notifyGlobals + notifyService
	ka := h.peer.StartKeepalived(conf + strings.NewReplacer("51", "77", "172.25.88.100", "172.25.88.177").Replace(poolRouter))
	defer ka.Stop()
	h.applied(t, conf+poolRouter)
	h.AwaitOwner()
	time.Sleep(3 * time.Second)
	began := map[string]int{}
	for _, file := range []string{"/run/lines.all", "/run/lines.lvs", "/run/ran"} {
		began[file] = len(lines(file, servers[file], h.peer))
		if ours := lines(file, servers[file], h.Dirs...); len(ours) > 0 {
			t.Errorf("nothing has changed, and there is in %s: %q", file, ours)
		}
	}
	t.Logf("what keepalived tells at its start: %v, %q", began, lines("/run/lines.lvs", "", h.peer))
	n := 0
	for _, step := range []struct {
		do      func()
		changes int
	}{
		{func() { h.stopped(t, h.Web1) }, 1},
		{func() { h.stopped(t, h.Web2) }, 2},
		{func() { h.Web2.StartNginx() }, 2},
		{func() { h.Web1.StartNginx() }, 1},
	} {
		step.do()
		n += step.changes
		for file := range began {
			if file == "/run/ran" { // keepalived starts programs and forgets them: they overtake each other
				continue
			}
			h.same(t, file, servers[file], began[file], n)
		}
	}
	ours, theirs := lines("/run/ran", "", h.Dirs...), lines("/run/ran", "", h.peer)[began["/run/ran"]:]
	t.Logf("ran: %q", ours)
	if slices.Sort(theirs); len(ours) != n || !slices.Equal(slices.Sorted(slices.Values(ours)), theirs) {
		t.Errorf("ran\n  %s\nkeepalived ran\n  %s", strings.Join(ours, "\n  "), strings.Join(theirs, "\n  "))
	}
	// Each director tells of its own states.
	for _, host := range h.Dirs {
		got := lines("/run/lines.all", "INSTANCE", host)
		want := `INSTANCE "VI_1" BACKUP 100`
		if host.HasAddress(site.VIP) {
			want = `INSTANCE "VI_1" MASTER 100`
		}
		if len(got) == 0 || got[len(got)-1] != want || !slices.Contains(lines("/run/lines.all", "INSTANCE", h.peer), `INSTANCE "VI_1" MASTER 100`) {
			t.Errorf("%s: %q, keepalived %q", host.Name, got, lines("/run/lines.all", "INSTANCE", h.peer))
		}
	}

	if out, status := h.Command(h.Dirs[0], "settings", "set", "server-scripts=each"); status != 0 {
		t.Fatal(out)
	}
	before := map[*lab.Host]int{}
	for _, host := range h.Dirs {
		before[host] = len(lines("/run/ran", "", host))
	}
	h.stopped(t, h.Web1)
	h.Eventually(20*time.Second, "each director runs the program", func() error {
		for _, host := range h.Dirs {
			if got := lines("/run/ran", "", host)[before[host]:]; !slices.Equal(got, []string{"web 1,down,2"}) {
				return fmt.Errorf("%s ran %q", host.Name, got)
			}
		}
		return nil
	})
	h.wantNoOverlap(t)
}

// servers are the words of lines that tell of servers, by file.
var servers = map[string]string{"/run/lines.all": "RS VS", "/run/lines.lvs": "RS VS"}
