package ipvs

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"pgregory.net/rapid"
)

func u64(v uint64) []byte { return append(u32(uint32(v)), u32(uint32(v>>32))...) } // little-endian machines

// statsAttr is the kernel's: numbers of 64 bits are padded to their alignment.
func statsAttr(kind int, s Stats, wide bool) *nl.RtAttr {
	number := u64
	if !wide {
		number = func(v uint64) []byte { return u32(uint32(v)) }
	}
	const pad = 11
	a := nl.NewRtAttr(kind, nil)
	for i, v := range []uint64{s.Connections, s.InPackets, s.OutPackets} {
		a.AddRtAttr(pad, nil)
		a.AddRtAttr(statsConns+i, number(v))
	}
	a.AddRtAttr(statsInBytes, u64(s.InBytes))
	a.AddRtAttr(statsOutBytes, u64(s.OutBytes))
	return a
}

func drawStats(t *rapid.T, top uint64) Stats {
	n := func(name string) uint64 { return rapid.Uint64Range(0, top).Draw(t, name) }
	return Stats{Connections: n("conns"), InPackets: n("in"), OutPackets: n("out"), InBytes: n("in bytes"), OutBytes: n("out bytes")}
}

// What the kernel counts is read, of services and of destinations; the numbers of
// 64 bits win.
func TestStatsRoundTrip(t *testing.T) {
	if u16(1)[0] != 1 {
		t.Skip("made for little-endian machines")
	}
	rapid.Check(t, func(t *rapid.T) {
		wide, narrow := drawStats(t, 1<<64-1), drawStats(t, 1<<32-1)
		s := serviceAttr(drawWire(t))
		s.AddChild(statsAttr(svcStats, narrow, false))
		if got, err := parseStats(answer(s), svcStats, svcStats64); err != nil || got != narrow {
			t.Fatalf("an old kernel's %+v was read as %+v, %v", narrow, got, err)
		}
		s.AddChild(statsAttr(svcStats64, wide, true))
		if got, err := parseStats(answer(s), svcStats, svcStats64); err != nil || got != wide {
			t.Fatalf("%+v was read as %+v, %v", wide, got, err)
		}
		d := destAttrs(Dest{DestKey: DestKey{Addr: drawAddr(t, false, "dest")}})
		d.AddChild(statsAttr(destStats64, wide, true))
		if got, err := parseStats(answer(d), destStats, destStats64); err != nil || got != wide {
			t.Fatalf("a destination's %+v was read as %+v, %v", wide, got, err)
		}
	})
}

// FuzzStats: whatever comes, it is read or refused.
func FuzzStats(f *testing.F) {
	s := serviceAttr(Service{Key: Key{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80, Protocol: TCP}})
	f.Add(answer(s))
	s.AddChild(statsAttr(svcStats64, Stats{Connections: 1}, true))
	f.Add(answer(s))
	f.Add([]byte{1, 1, 0, 0, 255, 255, 1, 0})
	f.Fuzz(func(t *testing.T, msg []byte) {
		_, err := parseStats(msg, svcStats, svcStats64)
		if _, known := parseAttrs(msg); known != nil && err == nil {
			t.Error("a broken message has counters")
		}
		_, _ = parseStats(msg, destStats, destStats64)
	})
}
