package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/lease"
	"lbcluster/fsm"
)

// TestBearable: the slowest round trip decides, by the profile's round.
func TestBearable(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		profile string
		took    []time.Duration
		ok      bool
	}{
		{"default", []time.Duration{ms, ms, 15 * ms}, true},
		{"default", []time.Duration{ms, ms, 16 * ms}, false},
		{"fast", []time.Duration{5 * ms}, true},
		{"fast", []time.Duration{6 * ms}, false},
		{"robust", []time.Duration{50 * ms, ms}, true},
		{"robust", []time.Duration{51 * ms, ms}, false},
		{"robust", nil, false},
	} {
		p, err := lease.Profile(c.profile)
		if err != nil {
			t.Fatal(err)
		}
		err = bearable(c.took, p, c.profile)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, fsm.ErrDenied) {
			t.Errorf("%s, %v: %v", c.profile, c.took, err)
		}
	}
	p, _ := lease.Profile("default")
	err := bearable([]time.Duration{20 * ms, 30 * ms, 40 * ms}, p, "default")
	if want := `the slowest of 3 round trips to the cluster took 40ms (median 30ms), and the profile "default" bears 15ms`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
}

func TestMeasureRoundTrips(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	took := measureRoundTrips(ctx, ln.Addr().String())
	if len(took) < 2 || took[0] <= 0 || took[0] >= roundTripLimit {
		t.Errorf("%v", took)
	}
	ln.Close()
	if took := measureRoundTrips(ctx, ln.Addr().String()); len(took) == 0 || took[0] != roundTripLimit {
		t.Errorf("nobody listens: %v", took)
	}
}
