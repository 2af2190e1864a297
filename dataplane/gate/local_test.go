package gate

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// skb is the part of __sk_buff that a test run takes and gives back.
type skb struct {
	Len, Type, Mark uint32
	Rest            [45]uint32
}

// markOf runs a packet that carries a mark and returns the verdict and its mark.
func markOf(t *testing.T, g *Gate, d direction, mark uint32, frame []byte) (string, uint32) {
	t.Helper()
	in, out := skb{Mark: mark}, skb{}
	ret, err := g.progs[d].Run(&ebpf.RunOptions{Data: frame, Context: in, ContextOut: &out})
	if err != nil {
		t.Fatal(err)
	}
	return verdictName(ret), out.Mark
}

var (
	macM   = [6]byte{2, 0, 0, 0, 0, 0x11} // a member
	localV = []VIP{{Addr: vip, Local: true}, {Addr: vip6, Local: true}, {Addr: vip2}}
)

// localGate has local VIPs and one member.
func localGate(t *testing.T) *Gate {
	g := bare(t)
	if err := errors.Join(g.SetVIPs(localV), g.SetMembers([]net.HardwareAddr{macM[:]})); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestLocalVIPIn(t *testing.T) {
	g := localGate(t)
	tcp := make([]byte, 20)
	four := func(src [6]byte, tags ...uint32) []byte {
		return ether(macA, src, etherIPv4, ipPacket(client, vip, 6, 0, nil, tcp), tags...)
	}
	six := func(src [6]byte) []byte {
		return ether(macA, src, etherIPv6, ip6Packet(client6, vip6, 6, 64, nil, tcp))
	}
	const none, other = 0, 77
	cases := []struct {
		name         string
		frame        []byte
		mark         uint32
		closed, open string
		want         uint32 // mark, of a packet that passes
	}{
		{"from a member", four(macM), none, "next", "next", testMark},
		{"from a member, one tag", four(macM, vlan5), none, "next", "next", testMark},
		{"from a member, two tags", four(macM, qinq9, vlan5), none, "next", "next", testMark},
		{"from a member, again (its bridge)", four(macM), testMark, "next", "next", testMark},
		{"from a member, marked by others", four(macM), other, "next", "next", testMark},
		{"from a member, ipv6", six(macM), none, "next", "next", testMark},
		{"later fragment from a member", ether(macA, macM, etherIPv4, ipPacket(client, vip, 17, 100, nil, tcp)), none, "next", "next", testMark},
		{"from another", four(macB), none, "drop", "next", none},
		{"from another, marked by others", four(macB), other, "drop", "next", other},
		{"from another that knows the mark", four(macB), testMark, "drop", "next", none},
		{"from another that knows the mark, ipv6", six(macB), testMark, "drop", "next", none},
		{"arp from a member", ether(ones, macM, etherARP, arpPacket(1, macM, client, [6]byte{}, vip)), none, "drop", "next", none},
		{"solicitation from a member", ether(macA, macM, etherIPv6, ip6Packet(client6, vip6, 58, 255, nil, nd(client6, vip6, 135, vip6, 1, macM))), none, "drop", "next", none},
		{"advertisement from a member to it", ether(macA, macM, etherIPv6, ip6Packet(client6, vip6, 58, 255, nil, nd(client6, vip6, 136, client6, 2, macM))), none, "drop", "next", none},
		{"from a member, not local", ether(macA, macM, etherIPv4, ipPacket(client, vip2, 6, 0, nil, tcp)), none, "drop", "next", none},
		{"not local, knows the mark", ether(macA, macB, etherIPv4, ipPacket(client, vip2, 6, 0, nil, tcp)), testMark, "drop", "next", none},
		{"not a vip at all", ether(macA, macM, etherIPv4, ipPacket(client, node, 6, 0, nil, tcp)), testMark, "next", "next", testMark},
	}
	for _, state := range []string{"closed", "open"} {
		if state == "open" {
			for _, v := range localV {
				arm(t, g, v.Addr, in(time.Minute/2))
			}
		}
		for _, c := range cases {
			want := c.closed
			if state == "open" {
				want = c.open
			}
			got, mark := markOf(t, g, ingress, c.mark, c.frame)
			if got != want || got == "next" && mark != c.want {
				t.Errorf("%s, %s: %s with mark %#x, want %s with %#x", state, c.name, got, mark, want, c.want)
			}
		}
	}
	if c := g.Counters()[vip]; c.MemberIn != 2*6 || c.IPIn != (Count{3, 3}) || c.PassedBy.MAC.String() != net.HardwareAddr(macB[:]).String() {
		t.Errorf("counters %+v", c)
	}
}

// What leaves from a local VIP while another member owns it.
func TestLocalVIPOut(t *testing.T) {
	g := localGate(t)
	replies := map[string]bool{
		"ip tcp": true, "ip options": true, "later fragment": true,
		"tcp": true, "udp, hop limit 255": true,
	}
	for _, list := range []map[string][]byte{gatedPackets()[egress], gated6()[egress]} {
		for name, frame := range list {
			want := "drop"
			if replies[name] {
				want = "next"
			}
			if got := verdict(t, g, egress, frame); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
	if c := g.Counters()[vip]; c.IPOut != (Count{3, 0}) || c.NeighbourOut.Passed+c.VRRPOut.Passed != 0 {
		t.Errorf("counters %+v", c)
	}
}

// An interface without a link layer gives a program the packet's own bytes where
// the MAC would be: a sender can put a member's there.
func TestNoLinkLayerNoMember(t *testing.T) {
	g := localGate(t)
	packet := ipPacket(client, vip, 6, 0, nil, make([]byte, 20))
	copy(packet[6:12], macM[:])
	frame := ether([6]byte(packet[:6]), macM, etherIPv4, packet)
	if got, _ := markOf(t, g, ingress, 0, frame); got != "drop" {
		t.Errorf("a packet whose bytes stand where the frame's would: %s", got)
	}
}

func TestLocalComesAndGoes(t *testing.T) {
	g := localGate(t)
	tcp := ether(macA, macM, etherIPv4, ipPacket(client, vip, 6, 0, nil, make([]byte, 20)))
	deadline := in(time.Minute / 2)
	arm(t, g, vip, deadline)
	if err := g.SetVIPs(plainVIPs(vip)); err != nil {
		t.Fatal(err)
	}
	if v, mark := markOf(t, g, ingress, 0, tcp); v != "next" || mark != 0 {
		t.Errorf("not local, open: %s with mark %#x", v, mark)
	}
	if d := *(*g.slots.Load())[vip].word; d != deadline {
		t.Errorf("the deadline changed to %d", d)
	}
	if err := errors.Join(g.Close([]netip.Addr{vip}), g.SetVIPs(localV[:1])); err != nil {
		t.Fatal(err)
	}
	if v, mark := markOf(t, g, ingress, 0, tcp); v != "next" || mark != testMark {
		t.Errorf("local again: %s with mark %#x", v, mark)
	}
	if err := g.SetMembers(nil); err != nil {
		t.Fatal(err)
	}
	if v, _ := markOf(t, g, ingress, 0, tcp); v != "drop" {
		t.Errorf("no member any more: %s", v)
	}
}

func TestSetMembersRefuses(t *testing.T) {
	g := localGate(t)
	var many []net.HardwareAddr
	for i := range MaxMembers + 1 {
		many = append(many, net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)})
	}
	for name, macs := range map[string][]net.HardwareAddr{
		"long": {macM[:], make([]byte, 20)}, "short": {{1}}, "many": many,
	} {
		if err := g.SetMembers(macs); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if keys, err := memberKeys(g.maps.members); err != nil || len(keys) != 1 {
		t.Errorf("%d members after refusals (%v), want 1", len(keys), err)
	}
	if err := g.SetMembers([]net.HardwareAddr{make([]byte, 6)}); err != nil {
		t.Errorf("no address at all (a tunnel): %v", err)
	}
	if keys, _ := memberKeys(g.maps.members); len(keys) != 0 {
		t.Errorf("zeros are a member: %v", keys)
	}
}

func TestLocalNeedsAMark(t *testing.T) {
	g := bare(t, vip2)
	g.mark = 0
	if err := g.SetVIPs(localV); !errors.Is(err, ErrNoMark) {
		t.Errorf("local without a mark: %v", err)
	}
	if len(g.Status().VIPs) != 1 {
		t.Errorf("changed all the same: %v", g.Status().VIPs)
	}
}

// An address that was given up but is still on an interface is no longer local.
func TestGivenUpIsNotLocal(t *testing.T) {
	s := newSite(t, ModeClsact)
	g := s.open(Config{Mark: testMark})
	set := func(v []VIP) error { return s.Try(func() error { return g.SetVIPs(v) }) }
	if err := errors.Join(set(localV), g.SetMembers([]net.HardwareAddr{macM[:]})); err != nil {
		t.Fatal(err)
	}
	if err := set(nil); !errors.Is(err, ErrAddressPresent) {
		t.Fatalf("given up with its address still there: %v", err)
	}
	if v, _ := markOf(t, g, ingress, 0, ether(macA, macM, etherIPv4, ipPacket(client, vip, 6, 0, nil, make([]byte, 20)))); v != "drop" {
		t.Errorf("a member's packet: %s", v)
	}
}
