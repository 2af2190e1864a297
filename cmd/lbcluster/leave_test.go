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
