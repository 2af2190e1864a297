package main

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

func TestMemberNetworks(t *testing.T) {
	iface := func(mac string, prefixes ...string) networkInterface {
		n := networkInterface{}
		n.mac, _ = net.ParseMAC(mac)
		for _, p := range prefixes {
			n.addrs = append(n.addrs, netip.MustParsePrefix(p))
		}
		return n
	}
	many := iface("02:00:00:00:00:01")
	for i := range 100 {
		many.addrs = append(many.addrs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 16))
	}
	for _, c := range []struct {
		name string
		list []networkInterface
		want string
	}{
		{"none", nil, "[]"},
		{"sorted, with the MAC", []networkInterface{
			iface("02:00:00:00:00:01", "172.25.88.11/24", "fe80::11/64"), iface("02:1B:00:00:00:02", "10.0.0.11/8"),
		}, "[{10.0.0.11/8 02:1b:00:00:00:02} {172.25.88.11/24 02:00:00:00:00:01} {fe80::11/64 02:00:00:00:00:01}]"},
		{"a VIP is nobody's own", []networkInterface{iface("02:00:00:00:00:01", "172.25.88.11/24", "172.25.88.100/32")},
			"[{172.25.88.11/24 02:00:00:00:00:01}]"},
		{"a container's end", []networkInterface{iface("02:00:00:00:00:03", "fe80::3/64"), iface("02:00:00:00:00:04", "172.25.88.100/32")}, "[]"},
		{"a tunnel", []networkInterface{iface("", "192.0.2.1/30")}, "[{192.0.2.1/30 }]"},
		{"one address on two VLANs", []networkInterface{
			iface("02:00:00:00:00:01", "10.0.0.1/24", "fe80::1/64"), iface("02:00:00:00:00:01", "10.0.1.1/24", "fe80::1/64"),
		}, "[{10.0.0.1/24 02:00:00:00:00:01} {10.0.1.1/24 02:00:00:00:00:01} {fe80::1/64 02:00:00:00:00:01}]"},
	} {
		if got := fmt.Sprint(memberNetworks(c.list, []netip.Addr{vipA})); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := memberNetworks([]networkInterface{many}, nil); len(got) != maxNetworks {
		t.Errorf("%d addresses, the table takes %d", len(got), maxNetworks)
	}
}
