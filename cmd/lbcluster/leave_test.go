package main

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"lbcluster/cluster"
)

// A machine that enrolled and never received the table has no parts that could
// let go; it must be able to leave all the same.
func TestLeaveBeforeTheFirstTable(t *testing.T) {
	node, err := cluster.New(cluster.Config{Dir: t.TempDir(), Name: "dir1", Addr: netip.MustParseAddrPort("127.0.0.1:7500")})
	if err != nil {
		t.Fatal(err)
	}
	d := &theDaemon{node: node, vacate: make(chan departure)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.runMember(ctx) }()
	dep := newDeparture(clearKernel)
	select {
	case d.vacate <- dep:
	case <-time.After(2 * time.Second):
		t.Error("nobody answers who wants to leave")
	}
	close(dep.left)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Who leaves at once, asking nobody, must not be forgotten before it is known that
// there was something to take out of the kernel.
func TestLeavingWaitsForTheParts(t *testing.T) {
	d := &theDaemon{vacate: make(chan departure)}
	dep := newDeparture(clearKernel)
	ended := make(chan struct{})
	go func() {
		dep := <-d.vacate
		time.Sleep(50 * time.Millisecond) // the parts end
		close(ended)
		close(dep.stopped)
	}()
	if err := d.stopParts(t.Context(), dep); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("the parts still run")
	}
}
