package gate

import (
	"testing"
	"time"
)

// Extension headers.
func hopByHop() ext          { return ext{0, []byte{0, 0, 1, 4, 0, 0, 0, 0}} }
func destOptions(n byte) ext { return ext{60, append([]byte{0, n, 1, 4}, make([]byte, 4+8*int(n))...)} }
func routing() ext {
	return ext{43, []byte{0, 2, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}}
}
func fragment(field uint16) ext {
	return ext{44, []byte{0, 0, byte(field >> 8), byte(field), 0, 0, 0, 1}}
}
func auth() ext { return ext{51, append([]byte{0, 4}, make([]byte, 22)...)} }

// v6 builds the frame of an IPv6 packet.
func v6(packet []byte, tags ...uint32) []byte {
	return ether(macA, macB, etherIPv6, packet, tags...)
}

// gated6 is what must pass before the deadline and be dropped after it.
func gated6() map[direction]map[string][]byte {
	tcp := make([]byte, 20)
	ask := nd(client6, solicited(vip6), 135, vip6, 1, macB)
	probe := nd(v6zero, solicited(vip6), 135, vip6, 0, macB)
	tell := nd(node6, allNodes, 136, vip6, 2, macA)
	asIn := func(exts ...ext) []byte { return v6(ip6Packet(client6, solicited(vip6), 58, 255, exts, ask)) }
	asOut := func(exts ...ext) []byte { return v6(ip6Packet(node6, allNodes, 58, 255, exts, tell)) }
	six := []ext{hopByHop(), destOptions(0), routing(), fragment(1), auth(), destOptions(2)}
	return map[direction]map[string][]byte{
		ingress: {
			"solicitation":                  asIn(),
			"solicitation, one tag":         v6(ip6Packet(client6, solicited(vip6), 58, 255, nil, ask), vlan5),
			"solicitation, two tags":        v6(ip6Packet(client6, solicited(vip6), 58, 255, nil, ask), qinq9, vlan5),
			"solicitation, unicast":         v6(ip6Packet(client6, vip6, 58, 255, nil, nd(client6, vip6, 135, vip6, 1, macB))),
			"solicitation to all nodes":     v6(ip6Packet(client6, allNodes, 58, 255, nil, nd(client6, allNodes, 135, vip6, 1, macB))),
			"solicitation to our address":   v6(ip6Packet(client6, node6, 58, 255, nil, nd(client6, node6, 135, vip6, 1, macB))),
			"duplicate address detection":   v6(ip6Packet(v6zero, solicited(vip6), 58, 255, nil, probe)),
			"solicitation, hop-by-hop":      asIn(hopByHop()),
			"solicitation, options":         asIn(destOptions(3)),
			"solicitation, routing":         asIn(routing()),
			"solicitation, first fragment":  asIn(fragment(1)),
			"solicitation, auth":            asIn(auth()),
			"solicitation, six headers":     asIn(six...),
			"advertisement to the vip":      v6(ip6Packet(client6, vip6, 58, 255, nil, nd(client6, vip6, 136, client6, 2, macB))),
			"tcp":                           v6(ip6Packet(client6, vip6, 6, 64, nil, tcp)),
			"tcp, hop limit 255":            v6(ip6Packet(client6, vip6, 6, 255, nil, tcp)),
			"udp, one tag":                  v6(ip6Packet(client6, vip6, 17, 64, nil, tcp), vlan5),
			"echo":                          v6(ip6Packet(client6, vip6, 58, 64, nil, []byte{128, 0, 0, 0, 0, 1, 0, 1})),
			"echo, hop limit 255":           v6(ip6Packet(client6, vip6, 58, 255, nil, []byte{128, 0, 0, 0, 0, 1, 0, 1})),
			"later fragment":                v6(ip6Packet(client6, vip6, 17, 64, []ext{fragment(800)}, tcp)),
			"later fragment, hop limit 255": v6(ip6Packet(client6, vip6, 17, 255, []ext{fragment(800)}, tcp)),
			"unknown header":                v6(ip6Packet(client6, vip6, 200, 255, nil, tcp)),
			"from the vip to the vip":       v6(ip6Packet(vip6, vip6, 6, 64, nil, tcp)),
		},
		egress: {
			"unsolicited advertisement":      asOut(),
			"advertisement, one tag":         v6(ip6Packet(node6, allNodes, 58, 255, nil, tell), vlan5),
			"advertisement, from link-local": v6(ip6Packet(link6, client6, 58, 255, nil, nd(link6, client6, 136, vip6, 2, macA))),
			"advertisement, from the vip":    v6(ip6Packet(vip6, client6, 58, 255, nil, nd(vip6, client6, 136, vip6, 2, macA))),
			"advertisement, hop-by-hop":      asOut(hopByHop()),
			"advertisement, first fragment":  asOut(fragment(1)),
			"advertisement, six headers":     asOut(six...),
			"solicitation as the vip":        v6(ip6Packet(vip6, solicited(client6), 58, 255, nil, nd(vip6, solicited(client6), 135, client6, 1, macA))),
			"router solicitation as the vip": v6(ip6Packet(vip6, allNodes, 58, 255, nil, icmp6(vip6, allNodes, append([]byte{133}, make([]byte, 7)...)))),
			"tcp":                            v6(ip6Packet(vip6, client6, 6, 64, nil, tcp)),
			"udp, hop limit 255":             v6(ip6Packet(vip6, client6, 17, 255, nil, tcp)),
			"later fragment":                 v6(ip6Packet(vip6, client6, 17, 64, []ext{fragment(800)}, tcp)),
			"vrrp":                           v6(ip6Packet(link6, mcast6, 112, 255, nil, advert(3, 100, vip6))),
			"vrrp, one tag":                  v6(ip6Packet(link6, mcast6, 112, 255, nil, advert(3, 100, vip6)), vlan5),
			"vrrp, link-local first":         v6(ip6Packet(link6, mcast6, 112, 255, nil, advert(3, 1, link6, vip6))),
			"vrrp, options":                  v6(ip6Packet(link6, mcast6, 112, 255, []ext{destOptions(0)}, advert(3, 255, vip6))),
			"vrrp of others from the vip":    v6(ip6Packet(vip6, mcast6, 112, 255, nil, advert(3, 100, client6))),
		},
	}
}

// free6 always passes.
func free6() map[direction]map[string][]byte {
	tcp := make([]byte, 20)
	return map[direction]map[string][]byte{
		ingress: {
			"others' advertisement":        v6(ip6Packet(client6, allNodes, 58, 255, nil, nd(client6, allNodes, 136, vip6, 2, macB))),
			"the vip's advertisement":      v6(ip6Packet(vip6, allNodes, 58, 255, nil, nd(vip6, allNodes, 136, vip6, 2, macB))),
			"solicitation for another":     v6(ip6Packet(client6, solicited(other6), 58, 255, nil, nd(client6, solicited(other6), 135, other6, 1, macB))),
			"the vip asks for us":          v6(ip6Packet(vip6, solicited(node6), 58, 255, nil, nd(vip6, solicited(node6), 135, node6, 1, macB))),
			"from the vip":                 v6(ip6Packet(vip6, node6, 6, 64, nil, tcp)),
			"to another":                   v6(ip6Packet(client6, node6, 6, 64, nil, tcp)),
			"to another, hop limit 255":    v6(ip6Packet(client6, node6, 6, 255, nil, tcp)),
			"vrrp comes in":                v6(ip6Packet(client6, mcast6, 112, 255, nil, advert(3, 100, vip6))),
			"solicitation from afar":       v6(ip6Packet(client6, node6, 58, 254, nil, nd(client6, node6, 135, vip6, 1, macB))),
			"router advertisement":         v6(ip6Packet(link6, allNodes, 58, 255, nil, icmp6(link6, allNodes, append([]byte{134, 0}, make([]byte, 14)...)))),
			"listener report":              v6(ip6Packet(link6, mcast6, 58, 1, []ext{hopByHop()}, append([]byte{143, 0}, make([]byte, 6)...))),
			"later fragment to another":    v6(ip6Packet(client6, node6, 17, 255, []ext{fragment(800)}, tcp)),
			"many headers, forwarded":      v6(ip6Packet(client6, node6, 6, 254, manyHeaders(), tcp)),
			"version 5 packet":             v6(append([]byte{0x50}, ip6Packet(client6, vip6, 6, 64, nil, tcp)[1:]...)),
			"its bytes in an IPv4 packet":  ether(macA, macB, etherIPv4, ip6Packet(client6, vip6, 6, 64, nil, tcp)),
			"six headers and then no more": v6(ip6Packet(client6, node6, 59, 255, manyHeaders()[:6], nil)),
		},
		egress: {
			"asks for the vip":            v6(ip6Packet(node6, solicited(vip6), 58, 255, nil, nd(node6, solicited(vip6), 135, vip6, 1, macA))),
			"duplicate address detection": v6(ip6Packet(v6zero, solicited(vip6), 58, 255, nil, nd(v6zero, solicited(vip6), 135, vip6, 0, macA))),
			"to the vip":                  v6(ip6Packet(node6, vip6, 6, 64, nil, tcp)),
			"forwarded by IPVS":           v6(ip6Packet(client6, vip6, 6, 64, nil, tcp)),
			"advertisement of another":    v6(ip6Packet(node6, allNodes, 58, 255, nil, nd(node6, allNodes, 136, node6, 2, macA))),
			"vrrp farewell":               v6(ip6Packet(link6, mcast6, 112, 255, nil, advert(3, 0, vip6))),
			"vrrp farewell as the vip":    v6(ip6Packet(vip6, mcast6, 112, 255, nil, advert(3, 0, link6, vip6))),
			"vrrp for others":             v6(ip6Packet(link6, mcast6, 112, 255, nil, advert(3, 100, link6, client6))),
			"vrrp version 2":              v6(ip6Packet(link6, mcast6, 112, 255, nil, advert(2, 100, vip6))),
			"listener report":             v6(ip6Packet(v6zero, mcast6, 58, 1, []ext{hopByHop()}, append([]byte{143, 0}, make([]byte, 6)...))),
			"many headers, forwarded":     v6(ip6Packet(client6, node6, 6, 254, manyHeaders(), tcp)),
		},
	}
}

func manyHeaders() (out []ext) {
	for range maxHeaders + 1 {
		out = append(out, destOptions(0))
	}
	return out
}

// obscure6 is neither to nor from a VIP, but might speak for one behind what
// cannot be followed: dropped while there is an IPv6 VIP, whatever its deadline.
func obscure6() map[string][]byte {
	ask := nd(client6, solicited(vip6), 135, vip6, 1, macB)
	whole := ip6Packet(client6, solicited(vip6), 58, 255, []ext{destOptions(0)}, ask)
	return map[string][]byte{
		"too many headers":          v6(ip6Packet(client6, solicited(vip6), 58, 255, manyHeaders(), ask)),
		"a header ends it too soon": cut(v6(whole), 14+40+1),
		"no type":                   cut(v6(whole), 14+40+8),
		"options longer than it":    v6(ip6Packet(client6, solicited(vip6), 58, 255, []ext{{60, []byte{0, 200, 1, 4, 0, 0, 0, 0}}}, ask)),
	}
}

func cut(frame []byte, n int) []byte { return frame[:n] }

func TestVerdicts6(t *testing.T) {
	g := bare(t, vip, vip6)
	for _, ph := range []struct {
		name string
		set  func()
		want string
	}{
		{"never armed", func() { arm(t, g, vip, in(time.Minute/2)) }, "drop"},
		{"before the deadline", func() { arm(t, g, vip6, in(time.Minute/2)) }, "next"},
		{"after the deadline", func() { arm(t, g, vip6, in(-time.Nanosecond)) }, "drop"},
	} {
		ph.set()
		wantVerdicts(t, g, ph.name, gated6(), ph.want)
		wantVerdicts(t, g, ph.name, free6(), "next")
		wantVerdicts(t, g, ph.name, map[direction]map[string][]byte{ingress: obscure6()}, "drop")
	}
	if n := g.Status().Obscure; n != 3*uint64(len(obscure6())) {
		t.Errorf("%d packets that could not be followed were counted, want %d", n, 3*len(obscure6()))
	}
}

// Without an IPv6 VIP nothing of IPv6 is touched, nor after the last has gone.
func TestNoVIP6(t *testing.T) {
	g := bare(t, vip)
	check := func(name string) {
		for _, packets := range []map[direction]map[string][]byte{gated6(), free6(), {ingress: obscure6(), egress: obscure6()}} {
			wantVerdicts(t, g, name, packets, "next")
		}
	}
	check("never one")
	if err := g.SetVIPs(plainVIPs(vip, vip6)); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, g, "one", gated6(), "drop")
	if err := g.SetVIPs(plainVIPs(vip)); err != nil {
		t.Fatal(err)
	}
	check("gone")
}

// wantVerdicts runs the packets of both directions.
func wantVerdicts(t *testing.T, g *Gate, when string, packets map[direction]map[string][]byte, want string) {
	t.Helper()
	for d, list := range packets {
		for name, frame := range list {
			if got := verdict(t, g, d, frame); got != want {
				t.Errorf("%s: %s, %s: %s, want %s", when, d, name, got, want)
			}
		}
	}
}
