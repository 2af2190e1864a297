package ipvs

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// answer is a message as the kernel sends one: addresses have 16 bytes in it.
func answer(a *nl.RtAttr) []byte { return append(genl{cmdNewService, 1}.Serialize(), a.Serialize()...) }

func drawAddr(t *rapid.T, is6 bool, name string) netip.Addr {
	if is6 {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: rapid.Byte().Draw(t, name)})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, name)})
}

func drawWire(t *rapid.T) Service {
	is6 := rapid.Bool().Draw(t, "v6")
	s := Service{
		Scheduler: rapid.SampledFrom([]string{"rr", "wlc", "mh"}).Draw(t, "scheduler"),
		Flags:     Flags(rapid.Uint32Range(0, 0x3f).Draw(t, "flags")),
		Timeout:   rapid.Uint32().Draw(t, "timeout"),
		Mask:      uint8(rapid.IntRange(1, 32).Draw(t, "mask")),
		Engine:    rapid.SampledFrom([]string{"", "sip"}).Draw(t, "engine"),
	}
	if rapid.Bool().Draw(t, "marked") {
		s.Mark, s.V6 = rapid.Uint32Range(1, 1<<32-1).Draw(t, "mark"), is6
		return s
	}
	s.Addr, s.Port = drawAddr(t, is6, "addr"), rapid.Uint16().Draw(t, "port")
	s.Protocol = rapid.SampledFrom([]Protocol{TCP, UDP, SCTP}).Draw(t, "protocol")
	return s
}

// What is written is read back the same.
func TestWireRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawWire(t)
		got, err := parseService(answer(serviceAttr(s)))
		if err != nil || !got.Same(s) {
			t.Fatalf("%+v was read back as %+v, %v", s, got, err)
		}
		d := Dest{
			DestKey: DestKey{Addr: drawAddr(t, rapid.Bool().Draw(t, "dest v6"), "dest"), Port: rapid.Uint16().Draw(t, "dest port")},
			Method:  Method(rapid.IntRange(0, 3).Draw(t, "method")), Weight: rapid.IntRange(0, 65535).Draw(t, "weight"),
			Upper: rapid.Uint32().Draw(t, "upper"), Lower: rapid.Uint32().Draw(t, "lower"),
		}
		back, err := parseDest(answer(destAttrs(d)), unix.AF_INET)
		if err != nil || back != d {
			t.Fatalf("%+v was read back as %+v, %v", d, back, err)
		}
	})
}

func TestDaemonRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Daemon{
			Role: Role(rapid.Uint32Range(1, 2).Draw(t, "role")), Interface: rapid.StringMatching("[a-z0-9.]{1,15}").Draw(t, "interface"),
			ID: rapid.Byte().Draw(t, "id"), Port: rapid.Uint16().Draw(t, "port"), TTL: rapid.Byte().Draw(t, "ttl"), MaxLen: rapid.Uint16().Draw(t, "maxlen"),
			Group: rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("239.0.0.1"), netip.MustParseAddr("ff05::1")}).Draw(t, "group"),
		}
		got, err := parseDaemon(answer(daemonAttr(d)))
		if err != nil || got != d.Canonical() {
			t.Fatalf("%+v was read back as %+v, %v", d, got, err)
		}
	})
}

// The layout of linux/ip_vs.h, counted out by hand (for little-endian machines).
func TestWireVector(t *testing.T) {
	s := Service{Key: Key{Addr: netip.MustParseAddr("172.25.88.100"), Port: 80, Protocol: TCP}, Scheduler: "rr"}
	const want = "48000100" + "06000100" + "02000000" + "06000200" + "06000000" + "08000300" + "ac195864" + "06000400" + "00500000" +
		"07000600" + "72720000" + "0c000700" + "00000000" + "ffffffff" + "08000800" + "00000000" + "08000900" + "ffffffff"
	if got := hex.EncodeToString(serviceAttr(s).Serialize()); got != want && u16(1)[0] == 1 {
		t.Errorf("service\n%s, want\n%s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer(serviceAttr(Service{Key: Key{Mark: 7}, Scheduler: "rr"})))
	f.Add(answer(destAttrs(Dest{DestKey: DestKey{Addr: netip.MustParseAddr("::1"), Port: 1}})))
	f.Add(answer(daemonAttr(Daemon{Role: Sends, Interface: "eth0"})))
	f.Add([]byte{1, 1, 0, 0, 5, 0, 1, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseService(b); err == nil {
			_ = s.args()
		}
		if d, err := parseDest(b, unix.AF_INET6); err == nil {
			_ = d.args()
		}
		if d, err := parseDaemon(b); err == nil {
			_ = d.String()
		}
		_, _ = parseTimeouts(b)
	})
}
