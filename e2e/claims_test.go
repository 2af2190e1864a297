package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// A real server that answers ARP for the VIP is found by whoever owns it, named, and
// forgotten when it is silent.
func TestWhoElseAnswersForTheVIP(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	owner := s.AwaitOwner()
	asked := s.Others(owner)[0] // any member's status has it
	loud := func(value string) {
		for _, c := range []string{"all", lab.Interface} {
			s.Web2.Sysctl("net.ipv4.conf."+c+".arp_ignore", value)
		}
	}
	silent := func(when string) {
		t.Helper()
		s.Eventually(20*time.Second, when+": nothing is found", func() error {
			all, err := s.Findings(asked)
			for _, f := range all {
				if strings.Contains(f.Text, "answers for it too") {
					err = errors.Join(err, errors.New(f.Text))
				}
			}
			return err
		})
	}
	loud("0")
	f := s.AwaitFinding(asked, "172.25.88.100: the real server 172.25.88.3 ("+strings.ToLower(s.Web2.MAC.String())+") answers for it too", "on 172.25.88.3: sysctl -w net.ipv4.conf.all.arp_ignore=1")
	t.Logf("%+v", f)
	if f.Member != owner.Name || f.Severity != "bad" {
		t.Errorf("it is said of %s, which does not own it, or not as bad: %+v", f.Member, f)
	}
	out, _ := s.Command(asked, "status")
	t.Log(out)

	// The next owner finds it by itself.
	if out, err := asked.Run(context.Background(), "lbcluster", "router", "move", "VI_1", asked.Name); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.AwaitSuccessor(owner)
	s.Eventually(20*time.Second, "the new owner finds it", func() error {
		if f := s.AwaitFinding(asked, "the real server 172.25.88.3 (", "arp_ignore"); f.Member != asked.Name {
			return errors.New(f.Text)
		}
		return nil
	})
	loud("1")
	silent("arp_ignore is 1 again")
}
