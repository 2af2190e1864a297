package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// A real keepalived that the cluster lists as its VRRP peer: the two behave as
// two keepalived would.
func TestYieldsToPeer(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	p := &peering{s, s.AddHost("peer", "172.25.88.30/24")}
	owner := s.AwaitOwner()
	s.Dirs[0].WriteFile("/etc/peers.conf", strings.Replace(s.Dirs[0].MustRun("cat", site.Example),
		"advert_int 1\n", "advert_int 1\n    @lbcluster lbcluster_peers 172.25.88.30\n", 1))
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/peers.conf", "--yes")
	time.Sleep(5 * time.Second)
	if now := s.AwaitOwner(); now != owner {
		t.Errorf("listing a peer that is not there moved the VIP from %s to %s", owner.Name, now.Name)
	}
	t.Run("a better peer becomes MASTER", p.betterPeer)
	t.Run("a worse peer stays BACKUP through a failover, and serves without a majority", p.worsePeer)
	t.Run("another interval is explained", p.otherInterval)
}

type peering struct {
	*site.Site
	peer *lab.Host
}

// holders are the hosts with the VIP on an interface.
func (p *peering) holders() (names []string) {
	for _, h := range append([]*lab.Host{p.peer}, p.Dirs...) {
		if h.HasAddress(site.VIP) {
			names = append(names, h.Name)
		}
	}
	return names
}

// await waits until the VIP is where ok wants it.
func (p *peering) await(t *testing.T, what string, patience time.Duration, ok func(holders []string) bool) {
	t.Helper()
	began := time.Now()
	for !ok(p.holders()) {
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %v; the VIP is on %v\n%s", what, patience, p.holders(), p.Dirs[0].MustRun("lbcluster", "status"))
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
}

func atPeer(holders []string) bool { return len(holders) == 1 && holders[0] == "peer" }
func atUs(holders []string) bool   { return len(holders) == 1 && holders[0] != "peer" }

func (p *peering) betterPeer(t *testing.T) {
	k := p.peer.StartKeepalived(peerConf(t, "state MASTER", "state BACKUP", "priority 100", "priority 150"))
	p.await(t, "the peer alone has the VIP", 10*time.Second, atPeer)
	p.AwaitFinding(p.Dirs[0], "the cluster stands by for VI_1", "")
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if now := p.holders(); !atPeer(now) {
			t.Fatalf("the peer is MASTER, and the VIP is on %v", now)
		}
	}
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	p.await(t, "the peer has stopped, and a director has the VIP", 10*time.Second, atUs)
	p.AwaitOwner()
}

func (p *peering) worsePeer(t *testing.T) {
	k := p.peer.StartKeepalived(peerConf(t, "state MASTER", "state BACKUP", "priority 100", "priority 50"))
	time.Sleep(6 * time.Second)
	old := p.AwaitOwner()
	p.Daemons[old].Kill()
	next := p.AwaitSuccessor(old)
	time.Sleep(5 * time.Second)
	if strings.Contains(k.Output(), "MASTER STATE") {
		t.Errorf("the peer became MASTER while the VIP went from %s to %s:\n%s", old.Name, next.Name, k.Output())
	}
	delete(p.Daemons, old)
	third := p.Others(old)[0]
	if third == next {
		third = p.Others(old)[1]
	}
	began := time.Now()
	p.Daemons[third].Kill()
	delete(p.Daemons, third)
	for !p.peer.HasAddress(site.VIP) || next.HasAddress(site.VIP) {
		if time.Since(began) > 15*time.Second {
			t.Fatalf("without a majority the peer does not serve: %v", p.holders())
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("without a majority the peer serves after %v", time.Since(began).Round(10*time.Millisecond))
	p.Start(third)
	p.Start(old)
	p.await(t, "a majority is back and takes the VIP from the peer", 30*time.Second, atUs)
	p.AwaitOwner()
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
}

func (p *peering) otherInterval(t *testing.T) {
	k := p.peer.StartKeepalived(peerConf(t, "state MASTER", "state BACKUP", "priority 100", "priority 50", "advert_int 1", "advert_int 2", site.VIP, "172.25.88.101"))
	p.AwaitFinding(p.Dirs[0], "VRRP peer 172.25.88.30 and VI_1 ignore each other", "")
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
}

// The same by unicast; and with nopreempt the cluster leaves a worse peer what it
// took while the cluster had no majority.
func TestYieldsToUnicastPeer(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	p := &peering{s, s.AddHost("peer", "172.25.88.30/24")}
	s.AwaitOwner()
	s.Dirs[0].WriteFile("/etc/peers.conf", strings.NewReplacer("state MASTER", "state BACKUP",
		"advert_int 1\n", "advert_int 1\n    nopreempt\n    unicast_peer {\n        172.25.88.30\n    }\n").Replace(s.Dirs[0].MustRun("cat", site.Example)))
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/peers.conf", "--yes")
	const unicast = "advert_int 1\n    nopreempt\n    unicast_peer {\n        172.25.88.11\n        172.25.88.12\n        172.25.88.13\n    }\n"
	k := p.peer.StartKeepalived(peerConf(t, "state MASTER", "state BACKUP", "priority 100", "priority 50", "advert_int 1\n", unicast))
	time.Sleep(6 * time.Second)
	if now := p.holders(); !atUs(now) {
		t.Fatalf("a worse peer started, and the VIP is on %v\n%s", now, k.Output())
	}
	var dead []*lab.Host
	for _, h := range p.Others(s.AwaitOwner()) {
		p.Daemons[h].Kill()
		delete(p.Daemons, h)
		dead = append(dead, h)
	}
	p.await(t, "without a majority the peer serves", 15*time.Second, atPeer)
	time.Sleep(5 * time.Second) // within a Master_Down_Interval the cluster would go on as MASTER
	for _, h := range dead {
		p.Start(h)
	}
	time.Sleep(10 * time.Second)
	if now := p.holders(); !atPeer(now) {
		t.Errorf("nopreempt, and a majority came back: the VIP is on %v", now)
	}
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	p.await(t, "the peer has stopped, and a director has the VIP", 15*time.Second, atUs)
}

// A director that stops and leaves nobody behind who could serve says so, as
// keepalived does: the peer takes over within its skew time, not after a
// Master_Down_Interval.
func TestLastDirectorSaysGoodbye(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 1)
	p := &peering{s, s.AddHost("peer", "172.25.88.30/24")}
	s.Dirs[0].WriteFile("/etc/peers.conf", strings.Replace(s.Dirs[0].MustRun("cat", site.Example),
		"advert_int 1\n", "advert_int 1\n    @lbcluster lbcluster_peers 172.25.88.30\n", 1))
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/peers.conf", "--yes")
	s.AwaitOwner()
	k := p.peer.StartKeepalived(peerConf(t, "state MASTER", "state BACKUP", "priority 100", "priority 50"))
	time.Sleep(5 * time.Second)
	if now := p.holders(); !atUs(now) {
		t.Fatalf("a worse peer started, and the VIP is on %v\n%s", now, k.Output())
	}
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Daemons[s.Dirs[0]].Stop() }()
	for !atPeer(p.holders()) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("the only director stopped, and the VIP is on %v\n%s", p.holders(), k.Output())
		}
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(began).Round(10 * time.Millisecond)
	t.Logf("the only director stopped, and the peer serves after %v", took)
	if took > 2500*time.Millisecond { // a Master_Down_Interval is 3.8 s
		t.Errorf("the peer was not told: it took %v", took)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
