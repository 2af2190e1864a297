package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lbcluster/dataplane"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// TestForceCheck: every sign that the word of a person may be wrong refuses it.
func TestForceCheck(t *testing.T) {
	members := []fsm.Member{{ID: "m1", Name: "dir1"}, {ID: "m2", Name: "dir2"}, {ID: "m3", Name: "dir3"}}
	three := []fsm.MemberID{"m1", "m2", "m3"}
	tls := []string{"it answers over TLS"}
	for name, c := range map[string]struct {
		named   []fsm.MemberID
		alive   map[fsm.MemberID][]string
		claimed map[netip.Addr]string
		want    string // "": allowed
	}{
		"both are off":         {named: []fsm.MemberID{"m2", "m3"}},
		"one is forgotten":     {named: []fsm.MemberID{"m2"}, want: "dir3 does not answer either and is not named"},
		"one answers":          {named: []fsm.MemberID{"m2", "m3"}, alive: map[fsm.MemberID][]string{"m3": tls}, want: "dir3 is not powered off: it answers over TLS"},
		"a majority answers":   {named: []fsm.MemberID{"m3"}, alive: map[fsm.MemberID][]string{"m2": tls}, want: "2 of 3 voters answer"},
		"this machine is off":  {named: three, want: "dir1 is this machine"},
		"somebody has the VIP": {named: []fsm.MemberID{"m2", "m3"}, claimed: map[netip.Addr]string{vipA: "02:00:00:00:00:02 on eth0"}, want: "somebody answers for " + vipA.String() + ": 02:00"},
	} {
		err := forceCase{self: "m1", members: members, voters: three, named: c.named, alive: c.alive, claimed: c.claimed}.check()
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, fsm.ErrDenied) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestForceCheckCountsNonVoters: a director without a vote may hold a VIP too.
func TestForceCheckCountsNonVoters(t *testing.T) {
	c := forceCase{
		self: "m1", voters: []fsm.MemberID{"m1", "m2"}, named: []fsm.MemberID{"m2"},
		members: []fsm.Member{{ID: "m1", Name: "dir1"}, {ID: "m2", Name: "dir2"}, {ID: "m4", Name: "dir4"}},
	}
	if err := c.check(); err == nil || !strings.Contains(err.Error(), "dir4") {
		t.Errorf("%v", err)
	}
}

// TestForceAsksForEachVIP: a VIP for which nobody can be asked is no VIP that
// nobody has.
func TestForceAsksForEachVIP(t *testing.T) {
	at := func(a netip.Addr) fsm.Address { return fsm.Address{Prefix: netip.PrefixFrom(a, 32)} }
	other := vipA.Next()
	table := &fsm.Table{Routers: []fsm.Router{{ID: 1, Name: "VI_1", Addresses: []fsm.Address{at(vipA), at(other)}}}}
	known := func(router uint64, a netip.Addr, dev string) dataplane.VIPStatus {
		return dataplane.VIPStatus{Router: router, Prefix: at(a).Prefix, Interface: dev}
	}
	for name, c := range map[string]struct {
		known []dataplane.VIPStatus
		want  int // places; 0: refused
	}{
		"all are known":               {[]dataplane.VIPStatus{known(1, vipA, "eth0"), known(1, other, "eth1")}, 2},
		"the data plane knows none":   {nil, 0},
		"one is missing":              {[]dataplane.VIPStatus{known(1, vipA, "eth0")}, 0},
		"one fits no interface":       {[]dataplane.VIPStatus{known(1, vipA, "eth0"), known(1, other, "")}, 0},
		"one is that of another unit": {[]dataplane.VIPStatus{known(1, vipA, "eth0"), known(2, other, "eth0")}, 0},
	} {
		got, err := placesOf(table, 1, c.known)
		if len(got) != c.want || errors.Is(err, fsm.ErrDenied) != (c.want == 0) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := placesOf(table, 9, nil); !errors.Is(err, fsm.ErrDenied) {
		t.Errorf("a unit that is gone: %v", err)
	}
}

// TestBootIDs: each start reads what the one before wrote.
func TestBootIDs(t *testing.T) {
	cfg := NodeConfig{DataDir: t.TempDir()}
	if last, err := cfg.bootIDs(); last != "" || err != nil {
		t.Errorf("first start: %q, %v", last, err)
	}
	if last, err := cfg.bootIDs(); last != journal.BootID() || err != nil {
		t.Errorf("second start: %q, %v", last, err)
	}
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "boot_id"), []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if last, err := cfg.bootIDs(); last != "another" || err != nil {
		t.Errorf("after a boot: %q, %v", last, err)
	}
	cfg.DataDir = filepath.Join(cfg.DataDir, "none")
	if last, err := cfg.bootIDs(); last != "" || err == nil {
		t.Errorf("no folder: %q, %v", last, err)
	}
}
