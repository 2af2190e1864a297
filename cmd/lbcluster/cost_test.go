package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"lbcluster/cluster/lease"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// crowd is a cluster of members with n virtual routers, all well, as the first
// member sees it: it holds the first third.
func crowd(members, n int) (t *fsm.Table, own lease.Standing, owns map[uint64]bool, peers []lease.PeerStatus) {
	t = &fsm.Table{Owners: map[uint64]fsm.MemberID{}, Places: map[uint64]fsm.Place{}}
	owns = map[uint64]bool{}
	var order []fsm.MemberID
	for i := range members {
		id := fsm.MemberID(fmt.Sprintf("m%d", i+1))
		a := netip.AddrFrom4([4]byte{172, 25, 88, byte(11 + i)})
		t.Members = append(t.Members, fsm.Member{ID: id, Name: fmt.Sprintf("dir%d", i+1), Addr: netip.AddrPortFrom(a, 7500), Role: fsm.Director, State: fsm.Present,
			Networks: []fsm.Network{{Prefix: netip.PrefixFrom(a, 24)}}})
		order = append(order, id)
	}
	for i := range n {
		id := uint64(i + 1)
		t.Routers = append(t.Routers, fsm.Router{ID: id, Name: fmt.Sprintf("VI_%d", id), VRID: uint8(id), Interface: "eth0",
			Addresses: []fsm.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 25, 88, byte(100 + i)}), 32)}}})
		t.Places[id] = fsm.Place{Order: order}
		owns[id] = i < n/3
		own.Units = append(own.Units, lease.UnitStanding{Unit: id, Ready: true})
	}
	for _, m := range t.Members[1:] {
		p := lease.PeerStatus{ID: m.ID, Ago: 100 * time.Millisecond}
		for _, o := range t.Members {
			if o.ID != m.ID {
				p.Hears = append(p.Hears, lease.Heard{Member: o.ID, Addr: o.Addr.Addr()})
			}
		}
		p.Paths = []lease.PathStatus{{Remote: m.Addr, Alive: true}}
		for i := range n {
			p.Units = append(p.Units, told(uint64(i+1), true, 0))
		}
		peers = append(peers, p)
	}
	return t, own, owns, peers
}

// What a director at rest computes ten times a second.
func BenchmarkJudge(b *testing.B) {
	for _, size := range []struct{ members, routers int }{{3, 1}, {3, 64}, {7, 64}, {3, 255}} {
		b.Run(fmt.Sprintf("%d members, %d routers", size.members, size.routers), func(b *testing.B) {
			t, own, owns, peers := crowd(size.members, size.routers)
			j := newJudges()
			now := time.Duration(0)
			for b.Loop() {
				now += judgePoll
				j.decide(factsFor(now, 480*time.Millisecond, "m1", t, j.from(t), own, owns, peers), func(journal.Entry) {})
			}
		})
	}
}

// What a director computes for its lease whenever the table changes.
func BenchmarkLeaseWant(b *testing.B) {
	for _, size := range []struct{ members, routers int }{{3, 1}, {3, 64}, {7, 64}, {3, 255}} {
		b.Run(fmt.Sprintf("%d members, %d routers", size.members, size.routers), func(b *testing.B) {
			t, _, _, _ := crowd(size.members, size.routers)
			for b.Loop() {
				leaseWant("m1", t, fsm.VoterSet{}, func(netip.Addr) bool { return true }, func(uint64) string { return "" })
			}
		})
	}
}
