package main

import (
	"strings"
	"testing"
	"time"

	"lbcluster/cluster"
	"lbcluster/fsm"
)

// A cluster without a majority and a member that is cut off are told apart by whom the
// member hears.
func TestLostQuorumSaysWhomItHears(t *testing.T) {
	of := func(id fsm.MemberID, name string, contact time.Duration, alive bool) cluster.MemberStatus {
		return cluster.MemberStatus{Member: fsm.Member{ID: id, Name: name}, Contact: contact, Alive: alive}
	}
	self := of("m1", "dir1", 0, true)
	for _, c := range []struct {
		others []cluster.MemberStatus
		want   string
	}{
		{[]cluster.MemberStatus{of("m2", "dir2", -1, false), of("m3", "dir3", time.Minute, false)}, "it hears no other member"},
		{[]cluster.MemberStatus{of("m2", "dir2", time.Second, false), of("m3", "dir3", -1, true)}, "it hears dir2, dir3"},
	} {
		n := lostQuorum("dir1", cluster.Status{ID: "m1", Members: append(c.others, self)})
		if n.State != "LOST" || !strings.Contains(n.Text, "dir1 has had no leader for 10s") || !strings.HasSuffix(n.Text, c.want) {
			t.Errorf("%+v", n)
		}
	}
}
