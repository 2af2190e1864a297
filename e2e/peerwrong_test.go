package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/interop"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// wrongPeer is a router whose two files don't fit together.
type wrongPeer struct {
	what         string
	ours, theirs string // what is in the one file alone, divided by semicolons
	// theirVIP is the peer's address, if it is another.
	theirVIP string
	want     string // what status says of it
	// yields: they do understand each other, and the cluster stands by.
	yields bool
}

const (
	wrongListed = "@lbcluster lbcluster_peers 172.25.88.30;"
	wrongPass   = "authentication {;auth_type PASS;auth_pass %s;};"
	wrongOurs   = "unicast_peer {;172.25.88.30;};"
	wrongTheirs = "unicast_peer {;172.25.88.11;172.25.88.12;172.25.88.13;};"
	ignored     = "VRRP peer 172.25.88.30 and %s ignore each other, so that both may be MASTER: "
)

var wrongPeers = []wrongPeer{
	{"a password on one side", "", fmt.Sprintf(wrongPass, "1111"), "",
		ignored + "authentication type 1, ours is 0", false},
	{"two passwords", fmt.Sprintf(wrongPass, "1111"), fmt.Sprintf(wrongPass, "2222"), "",
		ignored + "another password than ours", false},
	{"a longer interval, version 2", "advert_int 1;", "advert_int 2;", "",
		ignored + "advert interval 2s, ours is 1s", false},
	{"a shorter interval, version 2", "advert_int 2;", "advert_int 1;", "",
		ignored + "advert interval 1s, ours is 2s", false},
	{"version 3 beside 2", "version 2;", "version 3;", "", ignored + "version 3, ours is 2", false},
	{"version 2 beside 3", "version 3;", "version 2;", "", ignored + "version 2, ours is 3", false},
	{"unicast beside multicast", "", wrongTheirs, "", ignored + "it is sent by unicast (unicast_peer), this router speaks multicast", false},
	{"multicast beside unicast", wrongOurs, "", "", ignored + "it is sent by multicast, this router speaks unicast (unicast_peer)", false},
	{"other addresses", "", "", "172.25.88.199",
		"VRRP peer 172.25.88.30 of %s: lists [172.25.88.199], we list [", false},
	{"a longer interval, version 3", "version 3;advert_int 1;", "version 3;advert_int 2;priority 150;", "",
		"VRRP peer 172.25.88.30 of %s: advert interval 2s, ours is 1s", true},
}

func wrongVIP(i int) string { return fmt.Sprintf("172.25.88.%d", 101+i) }

// wrongConf is one side's file.
func wrongConf(priority int, side func(wrongPeer) (lines, vip string)) string {
	var b strings.Builder
	for i, w := range wrongPeers {
		lines, vip := side(w)
		if vip == "" {
			vip = wrongVIP(i)
		}
		for _, l := range []string{"state BACKUP", "interface eth0", "advert_int 1", "version 2", fmt.Sprint("priority ", priority)} {
			if word, _, _ := strings.Cut(l, " "); !strings.Contains(lines, word+" ") {
				lines = l + ";" + lines
			}
		}
		lines = strings.TrimSuffix(lines, ";")
		fmt.Fprintf(&b, "vrrp_instance %s {\n%s\nvirtual_router_id %d\nvirtual_ipaddress {\n%s\n}\n}\n",
			interop.Router(i), strings.ReplaceAll(lines, ";", "\n"), 51+i, vip)
	}
	return b.String()
}

// Of each setting by which a peer and the cluster do not understand each other
// status says so, as long as it is so; and the cluster goes on serving.
func TestWrongPeersAreExplained(t *testing.T) {
	lab.Need(t)
	s := &site.Site{Lab: lab.New(t), T: t, Daemons: map[*lab.Host]*lab.Director{}}
	for i := range 3 {
		s.Dirs = append(s.Dirs, s.AddHost(fmt.Sprintf("dir%d", i+1), interop.Prefixes(i)...))
	}
	peer := s.AddHost("peer", "172.25.88.30/24")
	s.Found()
	s.Dirs[0].WriteFile("/etc/peers.conf", wrongConf(100, func(w wrongPeer) (string, string) {
		if strings.Contains(w.ours, "unicast_peer") {
			return w.ours, ""
		}
		return wrongListed + w.ours, ""
	}))
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/peers.conf", "--yes")
	s.Eventually(30*time.Second, "the cluster serves all", func() error { return wrongServed(s) })
	theirs := wrongConf(50, func(w wrongPeer) (string, string) { return w.theirs, w.theirVIP })
	k := peer.StartKeepalived(theirs)
	for i, w := range wrongPeers {
		s.AwaitFinding(s.Dirs[0], fmt.Sprintf(w.want, interop.Router(i)), "")
	}
	time.Sleep(35 * time.Second) // longer than what was heard once is told
	findings, err := s.Findings(s.Dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range wrongPeers {
		wrongJudge(t, findings, peer, i, w)
	}
	if err := wrongServed(s); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		out, _ := s.Dirs[0].Run(context.Background(), "lbcluster", "status")
		t.Logf("status:\n%s\nkeepalived:\n%s", out, k.Output())
	}
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	s.Eventually(10*time.Second, "who has stopped is told of no more", func() error {
		now, err := s.Findings(s.Dirs[0])
		for _, f := range now {
			if strings.Contains(f.Text, "ignore each other") {
				err = errors.New(f.Text)
			}
		}
		return err
	})
}

func wrongJudge(t *testing.T, findings []site.Finding, peer *lab.Host, i int, w wrongPeer) {
	t.Helper()
	want, found := fmt.Sprintf(w.want, interop.Router(i)), ""
	for _, f := range findings {
		if strings.Contains(f.Text, want) {
			found = f.Text
		}
	}
	if found == "" {
		t.Errorf("%s: after a while status says no more: %s", w.what, want)
	}
	vip := wrongVIP(i)
	if w.theirVIP != "" {
		vip = w.theirVIP
	}
	if !peer.HasAddress(vip) {
		t.Errorf("%s: keepalived does not have the address: then it does not ignore the cluster, nor does the cluster yield", w.what)
	}
	t.Logf("%s: %s", w.what, found)
}

// wrongServed says which address not one director has, though the cluster is not
// to yield.
func wrongServed(s *site.Site) error {
	for i, w := range wrongPeers {
		if w.yields {
			continue
		}
		served := 0
		for _, h := range s.Dirs {
			if h.HasAddress(wrongVIP(i)) {
				served++
			}
		}
		if served != 1 {
			return fmt.Errorf("%d directors have %s (%s)", served, wrongVIP(i), w.what)
		}
	}
	return nil
}
