package main

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"lbcluster/cluster"
	"lbcluster/cluster/api"
	"lbcluster/cluster/lease"
)

// A log that failed once and was opened again is not stalled.
func TestStalled(t *testing.T) {
	for _, c := range []struct {
		st   cluster.Status
		want string
	}{
		{cluster.Status{}, ""},
		{cluster.Status{Trouble: "the member is not running"}, ""},
		{cluster.Status{Disk: cluster.DiskStatus{AppendTimeouts: 1, LastError: "took longer"}}, ""},
		{cluster.Status{Trouble: "took longer", Disk: cluster.DiskStatus{AppendTimeouts: 1, LastError: "took longer"}}, "took longer"},
		{cluster.Status{Disk: cluster.DiskStatus{Waiting: 1, LastError: "no space left on device"}}, "no space left on device"},
		{cluster.Status{Disk: cluster.DiskStatus{Waiting: 1}}, "an operation does not end"},
	} {
		if got := stalled(c.st); got != c.want {
			t.Errorf("%+v: %q, want %q", c.st, got, c.want)
		}
	}
}

func TestPeerStatus(t *testing.T) {
	got := peerStatus([]lease.PeerStatus{{ID: "m2", Paths: []lease.PathStatus{
		{Heard: 40 * time.Millisecond, Alive: true},
		{Local: netip.MustParseAddr("10.0.0.1"), Remote: netip.MustParseAddrPort("10.0.0.2:7500"), Heard: -1},
	}}})
	want := []api.PeerStatus{{Member: "m2", Ways: []api.WayStatus{
		{Way: "the members' TLS connection", HeardMS: 40, Alive: true}, {Way: "UDP 10.0.0.1 to 10.0.0.2", HeardMS: -1},
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestClockStatusAndParts(t *testing.T) {
	c := clockStatus(lease.ClockStatus{Rate: 20e-6, Worst: -0.0003, Eps: 0.1, Suspended: time.Second, Alarm: "far off"})
	if want := (api.ClockStatus{RatePPM: 20, WorstPPM: -300, AllowedPPM: 100000, SuspendedMS: 1000, Alarm: "far off"}); c != want {
		t.Errorf("%+v", c)
	}
	for d, want := range map[time.Duration]float64{-1: 0, 0: 0, 180 * time.Millisecond: 0.25, 720 * time.Millisecond: 1, time.Second: 1} {
		if got := part(d, float64(720*time.Millisecond)); got != want {
			t.Errorf("%v: %v", d, got)
		}
	}
}
