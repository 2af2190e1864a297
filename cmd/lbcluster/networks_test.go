package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
)

func host(iface, mac string, prefixes ...string) (out []hostAddr) {
	for _, p := range prefixes {
		out = append(out, hostAddr{iface, mac, netip.MustParsePrefix(p)})
	}
	return out
}

func TestMemberNetworks(t *testing.T) {
	eth0 := host("eth0", "02:00:00:00:00:01", "172.25.88.11/24", "fe80::11/64", "172.25.88.100/32")
	eth1 := host("eth1", "02:00:00:00:00:02", "10.0.0.11/8", "fd00::11/64", "fe80::12/64")
	eth2 := host("eth2", "", "192.0.2.1/30")
	all := slices.Concat(eth0, eth1, eth2)
	for _, c := range []struct {
		name  string
		have  []hostAddr
		main  string
		named []string
		want  string
	}{
		{"nothing", nil, "10.0.0.11", nil, "[]"},
		{"the networks of the VIP and of the main address", all, "10.0.0.11", nil,
			"[{10.0.0.11/8 02:00:00:00:00:02} {172.25.88.11/24 02:00:00:00:00:01} {fe80::11/64 02:00:00:00:00:01} {fe80::12/64 02:00:00:00:00:02}]"},
		{"main in the VIP's", all, "172.25.88.11", nil, "[{172.25.88.11/24 02:00:00:00:00:01} {fe80::11/64 02:00:00:00:00:01}]"},
		{"a named interface", slices.Concat(eth0, eth2), "172.25.88.11", []string{"eth2"},
			"[{172.25.88.11/24 02:00:00:00:00:01} {192.0.2.1/30 } {fe80::11/64 02:00:00:00:00:01}]"},
		{"a named network", slices.Concat(eth1, eth2), "192.0.2.1", []string{"fd00::/8"},
			"[{192.0.2.1/30 } {fd00::11/64 02:00:00:00:00:02} {fe80::12/64 02:00:00:00:00:02}]"},
		{"a container's bridge", slices.Concat(eth0, host("docker0", "02:00:00:00:00:09", "172.17.0.1/16", "fe80::9/64")), "172.25.88.11", nil,
			"[{172.25.88.11/24 02:00:00:00:00:01} {fe80::11/64 02:00:00:00:00:01}]"},
		{"a main address alone in its network", host("dummy0", "", "192.0.2.7/32"), "192.0.2.7", nil, "[{192.0.2.7/32 }]"},
	} {
		got := memberNetworks(c.have, netip.MustParseAddr(c.main), []netip.Addr{vipA}, c.named)
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v\nwant %s", c.name, got, c.want)
		}
	}
	var many []hostAddr
	for i := range 100 {
		many = append(many, host("eth0", "", fmt.Sprintf("172.25.88.%d/24", i+1))...)
	}
	got := memberNetworks(many, netip.MustParseAddr("172.25.88.99"), []netip.Addr{vipA}, nil)
	if len(got) != mostNetworks || got[len(got)-1].Prefix.Addr() != netip.MustParseAddr("172.25.88.99") {
		t.Errorf("of many addresses: %v; the main one must be among them", got)
	}
}

func TestCheckNetwork(t *testing.T) {
	for n, ok := range map[string]bool{"eth1": true, "10.0.0.0/24": true, "fd00::/8": true, "": false, "10.0.0.0/33": false, "a b": false, "eth0/1": false} {
		if err := checkNetwork(n); (err == nil) != ok {
			t.Errorf("%q: %v", n, err)
		}
	}
}

// The sockets follow at once; the table is told once the addresses stand still,
// again after a failure, and not when it knows.
func TestNetworksTellTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		table := threeMembers()
		have := host("eth0", "02:00:00:00:00:01", "172.25.88.11/24")
		var told []string
		fail := 1
		n := &networks{
			self: "m1", main: netip.MustParseAddr("172.25.88.11"), changed: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler),
			table: func() *fsm.Table { mu.Lock(); defer mu.Unlock(); return table },
			look: func() ([]hostAddr, error) {
				mu.Lock()
				defer mu.Unlock()
				if have == nil {
					return nil, errors.New("netlink is busy")
				}
				return have, nil
			},
			propose: func(_ context.Context, c fsm.Command) (fsm.Result, error) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, fmt.Sprint(*c.Member.Networks))
				if fail--; fail >= 0 {
					return fsm.Result{}, errors.New("no leader")
				}
				next := *table
				next.Members = slices.Clone(table.Members)
				next.Members[0].Networks = *c.Member.Networks
				table = &next
				return fsm.Result{}, nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.run(ctx) }()
		reports := func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(told) }
		set := func(h []hostAddr) { mu.Lock(); defer mu.Unlock(); have = h }
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if l := n.locals(); len(l) != 1 || len(n.changed) != 1 || len(reports()) != 0 {
			t.Errorf("after a moment: locals %v, told %v", l, reports())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if told := reports(); len(told) != 2 || told[1] != "[{172.25.88.11/24 02:00:00:00:00:01}]" {
			t.Errorf("told %v; one failure and one more wanted", told)
		}
		for i := range 30 { // flaps each look
			set(host("eth0", "02:00:00:00:00:01", []string{"172.25.88.11/24", "172.25.88.21/24"}[:1+i%2]...))
			time.Sleep(networksPoll)
		}
		synctest.Wait()
		if told := reports(); len(told) != 2 {
			t.Errorf("told %v while the addresses flap", told)
		}
		set(nil)
		time.Sleep(time.Minute)
		if l := n.locals(); len(l) == 0 {
			t.Error("what cannot be read counts as gone")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
