package fsm

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Whether a failover inside the cluster fits into a peer's patience.
func TestPeerTiming(t *testing.T) {
	peer := []Peer{{Addr: netip.MustParseAddr("10.0.0.9")}}
	for _, c := range []struct {
		profile  string
		guard    time.Duration
		version  uint8
		interval time.Duration
		peers    []Peer
		want     string
	}{
		{"default", 0, 2, time.Second, peer, ""},
		{"robust", 0, 2, time.Second, peer, "after 3.008s without an advert, but a failover inside the cluster may take 4.2s"},
		{"robust", 0, 2, time.Second, nil, ""},
		{"robust", 0, 2, 2 * time.Second, peer, ""},
		{"default", 2 * time.Second, 2, time.Second, peer, "guard 2s"},
		{"default", 0, 3, 100 * time.Millisecond, peer, "after 301ms without an advert"},
		{"fast", 0, 3, 100 * time.Millisecond, peer, "may take 448ms"},
		{"fast", 0, 3, 250 * time.Millisecond, peer, ""},
	} {
		r := Router{Version: c.version, AdvertInterval: Duration(c.interval), Peering: Peering{Peers: c.peers}}
		got := Settings{Profile: c.profile, Guard: Duration(c.guard)}.timing(r)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s, guard %v, version %d, %v: %q, want %q", c.profile, c.guard, c.version, c.interval, got, c.want)
		}
	}
}

// A table with peers takes neither a set nor a setting that does not fit them.
func TestPeerTimingIsRefused(t *testing.T) {
	r := Router{Name: "VI_1", VRID: 51, Priority: 100, Version: 2, AdvertInterval: Duration(time.Second),
		Addresses: []Address{{Prefix: netip.MustParsePrefix("10.0.0.100/32")}}, Peering: Peering{Peers: []Peer{{Addr: netip.MustParseAddr("10.0.0.9")}}}}
	table := &Table{Settings: Settings{Profile: "robust"}}
	if got := table.ValidateSet("default", Config{Routers: []Router{r}}); len(got) != 1 || !strings.Contains(got[0].Text, "quicker profile") {
		t.Errorf("a set: %v", got)
	}
	e := &edit{Table: Table{Settings: Settings{Profile: "default"}, Routers: []Router{r}}}
	if err := e.settings(SetSettings{Profile: "robust"}); err == nil || !strings.Contains(err.Error(), "virtual_router VI_1: a VRRP peer takes over after") {
		t.Errorf("a setting: %v", err)
	}
	if e.Settings.Profile != "default" {
		t.Error("a refused setting was made")
	}
}
