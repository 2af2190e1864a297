package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// boxes is the smallest site: two machines that are both director and real
// server, and a witness.
type boxes struct {
	*site.Site
	witness *lab.Host
	macs    map[*lab.Host]string
	n       int // of trials so far
}

func newBoxes(t *testing.T) *boxes {
	t.Helper()
	s := &site.Site{Lab: lab.New(t), T: t, Daemons: map[*lab.Host]*lab.Director{}}
	b := &boxes{Site: s, macs: map[*lab.Host]string{}}
	for i := range 2 {
		h := s.AddHost(fmt.Sprintf("dir%d", i+1), fmt.Sprintf("172.25.88.%d/24", 11+i))
		h.ServeName()
		b.macs[h] = strings.TrimSpace(h.MustRun("cat", "/sys/class/net/"+lab.Interface+"/address"))
		s.Dirs = append(s.Dirs, h)
	}
	b.witness = s.AddHost("witness", "172.25.88.13/24")
	s.Client = s.Lab.Client("client", "172.25.88.200/24", 32)
	for _, h := range append(s.Dirs, b.witness) {
		s.Start(h)
	}
	token := b.token(s.Dirs[0].MustRun("lbcluster", "init"))
	s.Dirs[1].MustRun("lbcluster", "join", s.Dirs[0].Addr.String(), "--token", token)
	b.witness.MustRun("lbcluster", "join", s.Dirs[0].Addr.String(), "--token", token, "--witness", "--force")
	s.AwaitVoters(3)
	return b
}

func (b *boxes) token(out string) string {
	b.T.Helper()
	for _, w := range strings.Fields(out) {
		if strings.HasPrefix(w, "lbc1-") {
			return w
		}
	}
	b.T.Fatalf("no token in:\n%s", out)
	return ""
}

// boxesConf is the example with the directors as its real servers, checked more
// often.
func boxesConf(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(site.Example)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("real_server 172.25.88.2 80", "real_server 172.25.88.11 80", "real_server 172.25.88.3 80", "real_server 172.25.88.12 80",
		"delay_loop 6", "delay_loop 1", "connect_timeout 3", "connect_timeout 1", "retry 3", "retry 0").Replace(string(b))
}

// awaitServers waits until the virtual server has n real servers on both boxes,
// and both have what lets them be such.
func (b *boxes) awaitServers(n int) {
	b.T.Helper()
	b.Eventually(60*time.Second, fmt.Sprintf("%d real servers on both", n), func() error {
		for _, h := range b.Dirs {
			rules := b.Rules(h)
			if got := strings.Count(rules, "-a -t "+site.Target); got != n {
				return fmt.Errorf("%s has %d in\n%s", h.Name, got, rules)
			}
			if !strings.Contains(rules, "-a -f ") || !strings.Contains(h.MustRun("ip", "addr", "show", "dev", "lo"), site.VIP+"/32") {
				return fmt.Errorf("%s is no real server yet:\n%s", h.Name, rules)
			}
		}
		return nil
	})
}

// ask makes 60 new connections, from an address that was not used before, and
// counts who answered.
func (b *boxes) ask() (by map[string]int, failed int) {
	src := b.Client.Sources[b.n%len(b.Client.Sources)].String()
	b.n++
	// The server closes each connection, so that curl opens the next.
	out, _ := b.Client.Run(context.Background(), "curl", "-sS", "--max-time", "3", "--interface", src,
		"-H", "Connection: close", "http://"+site.Target+"/?[1-60]")
	by = map[string]int{}
	failed = 60
	for _, who := range strings.Fields(out) {
		for _, h := range b.Dirs {
			if who == h.Name {
				by[who]++
				failed--
			}
		}
	}
	return by, failed
}

// wantServed makes 60 connections that must all be answered, spread over
// servers, and no frame for the VIP may go back from the other box to the owner.
func (b *boxes) wantServed(t *testing.T, what string, owner *lab.Host, servers ...*lab.Host) {
	t.Helper()
	other := b.Others(owner)[0]
	name := strings.ReplaceAll(what, " ", "-")
	back := b.Capture(nil, "back-"+name, fmt.Sprintf("ether src %s and dst host %s and tcp dst port 80", b.macs[other], site.VIP))
	forth := b.Capture(nil, "forth-"+name, fmt.Sprintf("ether src %s and dst host %s and tcp dst port 80", b.macs[owner], site.VIP))
	by, failed := b.ask()
	t.Logf("%s: %s owns the VIP; answered by %v, %d failed", what, owner.Name, by, failed)
	if failed > 0 || len(by) != len(servers) {
		t.Errorf("%s: answered by %v, %d failed; want all of 60 by %d servers", what, by, failed, len(servers))
	}
	for _, h := range servers {
		if n := by[h.Name]; n < 60/len(servers)-2 {
			t.Errorf("%s: %s answered %d of 60, want its share", what, h.Name, n)
		}
	}
	if lines := frames(back()); lines > 0 {
		t.Errorf("%s: %d frames for the VIP went from %s back to the owner", what, lines, other.Name)
	}
	n := frames(forth())
	if toOther := by[other.Name]; n > 12*toOther+10 || toOther > 0 && n == 0 {
		t.Errorf("%s: %d frames went from the owner to %s for %d connections", what, n, other.Name, toOther)
	}
}

// frames counts the frames that tcpdump printed.
func frames(out string) int { return strings.Count(out, " > "+site.VIP+".80:") }

// Two boxes that balance to each other and to themselves: whoever owns the VIP,
// and whichever server fails, a client sees answers, and no packet circles.
func TestDirectorsThatAreRealServers(t *testing.T) {
	lab.Need(t)
	b := newBoxes(t)
	b.Dirs[0].WriteFile("/etc/boxes.conf", boxesConf(t))
	b.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/boxes.conf", "--yes")
	owner := b.AwaitOwner()
	b.awaitServers(2)
	arp := b.ProbeARP(b.AddHost("watcher", "172.25.88.60/24"), site.VIP, 20*time.Millisecond)
	time.Sleep(time.Second) // the gate learns what is local just after IPVS
	b.wantServed(t, "at first", owner, b.Dirs...)

	for _, h := range []*lab.Host{owner, b.Others(owner)[0]} {
		if err := h.Nginx().Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		b.awaitServers(1)
		b.wantServed(t, "without the server on "+h.Name, owner, b.Others(h)...)
		h.StartNginx()
		b.awaitServers(2)
	}

	// The owner's daemon freezes: its server goes on, behind the other.
	if err := b.Daemons[owner].Freeze(); err != nil {
		t.Fatal(err)
	}
	next := b.AwaitSuccessor(owner)
	b.wantServed(t, "with the old owner frozen", next, b.Dirs...)
	if err := b.Daemons[owner].Thaw(); err != nil {
		t.Fatal(err)
	}
	b.AwaitCalm()
	b.wantServed(t, "after the thaw", b.AwaitOwner(), b.Dirs...)

	// And its daemon dies: what it left in the kernel serves on.
	owner = b.AwaitOwner()
	b.Daemons[owner].Kill()
	b.wantServed(t, "with the old owner's daemon dead", b.AwaitSuccessor(owner), b.Dirs...)
	if s := probe.Overlaps(arp.Records(), probe.Window); len(s) > 0 || len(arp.Records()) < 100 {
		t.Errorf("BROKEN: two MACs answered for the VIP, which is on lo of both, in %v (of %d records)", s, len(arp.Records()))
	}
}
