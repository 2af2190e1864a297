package scale

import (
	"strings"
	"testing"

	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// The files are what is meant to be measured, and nothing else changes with a change.
func TestConf(t *testing.T) {
	read := func(c Change) fsm.Config {
		r, problems := conf.Parse("f", func(string) ([]byte, error) { return []byte(Conf(Size{4, 5}, c)), nil }, nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return r.Config
	}
	all := read(Change{})
	if n := len(all.Services); n != 4 || len(all.Services[3].RealServers) != 5 {
		t.Errorf("%d virtual servers, the last with %d real servers", n, len(all.Services[3].RealServers))
	}
	for name, c := range map[string]struct {
		change Change
		says   string
	}{
		"weight": {Change{Weight: 7}, "weight 7"},
		"less":   {Change{Less: 1}, "10.77.0.5"},
	} {
		changes := fsm.DiffConfigs(all, read(c.change))
		if len(changes) != 1 || !strings.Contains(changes[0].Path+changes[0].After, c.says) {
			t.Errorf("%s: %+v", name, changes)
		}
	}
	service, server := middle(Size{4, 5})
	if changes := fsm.DiffConfigs(all, read(Change{Weight: 7})); !strings.Contains(changes[0].Path, service.String()) || !strings.Contains(changes[0].Path, server.String()) {
		t.Errorf("the middle is %s of %s, what changes is %s", server, service, changes[0].Path)
	}
	if n := strings.Count(rules(Size{4, 5}), "-a "); n != 20 {
		t.Errorf("%d real servers for ipvsadm", n)
	}
}

func TestTable(t *testing.T) {
	small, large := Size{10, 10}, Size{100, 100}
	f := func(who string, size Size, what string, value float64, unit string) Figure {
		return Figure{Who: who, Size: size, What: what, Value: value, Unit: unit}
	}
	got := Table([]Figure{
		f("lbcluster", small, "apply", 12.34, "ms"), f("lbcluster", large, "apply", 1234.5, "ms"), f("lbcluster", large, "memory", 3.14, "MB"),
		f("keepalived", small, "start", 1, "ms"),
		{Part: leases, Case: "calm", Who: "lbcluster", Size: large, What: "renewals", Value: 40},
	})
	const want = `lbcluster, real servers:                                                  100      10000
  apply, ms                                                                12       1234
  memory, MB                                                                         3.1
keepalived, real servers:                                                 100
  start, ms                                                               1.0
lease    10000    calm                           renewals                                                             40
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
