package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/cluster/lease"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// wires are networks in memory.
type wires struct {
	mu    sync.Mutex
	socks map[netip.AddrPort]*sock
	cut   func(from, to netip.Addr) bool
}

type sock struct {
	w    *wires
	at   netip.AddrPort
	in   chan frame
	done chan struct{}
	once sync.Once
}

type frame struct {
	b    []byte
	from netip.AddrPort
}

func (w *wires) open(at netip.AddrPort) (lease.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &sock{w: w, at: at, in: make(chan frame, 1000), done: make(chan struct{})}
	w.socks[at] = s
	return s, nil
}

func (s *sock) Receive(b []byte) (int, netip.AddrPort, error) {
	select {
	case f := <-s.in:
		return copy(b, f.b), f.from, nil
	case <-s.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (s *sock) Send(b []byte, to netip.AddrPort) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if peer := s.w.socks[to]; peer != nil && !s.w.cut(s.at.Addr(), to.Addr()) {
		select {
		case peer.in <- frame{slices.Clone(b), s.at}:
		default:
		}
	}
	return nil
}

func (s *sock) Close() error { s.once.Do(func() { close(s.done) }); return nil }

// twoNetworks are three directors on two networks, the second of which has the VIP.
func twoNetworks() *fsm.Table {
	t := threeMembers()
	t.Members[2].Role = fsm.Director
	for i := range t.Members {
		m := &t.Members[i]
		m.Addr = netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:7500", i+11))
		m.Networks = []fsm.Network{
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", i+11))}, {Prefix: netip.MustParsePrefix(fmt.Sprintf("172.25.88.%d/24", i+11))},
		}
	}
	return t
}

// The real lease drivers tell each other whom they hear, and when the VIP's
// network dies for its owner alone, the owner knows within a second. When it
// dies for all, nobody moves.
func TestOwnerLearnsThatItIsCutOff(t *testing.T) {
	vipNet := netip.MustParsePrefix("172.25.88.0/24")
	for name, c := range map[string]struct {
		cut  func(from, to netip.Addr) bool
		want bool
	}{
		"the owner alone": {func(from, to netip.Addr) bool {
			m1 := netip.MustParseAddr("172.25.88.11")
			return vipNet.Contains(to) && (from == m1 || to == m1)
		}, true},
		"everybody": {func(_, to netip.Addr) bool { return vipNet.Contains(to) }, false},
		"another member": {func(from, to netip.Addr) bool {
			m2 := netip.MustParseAddr("172.25.88.12")
			return vipNet.Contains(to) && (from == m2 || to == m2)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wires{socks: map[netip.AddrPort]*sock{}, cut: func(_, _ netip.Addr) bool { return false }}
				table, began := twoNetworks(), time.Now()
				clock := func() int64 { return 1e12 + int64(time.Since(began)) }
				params, err := lease.Profile("default")
				if err != nil {
					t.Fatal(err)
				}
				own := lease.Standing{Units: []lease.UnitStanding{{Unit: 1, Ready: true}}}
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				var drivers []*lease.Driver
				for _, m := range table.Members {
					d, err := lease.New(lease.Config{
						Self: m.ID, Cluster: "c", Key: []byte("0123456789abcdef"), Listen: m.Addr, Params: params, Open: w.open,
						Floor:  func() (fsm.ConfigTag, bool) { return fsm.ConfigTag{}, true },
						Clocks: &lease.Clocks{Boot: clock, Raw: clock},
					})
					if err != nil {
						t.Fatal(err)
					}
					want := leaseWant(m.ID, table, fsm.VoterSet{}, func(netip.Addr) bool { return true }, (*unitFitness)(nil).why)
					for _, n := range m.Networks {
						want.Locals = append(want.Locals, n.Prefix)
					}
					d.Update(want)
					d.SetStanding(own)
					wg.Go(func() { _ = d.Run(ctx) })
					drivers = append(drivers, d)
				}
				j := newJudges()
				look := func() bool {
					time.Sleep(judgePoll)
					facts := factsFor(time.Since(began), 3*params.Renew, "m1", table, j.from(table), own, map[uint64]bool{1: true}, drivers[0].Status().Peers)
					j.decide(facts, func(journal.Entry) {})
					return j.yield(1) != nil
				}
				for range 100 {
					if look() {
						t.Fatalf("it wants to hand over while all is well: %+v", j.yield(1))
					}
				}
				w.mu.Lock()
				w.cut = c.cut
				w.mu.Unlock()
				start, moved := time.Now(), false
				for time.Since(start) < 5*time.Second && !moved {
					moved = look()
				}
				if took := time.Since(start); moved != c.want || moved && took > time.Second {
					t.Errorf("it wants to hand over: %v, after %v: %+v", moved, took, j.yield(1))
				} else if moved {
					t.Logf("%s after %v: %s", j.yield(1).To, took, j.yield(1).Why)
				}
				stop()
				wg.Wait()
			})
		})
	}
}
