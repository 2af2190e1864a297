package conf

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

const smallYAML = `
routers:
  - name: web
    vrid: 51
    addresses: [172.25.88.100]
services:
  - address: 172.25.88.100:80
    protocol: tcp
    method: dr
    real_servers:
      - address: 172.25.88.2
        checks:
          - kind: tcp
`

// TestYAMLDefaults: what a minimal file leaves out.
func TestYAMLDefaults(t *testing.T) {
	r, problems := ParseYAML("f", []byte(smallYAML))
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	addr := netip.MustParseAddrPort("172.25.88.2:80")
	want := fsm.Config{
		Routers: []fsm.Router{{Name: "web", VRID: 51, Priority: 100, Version: 2, AdvertInterval: fsm.Duration(time.Second),
			Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix("172.25.88.100/32")}}}},
		Services: []fsm.VirtualServer{{
			ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr("172.25.88.100"), Port: 80, Protocol: fsm.TCP},
			Scheduler:  "wlc", Method: fsm.DirectRouting,
			RealServers: []fsm.RealServer{{Addr: addr.Addr(), Port: 80, Weight: 1, Checks: []fsm.Check{{
				Kind: fsm.CheckTCP, Dest: addr, ConnectTimeout: fsm.Duration(3 * time.Second), Retry: 2,
				DelayBeforeRetry: fsm.Duration(time.Second), DelayLoop: fsm.Duration(5 * time.Second), Warmup: fsm.Duration(5 * time.Second)}}}},
		}},
	}
	if !reflect.DeepEqual(r.Config, want) {
		t.Errorf("got %+v", r.Config)
	}
	if len(r.Notices) > 0 {
		t.Error(lines(r.Notices))
	}
}

// TestYAMLErrors replaces one text of the small file; lines count from its
// first, empty one.
func TestYAMLErrors(t *testing.T) {
	for _, c := range []struct {
		old, new string
		line     int
		keyword  string
		says     string
	}{
		{"protocol: tcp", "# none", 7, "services", "protocol is missing"},
		{"method: dr", "# none", 7, "services", "method is missing"},
		{"protocol: tcp", "protocol: TCP", 8, "protocol", `"TCP" is not supported; tcp, udp or sctp is`},
		{"method: dr", "method: masq", 9, "method", "dr, tun or nat is"},
		{"method: dr", "method: dr\n    sheduler: rr", 10, "sheduler", "unknown key"},
		{"method: dr", "method: dr\n    scheduler: fast", 10, "scheduler", "unknown"},
		{"method: dr", "method: dr\n    persistence: 50", 10, "persistence", "not a duration"},
		{"method: dr", "method: dr\n    persistence: 1500ms", 10, "persistence", "whole seconds"},
		{"method: dr", "method: dr\n    persistence_mask: 24", 10, "persistence_mask", "without persistence"},
		{"method: dr", "method: dr\n    method: dr", 10, "", "already defined"},
		{"method: dr", "method: dr\n    persistence_engine: sip", 10, "persistence_engine", "without persistence"},
		{"method: dr", "method: dr\n    one_packet: true", 10, "one_packet", "UDP"},
		{"method: dr", "method: dr\n    hash_port: true", 10, "hash_port", "sh and mh"},
		{"method: dr", "method: dr\n    family: ipv4", 10, "family", "is for a mark"},
		{"method: dr", "method: dr\n    match: [{address: 10.0.0.1, protocol: tcp}]", 10, "match", "is for firewall marks"},
		{"method: dr", "method: dr\n    match: [{address: 10.0.0.1/24, protocol: tcp, ports: 90-80}]", 10, "ports", "neither a port nor a range"},
		{"address: 172.25.88.2\n", "address: 172.25.88.2\n        method: x\n", 12, "method", "not supported"},
		{"vrid: 51", "vrid: 256", 4, "vrid", "not from 1 to 255"},
		{"vrid: 51", "vrid: x", 4, "", "cannot unmarshal"},
		{"vrid: 51", "# none", 3, "routers", "vrid is missing"},
		{"name: web", "interface: eth0", 3, "routers", "name is missing"},
		{"name: web", "name: a b", 3, "name", "in it"},
		{"vrid: 51", "vrid: 51\n    version: 4", 5, "version", "not from 2 to 3"},
		{"vrid: 51", "vrid: 51\n    advert_interval: 1500ms", 5, "advert_interval", "whole seconds"},
		{"vrid: 51", "vrid: 51\n    auth_pass: 123456789", 5, "auth_pass", "9 bytes"},
		{"[172.25.88.100]", "[172.25.88.100, \"fd00::1\"]", 5, "addresses", "one family"},
		{"[172.25.88.100]", "[172.25.88.100, {prefix: 1.2.3.4, via: x}]", 5, "via", "unknown key"},
		{"[172.25.88.100]", "[]", 5, "addresses", "empty"},
		{"address: 172.25.88.100:80", "address: 172.25.88.100", 7, "address", "needs a port"},
		{"address: 172.25.88.100:80", "address: \"[fd00::1]:80\"", 11, "address", "family"},
		{"address: 172.25.88.2\n", "address: 172.25.88.2:81\n", 11, "address", "cannot change the port"},
		{"address: 172.25.88.2\n", "address: web2\n", 11, "address", "not an IP address"},
		{"address: 172.25.88.2\n", "weight: 3\n", 11, "real_servers", "address is missing"},
		{"address: 172.25.88.2\n", "address: 172.25.88.100\n", 11, "address", "is a VIP"},
		{"kind: tcp", "kind: bfd", 13, "kind", "not supported"},
		{"kind: tcp", "kind: http", 13, "checks", "needs http"},
		{"kind: tcp", "delay_loop: 1s", 13, "checks", "kind is missing"},
		{"kind: tcp", "kind: tcp\n            retry: -1", 14, "retry", "not from 0"},
		{"kind: tcp", "kind: tcp\n            bind: here", 14, "bind", "not an IP address"},
		{"kind: tcp", "kind: tcp\n            delay_loop: 5", 14, "delay_loop", "not a duration"},
		{"kind: tcp\n", "kind: tcp\n---\nrouters: []\n", 0, "", "second one after ---"},
		{"routers:", "routers: {", 0, "", ""},
	} {
		text := strings.Replace(smallYAML, c.old, c.new, 1)
		if text == smallYAML {
			t.Fatalf("%s is not in the file", c.old)
		}
		_, problems := ParseYAML("f", []byte(text))
		if len(problems) != 1 {
			t.Errorf("%s: %d problems:\n%s", c.new, len(problems), lines(problems))
			continue
		}
		p := problems[0]
		if c.says != "" && (p.Line != c.line || p.Keyword != c.keyword || !strings.Contains(p.Text, c.says)) {
			t.Errorf("%s: %s", c.new, p)
		}
	}
}

// TestYAMLAllInOneRun: unknown keys are found together, and so are wrong values.
func TestYAMLAllInOneRun(t *testing.T) {
	for _, c := range [][2]string{{"vrid: 51", "vrd: 51"}, {"vrid: 51", "vrid: 300"}} {
		text := strings.Replace(smallYAML, c[0], c[1], 1)
		text = strings.Replace(text, "kind: tcp", map[bool]string{true: "knd: tcp", false: "kind: bfd"}[c[1] == "vrd: 51"], 1)
		if _, problems := ParseYAML("f", []byte(text)); len(problems) != 2 || problems[0].Line != 4 || problems[1].Line != 13 {
			t.Error(lines(problems))
		}
	}
}

// TestYAMLOfPair: the sample survives the way through YAML.
func TestYAMLOfPair(t *testing.T) {
	r, problems := Parse("testdata/pair.conf", os.ReadFile, nil)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	out, err := WriteYAML(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/pair.yaml.golden", string(out))
	again, problems := ParseYAML("f", out)
	if len(problems) > 0 || !reflect.DeepEqual(again.Config, r.Config) {
		t.Errorf("%s\n%+v", lines(problems), again.Config)
	}
}

// TestYAMLRoundTrip: whatever is valid comes back the same.
func TestYAMLRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		out, err := WriteYAML(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, problems := ParseYAML("f", out)
		if len(problems) > 0 || !reflect.DeepEqual(again.Config, cfg) {
			t.Fatalf("%s\n%s\nwas %+v\nis  %+v", out, lines(problems), cfg, again.Config)
		}
	})
}

// TestLocate: a complaint that only the table can make gets its line too.
func TestLocate(t *testing.T) {
	table := &fsm.Table{Routers: []fsm.Router{{
		Name: "VI_other", Set: "other", Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix("172.25.88.2/32")}},
	}}}
	kr, problems := Parse("testdata/pair.conf", os.ReadFile, nil)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	yr, problems := ParseYAML("f", []byte(smallYAML))
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	for _, c := range []struct {
		r       Result
		line    int
		keyword string
	}{{kr, 41, "real_server"}, {yr, 11, "address"}} {
		found := table.ValidateSet("default", c.r.Config)
		if len(found) != 1 {
			t.Fatalf("%v", found)
		}
		if p := c.r.Locate(found[0]); p.Line != c.line || p.Keyword != c.keyword || !strings.Contains(p.Text, "VI_other") {
			t.Error(p)
		}
	}
}

func FuzzParseYAML(f *testing.F) {
	f.Add([]byte(smallYAML))
	for _, s := range []string{"", "a", "[]", "routers: [{}]", "services: [{real_servers: [{checks: [{}]}]}]", "a: &a [*a]", "routers: [{addresses: [{}]}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, problems := ParseYAML("f", data)
		checkResult(t, "f", r, problems)
	})
}

// checkResult holds the promises that hold for any input.
func checkResult(t *testing.T, file string, r Result, problems []Problem) {
	t.Helper()
	for _, p := range problems {
		if p.File != file || p.Text == "" || p.Line < 0 || strings.Contains(p.Text, "%!") {
			t.Errorf("malformed problem %#v", p)
		}
	}
	for _, n := range r.Notices {
		if n.File != file || n.Text == "" || strings.Contains(n.Text, "%!") {
			t.Errorf("malformed notice %#v", n)
		}
	}
	if len(problems) > 0 {
		return
	}
	if bad := fsm.ValidateConfig(r.Config); len(bad) > 0 {
		t.Errorf("not valid, but without problems: %v", bad)
	}
	if _, err := WriteKeepalived(r.Config); err != nil && !strings.Contains(err.Error(), "keepalived.conf cannot say") {
		t.Errorf("cannot be written: %v", err) // what is written, it has read back and compared
	}
	out, err := WriteYAML(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	again, problems := ParseYAML("again", out)
	if len(problems) > 0 || fmt.Sprint(again.Config) != fmt.Sprint(r.Config) {
		t.Errorf("does not survive being written:\n%s\n%s", out, lines(problems))
	}
}
