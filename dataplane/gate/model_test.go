package gate

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// model says in Go what the program must do with a frame when every VIP is
// closed. It is written from doc.go's table, not from the program.
func model(d direction, frame []byte, vips []netip.Addr) string {
	proto, p := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	for range 2 {
		if proto != etherVLAN && proto != etherQinQ || len(p) < 4 {
			break
		}
		proto, p = binary.BigEndian.Uint16(p[2:]), p[4:]
	}
	isVIP := func(b []byte) bool {
		a, ok := netip.AddrFromSlice(b)
		return ok && slices.Contains(vips, a)
	}
	drop := false
	switch {
	case proto == etherARP && d == egress: // always for IPv4 over Ethernet here, and never cut before the sender
		drop = isVIP(p[14:18])
	case proto == etherARP && len(p) >= 28:
		drop = isVIP(p[24:28]) && !slices.Equal(p[14:18], p[24:28])
	case proto == etherIPv4 && len(p) >= 20 && p[0]>>4 == 4:
		drop = model4(d, p, isVIP)
	case proto == etherIPv6 && len(p) >= 40 && p[0]>>4 == 6:
		drop = model6(d, p, isVIP)
	}
	if drop {
		return "drop"
	}
	return "next"
}

func model4(d direction, p []byte, isVIP func([]byte) bool) bool {
	if d == ingress {
		return isVIP(p[16:20])
	}
	head := int(p[0]&15) * 4
	if p[9] == 112 && binary.BigEndian.Uint16(p[6:])&0x1fff == 0 && len(p) >= head+4 {
		if v, farewell := modelAdvert(p[head:], 4, isVIP, 0x21, 0x31); v || farewell {
			return !farewell
		}
	}
	return isVIP(p[12:16])
}

func modelAdvert(p []byte, size int, isVIP func([]byte) bool, kinds ...byte) (speaks, farewell bool) {
	if !slices.Contains(kinds, p[0]) {
		return false, false
	}
	if p[2] == 0 {
		return false, true
	}
	for i := range min(4, int(p[3])) {
		at := 8 + i*size
		if len(p) < at+size {
			break
		}
		if isVIP(p[at : at+size]) {
			return true, false
		}
	}
	return false, false
}

func model6(d direction, p []byte, isVIP func([]byte) bool) bool {
	end := isVIP(p[24:40])
	if d == egress {
		end = isVIP(p[8:24])
	}
	if p[7] != 255 {
		return end
	}
	next, rest := p[6], p[40:]
	for headers := 0; ; headers++ {
		follow := slices.Contains([]byte{0, 43, 44, 51, 60}, next)
		switch {
		case next == 58:
			return modelND(d, rest, end, isVIP)
		case next == 112 && d == egress:
			if len(rest) < 4 {
				return true
			}
			v, farewell := modelAdvert(rest, 16, isVIP, 0x31)
			cut := rest[0] == 0x31 && len(rest) < 8+16*min(4, int(rest[3]))
			return v || !farewell && (end || cut)
		case !follow:
			return end
		case headers == 6:
			return true
		}
		size := 8
		switch {
		case next == 44 && len(rest) < 8, len(rest) < 2:
			return true
		case next == 44 && binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0:
			return end
		case next == 51:
			size = (int(rest[1]) + 2) * 4
		case next != 44:
			size = (int(rest[1]) + 1) * 8
		}
		next = rest[0]
		rest = rest[min(size, len(rest)):]
	}
}

func modelND(d direction, p []byte, end bool, isVIP func([]byte) bool) bool {
	if len(p) < 1 {
		return true
	}
	speaks := map[direction]byte{ingress: 135, egress: 136}[d]
	if p[0] != speaks {
		return end
	}
	return len(p) < 24 || isVIP(p[8:24]) || end
}

// drawFrame draws packets of every kind that the gate looks into, often about
// VIPs, sometimes cut.
func drawFrame(t *rapid.T) []byte {
	four := rapid.SampledFrom([]netip.Addr{vip, vip2, client, node, netip.IPv4Unspecified()})
	six := rapid.SampledFrom([]netip.Addr{vip6, other6, client6, v6zero, link6, allNodes})
	octet := rapid.Byte()
	advertOf := func(addrs []netip.Addr) []byte {
		a := advert(rapid.SampledFrom([]byte{2, 3, 4}).Draw(t, "version"), rapid.SampledFrom([]byte{0, 1, 100, 255}).Draw(t, "priority"), addrs...)
		if rapid.IntRange(0, 5).Draw(t, "odd count") == 0 {
			a[3] = octet.Draw(t, "count")
		}
		return a
	}
	var proto uint16
	var packet []byte
	switch rapid.SampledFrom([]string{"arp", "4", "6", "6", "6"}).Draw(t, "family") {
	case "arp":
		proto, packet = etherARP, arpPacket(uint16(rapid.IntRange(1, 2).Draw(t, "op")), macB, four.Draw(t, "sender"), macA, four.Draw(t, "target"))
	case "4":
		body, number := rapid.SliceOfN(octet, 0, 30).Draw(t, "body"), rapid.SampledFrom([]byte{1, 6, 17, 112, 112, 112}).Draw(t, "protocol")
		if number == 112 {
			body = advertOf(rapid.SliceOfN(four, 0, 6).Draw(t, "listed"))
		}
		options := make([]byte, 4*rapid.IntRange(0, 10).Draw(t, "options"))
		proto = etherIPv4
		packet = ipPacket(four.Draw(t, "source"), four.Draw(t, "destination"), number, rapid.SampledFrom([]uint16{0, 0, 0x2000, 0x4000, 9, 0x2009}).Draw(t, "fragment"), options, body)
	default:
		src, dst := six.Draw(t, "source"), six.Draw(t, "destination")
		number := rapid.SampledFrom([]byte{6, 58, 58, 58, 59, 112, 112, 200}).Draw(t, "protocol")
		body := rapid.SliceOfN(octet, 0, 30).Draw(t, "body")
		switch number {
		case 58:
			body = nd(src, dst, rapid.SampledFrom([]byte{128, 132, 133, 134, 135, 135, 136, 136, 137, 138, 143}).Draw(t, "type"), six.Draw(t, "target"), 1, macB)
		case 112:
			body = advertOf(rapid.SliceOfN(six, 0, 6).Draw(t, "listed"))
		}
		proto = etherIPv6
		packet = ip6Packet(src, dst, number, rapid.SampledFrom([]byte{255, 255, 255, 254, 64}).Draw(t, "hops"), drawHeaders(t), body)
	}
	if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
		packet = packet[:rapid.IntRange(20, len(packet)).Draw(t, "at")]
	}
	var tags []uint32
	for range rapid.IntRange(0, 2).Draw(t, "tags") {
		tags = append(tags, rapid.SampledFrom([]uint32{vlan5, qinq9}).Draw(t, "tag"))
	}
	return unpadded(ones, macB, proto, packet, tags...)
}

// unpadded is ether without the padding to Ethernet's least length.
func unpadded(dst, src [6]byte, proto uint16, payload []byte, tags ...uint32) []byte {
	return ether(dst, src, proto, payload, tags...)[:14+4*len(tags)+len(payload)]
}

func drawHeaders(t *rapid.T) []ext {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ext {
		e := rapid.SampledFrom([]ext{hopByHop(), destOptions(0), destOptions(3), routing(), fragment(0), fragment(1), fragment(8), auth()}).Draw(t, "header")
		if e.number != 44 && rapid.IntRange(0, 7).Draw(t, "odd length") == 0 {
			e.bytes[1] = rapid.Byte().Draw(t, "length")
		}
		return e
	}), 0, 8).Draw(t, "headers")
}

// The program and the model agree.
func TestPropertyModel(t *testing.T) {
	all := []netip.Addr{vip, vip2, vip6}
	g := bare(t, all...)
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		frame := drawFrame(t)
		for _, d := range directions {
			ret, err := g.progs[d].Run(&ebpf.RunOptions{Data: frame})
			if errors.Is(err, unix.EINVAL) {
				return // the kernel does not even try such a short packet
			}
			if err != nil {
				t.Fatal(err)
			}
			got, want := verdictName(ret), model(d, frame, all)
			if got != want {
				t.Fatalf("%s: %s, the model says %s: % x", d, got, want, frame)
			}
			seen[d.String()+got]++
		}
	})
	for _, one := range []string{"innext", "indrop", "outnext", "outdrop"} {
		if seen[one] < 5 {
			t.Errorf("only %d times %s: the packets drawn test too little", seen[one], one)
		}
	}
}
