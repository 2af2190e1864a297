package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var oneAddr = []localAddr{
	{"eth0", netip.MustParsePrefix("10.0.0.11/24")},
	{"eth0", netip.MustParsePrefix("172.25.88.100/32")}, // a VIP left behind
	{"eth0", netip.MustParsePrefix("fe80::1/64")},
}

func TestNodeConfigDefaults(t *testing.T) {
	c, err := nodeFile{}.resolve(nodeEnv{hostname: "dir1.example.org", addrs: oneAddr})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "dir1" || c.Addr.String() != "10.0.0.11:7500" || c.DataDir != defaultDataDir || c.LogLevel != slog.LevelInfo {
		t.Errorf("defaults: %+v", c)
	}
}

func TestNodeConfigFileAndFlags(t *testing.T) {
	f, err := parseNodeFile([]byte("name: a\naddr: 10.0.0.12:7700\ndata_dir: /d\nsocket: /s\nlog_level: debug\nbpf_pin_dir: /b\ninterfaces: {eth0: ens3}\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.merge(nodeFile{Name: "b"}).resolve(nodeEnv{hostname: "h", addrs: oneAddr})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "b" || c.Addr.String() != "10.0.0.12:7700" || c.Socket != "/s" || c.Interfaces["eth0"] != "ens3" ||
		c.LogLevel != slog.LevelDebug || c.BPFPinDir != "/b" {
		t.Errorf("got %+v", c)
	}
}

// TestNodeConfigFaults: every fault is named, all in one error.
func TestNodeConfigFaults(t *testing.T) {
	f := nodeFile{Name: "a b", Addr: "nowhere", DataDir: "rel", Socket: "x", LogLevel: "loud", BPFPinDir: "y", Metrics: "10.0.0.1", Interfaces: map[string]string{"eth0": "far/too"}}
	_, err := f.resolve(nodeEnv{})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, key := range []string{"name:", "addr:", "data_dir:", "socket:", "log_level:", "bpf_pin_dir:", "interfaces:", "metrics:"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%q is not named in:\n%v", key, err)
		}
	}
}

func TestNodeAddr(t *testing.T) {
	two := append([]localAddr{{"eth1", netip.MustParsePrefix("192.168.1.5/24")}}, oneAddr...)
	for _, c := range []struct {
		give string
		have []localAddr
		want string // an address, or a part of the error
	}{
		{"10.1.1.1", nil, "10.1.1.1:7500"},
		{"10.1.1.1:80", nil, "10.1.1.1:80"},
		{"[fd00::1]:80", nil, "[fd00::1]:80"},
		{"", oneAddr, "10.0.0.11:7500"},
		{"", nil, "no global IPv4 address"},
		{"", two, "10.0.0.11 (eth0)"},
		{"0.0.0.0", nil, "no address that others can reach"},
		{"10.1.1.1:65535", nil, "can't be used"},
		{"10.1.1.1:0", nil, "can't be used"},
	} {
		ap, err := resolveAddr(c.give, c.have)
		got := ap.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("resolveAddr(%q): %s, want %s", c.give, got, c.want)
		}
	}
}

func TestNodeFileUnknownKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.yaml")
	if err := os.WriteFile(path, []byte("nmae: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readNodeFile(path); err == nil || !strings.Contains(err.Error(), "nmae") || !strings.Contains(err.Error(), path) {
		t.Errorf("a misspelt key: %v", err)
	}
	if f, err := readNodeFile(path + ".none"); err != nil || f.Name != "" {
		t.Errorf("a missing file must say nothing: %v", err)
	}
}

// A member's address is the one it enrolled with: a VIP with the length of its
// network, left behind by a killed daemon, must not keep the next from starting.
func TestNodeAddrOfAMember(t *testing.T) {
	dir := t.TempDir()
	key := strings.Repeat("A", 43) + "="
	identity := `{"id":"m1","cluster":"c","addr":"192.0.2.11:7600","lease_key":"` + key + `","gossip_key":"` + key + `"}`
	if err := os.WriteFile(filepath.Join(dir, "identity.json"), []byte(identity), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none.yaml")
	c, err := loadNodeConfig(none, nodeFile{Name: "dir1", DataDir: dir})
	if err != nil || c.Addr.String() != "192.0.2.11:7600" {
		t.Errorf("without addr: %v, %v", c.Addr, err)
	}
	c, err = loadNodeConfig(none, nodeFile{Name: "dir1", DataDir: dir, Addr: "192.0.2.12"})
	if err != nil || c.Addr.String() != "192.0.2.12:7500" {
		t.Errorf("what is written wins: %v, %v", c.Addr, err)
	}
}
