package dataplane

import (
	"testing"
	"time"

	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// When the announcements after the taking of an address, or after a peer's claim,
// are due.
func TestAnnounceAt(t *testing.T) {
	s := func(n int) fsm.Duration { return fsm.Duration(time.Duration(n) * time.Second) }
	usual := fsm.GARP{MasterRepeat: 2, MasterDelay: s(5), Refresh: s(60), RefreshRepeat: 2, LowerPrioRepeat: 1, LowerPrioDelay: s(3)}
	for _, c := range []struct {
		name      string
		g         fsm.GARP
		contested bool
		want      []time.Duration
	}{
		{"our own", fsm.GARP{}, false, []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 2*time.Second + vip.AnnounceEvery}},
		{"keepalived's", usual, false, []time.Duration{0, 0, 5 * time.Second, 5 * time.Second, 65 * time.Second, 65 * time.Second, 125 * time.Second}},
		{"contested", usual, true, []time.Duration{0, 3 * time.Second, 63 * time.Second, 63 * time.Second}},
		{"vrrp_min_garp", fsm.GARP{MasterRepeat: 1, RefreshRepeat: 1, LowerPrioRepeat: 1}, false, []time.Duration{0, vip.AnnounceEvery, 2 * vip.AnnounceEvery}},
	} {
		for n, want := range c.want {
			if got := announceAt(c.g, c.contested, n); got != want {
				t.Errorf("%s: announcement %d is due after %v, want %v", c.name, n, got, want)
			}
		}
	}
}
