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
