package probe

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestHTTPRecordsSurviveTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := []HTTP{}
		var file []byte
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			h := HTTP{
				Planned: Time(rapid.Int64().Draw(t, "planned")), Start: Time(rapid.Int64().Draw(t, "start")),
				End: Time(rapid.Int64().Draw(t, "end")), Result: Result(rapid.Byte().Draw(t, "result")),
				Server: rapid.StringMatching(`[a-z0-9]{0,20}`).Draw(t, "server"),
			}
			want = append(want, h)
			file = h.append(file)
		}
		torn := append(file, make([]byte, rapid.IntRange(0, httpSize-1).Draw(t, "torn"))...)
		if got := ParseHTTP(torn); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestARPRecordsSurviveTheFile(t *testing.T) {
	want := []ARP{
		{At: 1 << 40, Kind: Answered, Op: 2, MAC: a, Seq: 77},
		{At: -1, Kind: Asked, Seq: 1<<32 - 1, Late: -time.Second},
	}
	var file []byte
	for i := range want {
		file = want[i].append(file)
	}
	if len(file) != 2*arpSize {
		t.Fatalf("%d bytes for two records", len(file))
	}
	if got := ParseARP(file[:len(file)-1]); !reflect.DeepEqual(got, want[:1]) {
		t.Errorf("a torn record must be left out: %v", got)
	}
	if got := ParseARP(file); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// packet is an ARP frame.
func packet(dst MAC, op uint8, sender MAC, spa, tpa string) []byte {
	f := arpRequest(sender, netip.MustParseAddr(spa), netip.MustParseAddr(tpa))
	copy(f, dst[:])
	f[21] = op
	return f
}

func TestReadARP(t *testing.T) {
	vip, all := netip.MustParseAddr("10.0.0.100"), MAC{255, 255, 255, 255, 255, 255}
	for _, tc := range []struct {
		name  string
		frame []byte
		ok    bool
		kind  Kind
	}{
		{"answer to us", packet(c, opReply, a, "10.0.0.100", "10.0.0.9"), true, Answered},
		{"gratuitous request", packet(all, opRequest, a, "10.0.0.100", "10.0.0.100"), true, Gratuitous},
		{"gratuitous reply", packet(all, opReply, a, "10.0.0.100", "10.0.0.100"), true, Gratuitous},
		{"asking with the VIP as sender", packet(all, opRequest, a, "10.0.0.100", "10.0.0.2"), true, Claimed},
		{"answer for another address", packet(c, opReply, a, "10.0.0.2", "10.0.0.9"), false, 0},
		{"somebody asks for the VIP", packet(all, opRequest, a, "10.0.0.2", "10.0.0.100"), false, 0},
		{"our own", packet(all, opReply, c, "10.0.0.100", "10.0.0.100"), false, 0},
		{"short", packet(all, opReply, a, "10.0.0.100", "10.0.0.100")[:41], false, 0},
		{"empty", nil, false, 0},
	} {
		got, ok := readARP(tc.frame, vip, c)
		if ok != tc.ok || ok && (got.Kind != tc.kind || got.MAC != a) {
			t.Errorf("%s: %+v, %v", tc.name, got, ok)
		}
	}
}

func FuzzReadARP(f *testing.F) {
	f.Add(packet(c, opReply, a, "10.0.0.100", "10.0.0.9"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if rec, ok := readARP(frame, netip.MustParseAddr("10.0.0.100"), c); ok && rec.Kind == Asked {
			t.Fatal("a received packet is never a request of ours")
		}
	})
}

func TestReadAnswer(t *testing.T) {
	for _, tc := range []struct {
		text, server string
		result       Result
	}{
		{"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nweb1\n", "web1", OK},
		{"HTTP/1.0 200 OK\r\n\r\na-name-of-more-than-twenty-bytes\n", "a-name-of-more-than-", OK},
		{"HTTP/1.1 404 Not Found\r\n\r\nno\n", "", BadAnswer},
		{"HTTP/1.1 200 OK\r\n\r\n", "", BadAnswer}, // the body was cut off
		{"HTTP/1.1 200 OK\r\nServ", "", BadAnswer},
		{"HTTP/1.", "", BadAnswer},
		{"HTTP/1.\r\n\r\nx", "", BadAnswer},
		{"", "", BadAnswer},
	} {
		if server, result := readAnswer([]byte(tc.text)); server != tc.server || result != tc.result {
			t.Errorf("%q: %q, %v", tc.text, server, result)
		}
	}
}

func TestClassify(t *testing.T) {
	for err, want := range map[error]Result{
		unix.ECONNREFUSED: Refused, unix.ECONNRESET: Reset, unix.EPIPE: Reset, unix.ETIMEDOUT: TimedOut,
		unix.EHOSTUNREACH: Unreachable, unix.ENETDOWN: Unreachable, unix.EMFILE: OtherError,
	} {
		if got := classify(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
