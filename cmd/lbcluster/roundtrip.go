package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/lease"
	"lbcluster/fsm"
)

// A witness's way to the cluster is measured with so many connections, a pause
// apart: few enough for a log of strangers at the members' door.
const (
	roundTrips     = 30
	roundTripPause = 30 * time.Millisecond
	roundTripLimit = time.Second // of each
	// trips is how many of the slowest round trips must fit into a round of the
	// lease: the question, its repetition, and as much again for pauses.
	trips = 4
)

// measureRoundTrips connects again and again and returns how long each took; a
// connection takes one round trip. One that fails counts as roundTripLimit.
func measureRoundTrips(ctx context.Context, addr string) []time.Duration {
	var all []time.Duration
	d := net.Dialer{Timeout: roundTripLimit}
	for range roundTrips {
		begin := time.Now()
		c, err := d.DialContext(ctx, "tcp", addr)
		took := time.Since(begin)
		if err != nil {
			took = roundTripLimit
		} else {
			c.Close()
		}
		all = append(all, took)
		if !pause(ctx, roundTripPause) {
			break
		}
	}
	return all
}

// bearable says whether a witness with these round trips can answer the lease of
// a profile in time; else why not, with the numbers. It is pure.
func bearable(took []time.Duration, p lease.Params, profile string) error {
	if len(took) == 0 {
		return fmt.Errorf("%w: no round trip to the cluster was measured", fsm.ErrDenied)
	}
	sorted := slices.Sorted(slices.Values(took))
	worst, median := sorted[len(sorted)-1], sorted[len(sorted)/2]
	if trips*worst <= p.Round {
		return nil
	}
	return fmt.Errorf("%w: the slowest of %d round trips to the cluster took %v (median %v), and the profile %q bears %v: %d of them must fit into a round of %v. A witness as slow as that answers too late when it is needed",
		fsm.ErrDenied, len(took), shown(worst), shown(median), profile, p.Round/trips, trips, p.Round)
}

// shown is a round trip as people read it.
func shown(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// checkWitness refuses a witness that is too far away, once its cluster's
// profile is known: it has no vote yet, and leaves again.
func (d *theDaemon) checkWitness(ctx context.Context, took []time.Duration, force bool) error {
	settings := d.node.Table().Settings
	p, err := lease.Profile(or(settings.Profile, "default"))
	if err != nil {
		return err
	}
	if err = bearable(took, p, or(settings.Profile, "default")); err == nil || force {
		return nil
	}
	if leaveErr := d.Leave(ctx); leaveErr != nil {
		return fmt.Errorf("%w; it did not leave again: %w", err, leaveErr)
	}
	return &api.Problem{
		Status: 403, Code: api.CodeDenied, Title: "refused", Detail: err.Error(),
		Hint: "put the witness nearer, or give the cluster a slower profile; --force joins all the same",
	}
}
