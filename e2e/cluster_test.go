package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

func TestThreeDirectorsServeOneVIP(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	got := map[string]int{}
	for range 10 {
		who, err := s.Client.Curl(context.Background(), "http://"+site.VIP+"/")
		if err != nil {
			t.Fatal(err)
		}
		got[who]++
	}
	if fmt.Sprint(got) != "map[web1:5 web2:5]" {
		t.Errorf("ten curls were answered by %v, want five by each real server", got)
	}
	t.Log("\n" + s.Dirs[0].MustRun("ipvsadm", "-Ln"))
	status := s.Dirs[1].MustRun("lbcluster", "status")
	t.Log("\n" + status)
	if !strings.Contains(status, site.VIP) {
		t.Errorf("status does not name the VIP:\n%s", status)
	}
}
