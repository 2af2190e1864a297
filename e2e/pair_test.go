package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
)

const vip = "172.25.88.100"

// pair is two keepalived directors, two real servers, a client and a host that
// watches ARP.
type pair struct {
	*lab.Lab
	dir1, dir2, web1, web2, client, watch *lab.Host
	keepalived1                           *lab.Proc
}

// backupConf makes the second director's file from the first one's, as people
// do by hand.
func backupConf(conf string) string {
	return strings.NewReplacer("state MASTER", "state BACKUP", "priority 100", "priority 50").Replace(conf)
}

func keepalivedPair(t *testing.T) *pair {
	t.Helper()
	conf, err := os.ReadFile("testdata/keepalived-pair.conf")
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{Lab: lab.New(t)}
	p.dir1 = p.AddHost("dir1", "172.25.88.11/24")
	p.dir2 = p.AddHost("dir2", "172.25.88.12/24")
	p.web1 = p.RealServer("web1", "172.25.88.2/24", vip)
	p.web2 = p.RealServer("web2", "172.25.88.3/24", vip)
	p.client = p.Client("client", "172.25.88.200/24", 32)
	p.watch = p.AddHost("watch", "172.25.88.250/24")
	p.keepalived1 = p.dir1.StartKeepalived(string(conf))
	p.dir2.StartKeepalived(backupConf(string(conf)))
	p.Eventually(20*time.Second, "dir1 becomes master", func() error {
		if p.dir1.HasAddress(vip) && !p.dir2.HasAddress(vip) {
			return nil
		}
		return errors.New("the VIP is not on dir1 alone")
	})
	return p
}

func TestCurlsThroughDirectRoutingReachBothRealServers(t *testing.T) {
	lab.Need(t)
	p := keepalivedPair(t)
	requests := p.Capture(p.dir1, "dir1", "tcp port 80 and host "+vip)
	got := map[string]int{}
	for range 10 {
		who, err := p.client.Curl(context.Background(), "http://"+vip+"/")
		if err != nil {
			t.Fatal(err)
		}
		got[who]++
	}
	if fmt.Sprint(got) != "map[web1:5 web2:5]" {
		t.Errorf("ten curls were answered by %v, want five by each real server", got)
	}
	frames := requests()
	if !strings.Contains(frames, "> "+vip+".80:") || strings.Contains(frames, vip+".80 >") {
		t.Errorf("want requests and no answer to cross the director:\n%s", frames)
	}
	table := p.dir1.MustRun("ipvsadm", "-Ln")
	for _, want := range []string{"TCP  172.25.88.100:80 rr", "172.25.88.2:80", "172.25.88.3:80", "Route"} {
		if !strings.Contains(table, want) {
			t.Errorf("ipvsadm -Ln on dir1 lacks %q:\n%s", want, table)
		}
	}
}

// A keepalived that is killed leaves its VIP in the kernel, so two nodes answer
// from the takeover on. That the prober sees them is what makes its silence
// worth something in the tests of lbcluster.
func TestProberSeesTwoOwnersAfterKill(t *testing.T) {
	lab.Need(t)
	p := keepalivedPair(t)
	arp := p.ProbeARP(p.watch, vip, 5*time.Millisecond)
	start := probe.Now()
	time.Sleep(time.Second)
	if s := probe.Overlaps(arp.Records(), probe.Window); len(s) > 0 {
		t.Errorf("one master, and yet two owners were seen in %v", s)
	}
	killed := probe.Now()
	// A child that sees its parent die removes the VIP, and a stopped one is
	// woken by the kernel when its parent goes: so the children go first.
	freeze(t, p.dir1.Pids(), syscall.SIGSTOP)
	pids := p.dir1.Pids()
	slices.Sort(pids)
	for _, pid := range slices.Backward(pids) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	p.waitForTwoHolders(arp, killed)
	time.Sleep(time.Second)
	p.wantTwoOwners(t, arp, killed, 900*time.Millisecond)
	n := probe.Announcements(arp.Records(), killed, probe.Now())
	if len(n) != 1 || n[probe.ToMAC(p.dir2.MAC)] < 5 {
		t.Errorf("gratuitous ARPs after the takeover: %v, want five or more, all by dir2 (%v)", n, p.dir2.MAC)
	}
	if h := probe.Holders(arp.Records(), start, killed); len(h) != 1 || h[0].MAC != probe.ToMAC(p.dir1.MAC) {
		t.Errorf("before the kill %v answered, want dir1 (%v) alone", h, p.dir1.MAC)
	}
}

// A frozen keepalived's kernel goes on answering until it is thawed and yields.
func TestProberSeesTwoOwnersWhileFrozen(t *testing.T) {
	lab.Need(t)
	p := keepalivedPair(t)
	arp := p.ProbeARP(p.watch, vip, 5*time.Millisecond)
	stalls := p.RecordStalls(5 * time.Millisecond)
	frozen := probe.Now()
	freeze(t, p.dir1.Pids(), syscall.SIGSTOP)
	p.waitForTwoHolders(arp, frozen)
	time.Sleep(2 * time.Second)
	thawed := probe.Now()
	freeze(t, p.dir1.Pids(), syscall.SIGCONT)
	p.wantTwoOwners(t, arp, frozen, 1900*time.Millisecond)
	p.Eventually(10*time.Second, "one owner again", func() error {
		now := probe.Now()
		if h := probe.Holders(arp.Records(), now.Add(-500*time.Millisecond), now); now.Sub(thawed) < time.Second || len(h) != 1 {
			return fmt.Errorf("%d MACs answer", len(h))
		}
		return nil
	})
	t.Logf("two owners for %v in all; the machine was late by over 20 ms %d times",
		probe.Total(probe.Overlaps(arp.Records(), probe.Window)), len(stalls.Stalls(20*time.Millisecond)))
}

func TestClientSeesTheOutageOfACutLink(t *testing.T) {
	lab.Need(t)
	p := keepalivedPair(t)
	arp := p.ProbeARP(p.watch, vip, 5*time.Millisecond)
	http := p.ProbeHTTP(p.client, vip+":80", 10*time.Millisecond)
	begin := probe.Now()
	time.Sleep(time.Second)
	cut := probe.Now()
	p.dir1.CutLink()
	p.Eventually(10*time.Second, "dir2 becomes master", func() error {
		if p.dir2.HasAddress(vip) {
			return nil
		}
		return errors.New("dir2 lacks the VIP")
	})
	time.Sleep(time.Second)
	end := probe.Now()
	recs := http.Records()
	before, after := probe.Summarise(recs, begin, cut), probe.Summarise(recs, cut, end)
	t.Logf("before: %+v", before)
	t.Logf("after: %+v", after)
	t.Logf("late by over 20 ms: %v", probe.HTTPStalls(recs, 20*time.Millisecond))
	if before.OK < 80 || before.Failed > 0 || len(before.ByServer) != 2 {
		t.Errorf("before the cut: %d answered, %d failed, by %v; want all of about 100, by both", before.OK, before.Failed, before.ByServer)
	}
	// keepalived takes over after 3 adverts of 1 s and a skew below 1 s.
	if l := after.Outage.Length(); l < 2500*time.Millisecond || l > 4500*time.Millisecond || after.Outage.Open {
		t.Errorf("the client's outage was %v (open: %v), want around 3 s", l, after.Outage.Open)
	}
	if s := probe.Overlaps(arp.Records(), probe.Window); len(s) > 0 {
		t.Errorf("two owners in %v, though the old one was cut off", s)
	}
}

func freeze(t *testing.T, pids []int, sig syscall.Signal) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatalf("signal %v to %d (%s): %v", sig, pid, lab.CommandOf(pid), err)
		}
	}
}

func (p *pair) waitForTwoHolders(arp *lab.ARPProber, since probe.Time) {
	p.Eventually(10*time.Second, "dir2 answers too", func() error {
		if h := probe.Holders(arp.Records(), since, probe.Now()); len(h) != 2 {
			return fmt.Errorf("%d MACs answer", len(h))
		}
		return nil
	})
}

func (p *pair) wantTwoOwners(t *testing.T, arp *lab.ARPProber, since probe.Time, atLeast time.Duration) {
	t.Helper()
	recs := arp.Records()
	if d := probe.Total(probe.Overlaps(recs, probe.Window)); d < atLeast {
		t.Errorf("two owners for %v only, want at least %v; holders: %v", d, atLeast, probe.Holders(recs, since, probe.Now()))
	}
	if n := len(probe.Doubles(recs)); n < 50 {
		t.Errorf("%d requests were answered twice, want at least 50", n)
	}
}
