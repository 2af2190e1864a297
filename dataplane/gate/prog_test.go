package gate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// needRoot skips where the kernel would refuse everything.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads eBPF programs")
	}
}

// bare is a gate with maps and programs but on no interface.
func bare(t *testing.T, vips ...netip.Addr) *Gate {
	t.Helper()
	needRoot(t)
	if err := probe(); err != nil {
		t.Fatal(err)
	}
	g := &Gate{mark: testMark}
	var err error
	if g.maps, err = newMaps(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Abandon)
	g.slots.Store(&map[netip.Addr]*slot{})
	for i := range uint32(MaxVIPs) {
		g.free = append(g.free, MaxVIPs-1-i)
	}
	if err := g.SetVIPs(plainVIPs(vips...)); err != nil {
		t.Fatal(err)
	}
	if err := g.loadPrograms(); err != nil {
		t.Fatalf("%+v", err)
	}
	return g
}

// verdict runs one packet through a program.
func verdict(t interface{ Fatal(...any) }, g *Gate, d direction, frame []byte) string {
	ret, err := g.progs[d].Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatal(err)
	}
	return verdictName(ret)
}

func verdictName(ret uint32) string {
	switch int32(ret) {
	case verdictNext:
		return "next"
	case verdictDrop:
		return "drop"
	}
	return fmt.Sprint(int32(ret))
}

const testMark = 0x81bc0001 // the top bit is set

func in(d time.Duration) int64 { return BootNow() + int64(d) }

const (
	vlan5 = 0x81000005
	qinq9 = 0x88a80009
)

// gated is what must pass before the deadline and be dropped after it.
func gatedPackets() map[direction]map[string][]byte {
	icmp := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	tcp := make([]byte, 20)
	longARP := []byte{0, 32, 8, 0, 20, 4, 0, 1} // InfiniBand: 20-byte hardware addresses
	longARP = append(append(longARP, make([]byte, 20)...), client.AsSlice()...)
	longARP = append(append(longARP, make([]byte, 20)...), vip.AsSlice()...)
	ask := arpPacket(1, macB, client, [6]byte{}, vip)
	speak := arpPacket(2, macA, vip, macB, client)
	return map[direction]map[string][]byte{
		ingress: {
			"arp request":               ether(ones, macB, etherARP, ask),
			"arp request, one tag":      ether(ones, macB, etherARP, ask, vlan5),
			"arp request, two tags":     ether(ones, macB, etherARP, ask, qinq9, vlan5),
			"arp probe (sender 0)":      ether(ones, macB, etherARP, arpPacket(1, macB, netip.IPv4Unspecified(), [6]byte{}, vip)),
			"arp reply to the vip":      ether(macA, macB, etherARP, arpPacket(2, macB, client, macA, vip)),
			"arp, long addresses":       ether(ones, macB, etherARP, longARP),
			"ip tcp":                    ether(macA, macB, etherIPv4, ipPacket(client, vip, 6, 0, nil, tcp)),
			"ip udp, one tag":           ether(macA, macB, etherIPv4, ipPacket(client, vip, 17, 0, nil, tcp), vlan5),
			"ip icmp, two tags":         ether(macA, macB, etherIPv4, ipPacket(client, vip, 1, 0, nil, icmp), qinq9, vlan5),
			"ip with options":           ether(macA, macB, etherIPv4, ipPacket(client, vip, 6, 0, make([]byte, 40), tcp)),
			"first fragment":            ether(macA, macB, etherIPv4, ipPacket(client, vip, 17, 0x2000, nil, tcp)),
			"later fragment":            ether(macA, macB, etherIPv4, ipPacket(client, vip, 17, 100, nil, tcp)),
			"from the vip to the vip":   ether(macA, macB, etherIPv4, ipPacket(vip, vip, 6, 0, nil, tcp)),
			"ip broadcast frame to vip": ether(ones, macB, etherIPv4, ipPacket(client, vip, 17, 0, nil, tcp)),
		},
		egress: {
			"arp reply":                ether(macB, macA, etherARP, speak),
			"arp reply, one tag":       ether(macB, macA, etherARP, speak, vlan5),
			"arp reply, two tags":      ether(macB, macA, etherARP, speak, qinq9, vlan5),
			"gratuitous arp request":   ether(ones, macA, etherARP, arpPacket(1, macA, vip, ones, vip)),
			"gratuitous arp reply":     ether(ones, macA, etherARP, arpPacket(2, macA, vip, ones, vip)),
			"arp request as the vip":   ether(ones, macA, etherARP, arpPacket(1, macA, vip, [6]byte{}, client)),
			"ip tcp":                   ether(macB, macA, etherIPv4, ipPacket(vip, client, 6, 0, nil, tcp)),
			"ip options":               ether(macB, macA, etherIPv4, ipPacket(vip, client, 6, 0, make([]byte, 8), tcp)),
			"later fragment":           ether(macB, macA, etherIPv4, ipPacket(vip, client, 17, 100, nil, tcp)),
			"vrrp v2":                  ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(2, 100, vip))),
			"vrrp v3":                  ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(3, 1, vip, vip2))),
			"vrrp, the second address": ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(3, 1, client, vip))),
			"vrrp, the fourth address": ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(3, 1, client, node, client, vip))),
			"vrrp unicast, tagged":     ether(macB, macA, etherIPv4, ipPacket(node, client, 112, 0, nil, advert(3, 255, vip)), vlan5),
			"vrrp, ip options":         ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, make([]byte, 12), advert(2, 100, vip))),
			"vrrp of others from vip":  ether(macB, macA, etherIPv4, ipPacket(vip, mcast, 112, 0, nil, advert(2, 100, client))),
			"vrrp fragment from vip":   ether(macB, macA, etherIPv4, ipPacket(vip, mcast, 112, 10, nil, advert(2, 0, vip))),
			"vrrp type 2 from vip":     ether(macB, macA, etherIPv4, ipPacket(vip, mcast, 112, 0, nil, append([]byte{0x22}, advert(2, 0, vip)[1:]...))),
		},
	}
}

var mcast = netip.MustParseAddr("224.0.0.18")

// freePackets always pass.
func freePackets() map[direction]map[string][]byte {
	tcp := make([]byte, 20)
	notIP := arpPacket(1, macB, client, [6]byte{}, vip)
	notIP[2] = 9
	return map[direction]map[string][]byte{
		ingress: {
			"gratuitous request": ether(ones, macB, etherARP, arpPacket(1, macB, vip, [6]byte{}, vip)),
			"gratuitous reply":   ether(ones, macB, etherARP, arpPacket(2, macB, vip, ones, vip)),
			"vip asks for us":    ether(ones, macB, etherARP, arpPacket(1, macB, vip, [6]byte{}, node)),
			"arp for another":    ether(ones, macB, etherARP, arpPacket(1, macB, client, [6]byte{}, node)),
			"arp not for ip":     ether(ones, macB, etherARP, notIP),
			"from the vip":       ether(macA, macB, etherIPv4, ipPacket(vip, node, 6, 0, nil, tcp)),
			"to another":         ether(macA, macB, etherIPv4, ipPacket(client, node, 6, 0, nil, tcp)),
			"vrrp comes in":      ether(macA, macB, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(2, 100, vip))),
			"not ip inside":      ether(macA, macB, 0x88cc, ipPacket(client, vip, 6, 0, nil, tcp)),
			"version 5 packet":   ether(macA, macB, etherIPv4, append([]byte{0x55}, ipPacket(client, vip, 6, 0, nil, tcp)[1:]...)),
		},
		egress: {
			"asks for the vip":          ether(ones, macA, etherARP, arpPacket(1, macA, node, [6]byte{}, vip)),
			"ip to the vip":             ether(macB, macA, etherIPv4, ipPacket(node, vip, 6, 0, nil, tcp)),
			"forwarded by IPVS":         ether(macB, macA, etherIPv4, ipPacket(client, vip, 6, 0, nil, tcp)),
			"vrrp v2 farewell":          ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(2, 0, vip))),
			"vrrp v3 farewell":          ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(3, 0, vip, vip2))),
			"vrrp farewell, ip options": ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, make([]byte, 40), advert(2, 0, vip))),
			"vrrp farewell as the vip":  ether(macB, macA, etherIPv4, ipPacket(vip, mcast, 112, 0, nil, advert(2, 0, vip))),
			"vrrp for others":           ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(2, 100, client, mcast))),
			"vrrp lists nothing":        ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(2, 100))),
			"vrrp version 4":            ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(4, 100, vip))),
			"vrrp later fragment":       ether(macB, macA, etherIPv4, ipPacket(node, mcast, 112, 10, nil, advert(2, 100, vip))),
			"not vrrp":                  ether(macB, macA, etherIPv4, ipPacket(node, mcast, 113, 0, nil, advert(2, 100, vip))),
		},
	}
}

func TestVerdicts(t *testing.T) {
	g := bare(t, vip, vip2)
	phases := []struct {
		name string
		set  func()
		want string
	}{
		{"never armed", func() {}, "drop"},
		{"before the deadline", func() { arm(t, g, vip, in(time.Minute/2)) }, "next"},
		{"after the deadline", func() { arm(t, g, vip, in(-time.Nanosecond)) }, "drop"},
		{"armed again", func() { arm(t, g, vip, in(time.Minute/2)) }, "next"},
		{"closed", func() {
			if err := g.Close([]netip.Addr{vip}); err != nil {
				t.Fatal(err)
			}
		}, "drop"},
		{"the other vip armed", func() { arm(t, g, vip2, in(time.Minute/2)) }, "drop"},
		{"garbage with the top bit set", func() { *(*g.slots.Load())[vip].word = -5 }, "drop"},
	}
	for _, ph := range phases {
		ph.set()
		wantVerdicts(t, g, ph.name, gatedPackets(), ph.want)
		wantVerdicts(t, g, ph.name, freePackets(), "next")
	}
}

func arm(t *testing.T, g *Gate, a netip.Addr, deadline int64) {
	t.Helper()
	if err := g.Arm(a, deadline); err != nil {
		t.Fatal(err)
	}
}

// Cut packets are dropped by the kernel itself; the gate must neither fail on
// them nor take padding for an address.
func TestCutPackets(t *testing.T) {
	g := bare(t, vip)
	ran := 0
	for d, packets := range gatedPackets() {
		for name, frame := range packets {
			for n := 14; n < len(frame); n++ {
				ret, err := g.progs[d].Run(&ebpf.RunOptions{Data: frame[:n]})
				if errors.Is(err, unix.EINVAL) {
					continue // newer kernels do not even try such a short packet
				}
				if err != nil {
					t.Fatal(err)
				}
				ran++
				if v := int32(ret); v != verdictNext && v != verdictDrop || n < 32 && v != verdictNext {
					t.Fatalf("%s, %s cut to %d bytes: %d", d, name, n, v)
				}
			}
		}
	}
	if ran < 100 {
		t.Errorf("only %d cut packets ran", ran)
	}
}

func TestKeyWithoutSlotDrops(t *testing.T) {
	g := bare(t)
	if err := g.maps.vips.Put(vip.As16(), vipValue{Slot: MaxVIPs + 7}); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, g, "no slot", gatedPackets(), "drop")
}

// Packets that are neither to nor from a VIP always pass, whatever they are.
func TestPropertyOthersPass(t *testing.T) {
	g := bare(t, vip)
	rapid.Check(t, func(t *rapid.T) {
		frame := randomFrame(t)
		for _, d := range directions {
			if v := verdict(t, g, d, frame); v != "next" {
				t.Fatalf("%s: %s for % x", d, v, frame)
			}
		}
	})
}

// randomFrame draws frames that look right more often than chance would have
// them, and never hold the VIP's bytes.
func randomFrame(t *rapid.T) []byte {
	proto := rapid.SampledFrom([]uint16{etherARP, etherIPv4, etherVLAN, etherQinQ, 0x86dd, 0x1234}).Draw(t, "proto")
	var tags []uint32
	for range rapid.IntRange(0, 3).Draw(t, "tags") {
		tags = append(tags, rapid.SampledFrom([]uint32{vlan5, qinq9}).Draw(t, "tag"))
	}
	body := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "body")
	if len(body) > 20 && rapid.Bool().Draw(t, "plausible") {
		switch proto {
		case etherARP:
			copy(body, []byte{0, 1, 8, 0, 6, 4, 0, 1})
		case etherIPv4:
			body[0] = 0x40 | body[0]&15
			if rapid.Bool().Draw(t, "vrrp") {
				body[9] = 112
			}
		}
	}
	v := vip.AsSlice()
	for i := range body {
		if i+4 <= len(body) && slices.Equal(body[i:i+4], v) {
			body[i] ^= 0xff
		}
	}
	return ether(ones, macB, proto, body, tags...)
}

func TestCounters(t *testing.T) {
	g := bare(t, vip, vip2)
	p := gatedPackets()
	run := func(d direction, name string, n int) {
		for range n {
			verdict(t, g, d, p[d][name])
		}
	}
	run(ingress, "arp request", 2)
	run(ingress, "ip tcp", 3)
	run(egress, "vrrp v2", 4)
	arm(t, g, vip, in(time.Minute/2))
	run(ingress, "arp request", 5)
	run(ingress, "ip udp, one tag", 6)
	run(egress, "arp reply", 7)

	c := g.Counters()[vip]
	for _, by := range []*Sender{&c.PassedBy, &c.DroppedBy} {
		if by.When == 0 || by.When > BootNow() {
			t.Errorf("seen at %d", by.When)
		}
		by.When = 0
	}
	mac := Sender{MAC: net.HardwareAddr(macB[:])}
	want := fmt.Sprint(Counters{NeighbourIn: Count{5, 2}, IPIn: Count{6, 3}, VRRPOut: Count{0, 4}, NeighbourOut: Count{7, 0},
		PassedBy: mac, DroppedBy: mac})
	if got := fmt.Sprint(c); got != want {
		t.Errorf("counters\n got %s\nwant %s", got, want)
	}
	if c := g.Counters()[vip2]; fmt.Sprint(c) != fmt.Sprint(Counters{}) {
		t.Errorf("the other vip counted %+v", c)
	}
}
