package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
)

const vip = "172.25.88.100"

// pair is two keepalived directors, two real servers and a client.
type pair struct {
	*lab.Lab
	dir1, dir2, web1, web2, client *lab.Host
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
	p.dir1.StartKeepalived(string(conf))
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
	table := p.dir1.MustRun("ipvsadm", "-Ln")
	for _, want := range []string{"TCP  172.25.88.100:80 rr", "172.25.88.2:80", "172.25.88.3:80", "Route"} {
		if !strings.Contains(table, want) {
			t.Errorf("ipvsadm -Ln on dir1 lacks %q:\n%s", want, table)
		}
	}
}
