package cluster

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"lbcluster/fsm"
)

// A peer that takes connections and says nothing, as a frozen one does, does
// not hold up the end of a member.
func TestGossipWithFrozenPeerStops(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	frozen := freeAddr(t)
	gossipAddr := netip.AddrPortFrom(frozen.Addr(), frozen.Port()+1)
	ln, err := net.Listen("tcp", gossipAddr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	with := *a.node.Table()
	with.Revision += 1000
	with.Members = append(with.Members[:1:1], fsm.Member{ID: "m2", Name: "b", Role: fsm.Director, State: fsm.Present, Addr: frozen})
	a.node.board.publish(&with)
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	a.stop()
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("stopping took %v", d)
	}
}
