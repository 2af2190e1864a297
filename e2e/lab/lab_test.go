package lab

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseUnit(t *testing.T) {
	u, err := ParseUnit("[Service]\n# ExecStart=/no\nEnvironment=A=1 B=2\nExecStart=/usr/sbin/lbcluster run \\\n  --data /var/lib/lbcluster\nExecStopPost=-/usr/sbin/lbcluster x\nExecStopPost=+/bin/true\nRestart=always\n")
	want := Unit{
		Start:    []string{"/usr/sbin/lbcluster", "run", "--data", "/var/lib/lbcluster"},
		StopPost: [][]string{{"/usr/sbin/lbcluster", "x"}, {"/bin/true"}},
		Env:      []string{"A=1", "B=2"},
	}
	if err != nil || !reflect.DeepEqual(u, want) {
		t.Errorf("got %+v, %v", u, err)
	}
	for _, bad := range []string{"", "[Service]\nExecStart=\n", "ExecStart=/bin/sh -c 'x y'\n"} {
		if _, err := ParseUnit(bad); err == nil {
			t.Errorf("%q must be an error", bad)
		}
	}
}

func TestBlockTable(t *testing.T) {
	got := blockTable([]*Block{{rules: []string{blockRule("p-a", "p-b", " ip protocol  112 "), blockRule("p-b", "p-a", "arp")}}, {rules: []string{blockRule("p-c", "p-a", "")}}})
	for _, want := range []string{
		"delete table bridge lab\ntable bridge lab {", // replaced in one step
		`  iifname "p-a" oifname "p-b" ip protocol 112 counter drop`,
		`  iifname "p-b" oifname "p-a" ether type arp counter drop`,
		`  iifname "p-c" oifname "p-a" counter drop`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
}

func TestMACsAreLocalAndDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"dir1", "dir2", "dir3", "web1", "web2", "client", "watch", "wit1"} {
		m := macOf(name)
		if m[0]&0x03 != 0x02 {
			t.Errorf("%s: %v is not a local unicast address", name, m)
		}
		if other := seen[m.String()]; other != "" {
			t.Errorf("%s and %s share %v", name, other, m)
		}
		seen[m.String()] = name
	}
}

func TestMainRunsCleanupsAndReportsFailures(t *testing.T) {
	var log []string
	err := Main("x", func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }, func(t T) {
		t.Cleanup(func() { t.Logf("first") })
		t.Cleanup(func() { t.Fatalf("in a cleanup") })
		t.Cleanup(func() { t.Logf("last, failed: %v", t.Failed()) })
		t.Fatalf("broken %d", 1)
		t.Logf("never")
	})
	if err == nil || err.Error() != "broken 1\nin a cleanup" {
		t.Errorf("error: %v", err)
	}
	if want := []string{"last, failed: true", "first"}; !reflect.DeepEqual(log, want) {
		t.Errorf("log %v, want %v", log, want)
	}
}
