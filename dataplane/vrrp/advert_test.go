package vrrp

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	self  = netip.MustParseAddr("172.25.88.2")
	vip   = netip.MustParseAddr("172.25.88.100")
	peer1 = netip.MustParseAddr("172.25.88.9")

	self6 = netip.MustParseAddr("fe80::2")
	vip6  = netip.MustParseAddr("2001:db8::100")
)

// vector is one advert of testdata/adverts.txt, which are made by hand, or of
// testdata/keepalived-2.2.7.txt, which are captured.
type vector struct {
	name     string
	advert   Advert
	src, dst netip.Addr
	ttl      int
	wire     []byte
}

func vectors(t testing.TB) []vector {
	t.Helper()
	made, captured := vectorsOf(t, "testdata/adverts.txt"), vectorsOf(t, "testdata/keepalived-2.2.7.txt")
	if len(made) < 8 || len(captured) < 17 {
		t.Fatalf("only %d vectors made by hand, %d captured", len(made), len(captured))
	}
	return append(made, captured...)
}

func vectorsOf(t testing.TB, file string) []vector {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	var v vector
	for line := range strings.Lines(string(text)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "":
		case "#":
			v.name = rest
		case "advert":
			v.advert = readAdvert(t, fields(rest))
		case "packet":
			f := fields(rest)
			v.src, v.dst, v.ttl = netip.MustParseAddr(f["src"]), netip.MustParseAddr(f["dst"]), maxTTL
			if f["ttl"] != "" {
				v.ttl = num(t, f["ttl"])
			}
		default:
			if v.wire, err = hex.DecodeString(strings.ReplaceAll(word+rest, " ", "")); err != nil {
				t.Fatal(err)
			}
			out = append(out, v)
		}
	}
	return out
}

func fields(s string) map[string]string {
	m := make(map[string]string)
	for _, f := range strings.Fields(s) {
		k, v, _ := strings.Cut(f, "=")
		m[k] = v
	}
	return m
}

func readAdvert(t testing.TB, f map[string]string) Advert {
	t.Helper()
	number := func(k string) uint8 {
		n, err := strconv.ParseUint(f[k], 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		return uint8(n)
	}
	interval, err := time.ParseDuration(f["interval"])
	if err != nil {
		t.Fatal(err)
	}
	a := Advert{Version: number("version"), VRID: number("vrid"), Priority: number("priority"), Interval: interval,
		AuthPass: f["pass"], PlainChecksum: f["plain"] == "yes"}
	if a.AuthPass != "" {
		a.AuthType = AuthPass
	}
	for ip := range strings.SplitSeq(f["addrs"], ",") {
		if ip != "" {
			a.Addrs = append(a.Addrs, netip.MustParseAddr(ip))
		}
	}
	return a
}

func TestWireVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			got, err := v.advert.Marshal(v.src, v.dst)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, v.wire) {
				t.Errorf("written\n% x, want\n% x", got, v.wire)
			}
			a, r := Parse(v.wire, v.src, v.dst, v.ttl)
			if r != nil || !reflect.DeepEqual(a, v.advert) {
				t.Errorf("read %+v (%v), want %+v", a, r, v.advert)
			}
		})
	}
}

// Each byte counts: any single changed bit is refused or read as another advert.
func TestEveryBitCounts(t *testing.T) {
	for _, v := range vectors(t) {
		for i := range v.wire {
			for bit := range 8 {
				b := append([]byte(nil), v.wire...)
				b[i] ^= 1 << bit
				if _, r := Parse(b, v.src, v.dst, v.ttl); r == nil {
					t.Errorf("%s: byte %d bit %d flipped and accepted", v.name, i, bit)
				}
			}
		}
	}
}

// fix recomputes a version 2 checksum.
func fix(b []byte) []byte {
	b[6], b[7] = 0, 0
	binary.BigEndian.PutUint16(b[6:], checksum(b, 0))
	return b
}

// vectorOf finds a vector by its name.
func vectorOf(vs []vector, name string) vector {
	for _, v := range vs {
		if v.name == name {
			return v
		}
	}
	panic("no vector " + name)
}

// plain6 is an IPv6 advert whose checksum leaves out the pseudo-header, which
// nobody does.
func plain6() []byte {
	b := []byte{0x31, 51, 100, 1, 0, 100, 0, 0}
	return fix(append(b, vip6.AsSlice()...))
}

func TestParseRefuses(t *testing.T) {
	vs := vectors(t)
	good2, good3 := vs[0], vs[4]
	edit := func(v vector, f func([]byte) []byte) []byte { return f(append([]byte(nil), v.wire...)) }
	set := func(i int, x byte) func([]byte) []byte {
		return func(b []byte) []byte { b[i] = x; return fix(b) }
	}
	for name, c := range map[string]struct {
		b        []byte
		src, dst netip.Addr
		ttl      int
		key      string
	}{
		"empty":                {nil, self, Group, 255, RejectLength},
		"seven bytes":          {good2.wire[:7], self, Group, 255, RejectLength},
		"one byte short":       {good2.wire[:len(good2.wire)-1], self, Group, 255, RejectLength},
		"one byte long":        {append(append([]byte(nil), good2.wire...), 0), self, Group, 255, RejectLength},
		"without auth block":   {good2.wire[:12], self, Group, 255, RejectLength},
		"count too high":       {edit(good2, set(3, 200)), self, Group, 255, RejectLength},
		"auth_hmac trailer":    {append(append([]byte(nil), good3.wire...), make([]byte, 28)...), self, Group, 255, RejectLength},
		"version 1":            {edit(good2, set(0, 0x11)), self, Group, 255, RejectVersion},
		"version 4":            {edit(good2, set(0, 0x41)), self, Group, 255, RejectVersion},
		"type 2":               {edit(good2, set(0, 0x22)), self, Group, 255, RejectType},
		"vrid 0":               {edit(good2, set(1, 0)), self, Group, 255, RejectVRID},
		"multicast with ttl 1": {good2.wire, self, Group, 1, RejectTTL},
		"multicast, ttl 254":   {good3.wire, self, Group, 254, RejectTTL},
		"v2 bad checksum":      {edit(good2, func(b []byte) []byte { b[6]++; return b }), self, Group, 255, RejectChecksum},
		"v3 bad checksum":      {edit(good3, func(b []byte) []byte { b[6]++; return b }), self, Group, 255, RejectChecksum},
		"v3 another sender":    {good3.wire, peer1, Group, 255, RejectChecksum},
		"two families":         {good3.wire, netip.MustParseAddr("fe80::1"), Group, 255, RejectFamily},
		"nowhere":              {good3.wire, self, netip.Addr{}, 255, RejectFamily},
		"IPv4's over IPv6":     {good3.wire, self6, Group6, 255, RejectLength},
		"v2 over IPv6":         {good2.wire, self6, Group6, 255, RejectVersion},
		"IPv6, hop limit 254":  {vectorOf(vs, "IPv6, a second").wire, self6, Group6, 254, RejectTTL},
		"IPv6, plain checksum": {plain6(), self6, Group6, 255, RejectChecksum},
		"IPv6, another sender": {vectorOf(vs, "IPv6, a second").wire, netip.MustParseAddr("fe80::9"), Group6, 255, RejectChecksum},
	} {
		_, r := Parse(c.b, c.src, c.dst, c.ttl)
		if r == nil || r.Key != c.key || r.Reason == "" {
			t.Errorf("%s: %+v, want %s", name, r, c.key)
		}
	}
	if _, r := Parse(good2.wire, self, peer1, 17); r != nil {
		t.Errorf("unicast may cross routers: %v", r)
	}
}

func TestMarshalRefuses(t *testing.T) {
	v2 := Advert{Version: 2, VRID: 51, Priority: 100, Interval: time.Second, Addrs: []netip.Addr{vip}}
	v3 := v2
	v3.Version = 3
	with := func(a Advert, f func(*Advert)) Advert { f(&a); return a }
	for name, a := range map[string]Advert{
		"version 1":             with(v2, func(a *Advert) { a.Version = 1 }),
		"vrid 0":                with(v2, func(a *Advert) { a.VRID = 0 }),
		"v2 half a second":      with(v2, func(a *Advert) { a.Interval = 1500 * time.Millisecond }),
		"v2 no interval":        with(v2, func(a *Advert) { a.Interval = 0 }),
		"v2 256 s":              with(v2, func(a *Advert) { a.Interval = 256 * time.Second }),
		"v3 5 ms":               with(v3, func(a *Advert) { a.Interval = 5 * time.Millisecond }),
		"v3 40.96 s":            with(v3, func(a *Advert) { a.Interval = 40960 * time.Millisecond }),
		"nine bytes":            with(v2, func(a *Advert) { a.AuthType, a.AuthPass = AuthPass, "123456789" }),
		"password without type": with(v2, func(a *Advert) { a.AuthPass = "1111" }),
		"AH":                    with(v2, func(a *Advert) { a.AuthType = AuthAH }),
		"v3 with a password":    with(v3, func(a *Advert) { a.AuthType, a.AuthPass = AuthPass, "1111" }),
		"v2, an IPv6 address":   with(v2, func(a *Advert) { a.Addrs = []netip.Addr{vip6} }),
		"both families":         with(v3, func(a *Advert) { a.Addrs = []netip.Addr{vip, vip6} }),
		"IPv6 from IPv4":        with(v3, func(a *Advert) { a.Addrs = []netip.Addr{vip6} }),
		"256 addresses":         with(v2, func(a *Advert) { a.Addrs = make([]netip.Addr, 256) }),
	} {
		if b, err := a.Marshal(self, Group); err == nil {
			t.Errorf("%s: wrote % x", name, b)
		}
	}
	if b, err := v3.Marshal(netip.MustParseAddr("fe80::1"), Group); err == nil {
		t.Errorf("from an IPv6 address: wrote % x", b)
	}
}

func drawAdvert(t *rapid.T) Advert {
	a := Advert{
		Version: uint8(rapid.IntRange(2, 3).Draw(t, "version")), VRID: uint8(rapid.IntRange(1, 255).Draw(t, "vrid")),
		Priority: rapid.Byte().Draw(t, "priority"),
	}
	for _, ip := range rapid.SliceOfN(rapid.Uint32(), 0, 255).Draw(t, "addrs") {
		a.Addrs = append(a.Addrs, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, ip))))
	}
	if a.Version == 3 {
		a.Interval = time.Duration(rapid.IntRange(1, 4095).Draw(t, "cs")) * centisecond
		return a
	}
	a.Interval = time.Duration(rapid.IntRange(1, 255).Draw(t, "s")) * time.Second
	if rapid.Bool().Draw(t, "pass") {
		a.AuthType = AuthPass
		a.AuthPass = strings.TrimRight(string(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "password")), "\x00")
	}
	return a
}

func TestPropertyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, src, dst := drawAdvert(t), self, Group
		if rapid.Bool().Draw(t, "IPv6") {
			a.Version, a.AuthType, a.AuthPass, a.Interval, src, dst = 3, AuthNone, "", centisecond, self6, Group6
			for i, ip := range a.Addrs {
				b := vip6.As16()
				copy(b[8:], ip.AsSlice())
				a.Addrs[i] = netip.AddrFrom16(b)
			}
		}
		b, err := a.Marshal(src, dst)
		if err != nil {
			t.Fatal(err)
		}
		got, r := Parse(b, src, dst, maxTTL)
		if r != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("wrote %+v, read %+v (%v)", a, got, r)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.wire, 255, true, v.dst.Is6())
	}
	f.Add([]byte{}, 0, false, false)
	f.Add([]byte{0x31, 51, 100, 255, 0, 0, 0, 0}, 255, true, true)
	f.Fuzz(func(t *testing.T, b []byte, ttl int, multicast, v6 bool) {
		self, dst := self, peer1
		if multicast {
			dst = Group
		}
		if v6 {
			self, dst = self6, Group6
		}
		a, r := Parse(b, self, dst, ttl)
		if r != nil {
			if r.Key == "" || r.Reason == "" {
				t.Fatalf("a rejection without a reason: %+v", r)
			}
			return
		}
		if a.check() != nil {
			return // such as interval 0: read, but never written
		}
		again, err := a.Marshal(self, dst)
		if err != nil {
			t.Fatal(err)
		}
		if a.Version == 2 && a.AuthType == AuthNone {
			return // its auth bytes and its reserved ones are not kept
		}
		back, r := Parse(again, self, dst, ttl)
		if r != nil || !reflect.DeepEqual(back, a) {
			t.Fatalf("% x read as %+v, written as % x, read as %+v (%v)", b, a, again, back, r)
		}
	})
}

func TestSkew(t *testing.T) {
	for _, c := range []struct {
		version, priority uint8
		interval, want    time.Duration
	}{
		// The figures keepalived users know: 0.609 s, 7.8 ms.
		{2, 100, time.Second, 609375 * time.Microsecond},
		{2, 254, time.Second, 7812500 * time.Nanosecond},
		{2, 100, 5 * time.Second, 609375 * time.Microsecond}, // version 2 does not scale
		{3, 100, 100 * time.Millisecond, 60937500 * time.Nanosecond},
		{3, 100, time.Second, 609375 * time.Microsecond},
	} {
		if got := (Advert{Version: c.version, Priority: c.priority, Interval: c.interval}).Skew(); got != c.want {
			t.Errorf("version %d, priority %d, interval %v: %v, want %v", c.version, c.priority, c.interval, got, c.want)
		}
	}
}

func TestExpect(t *testing.T) {
	e2 := Expect{Version: 2, Interval: time.Second, AuthPass: "1111", Addrs: []netip.Addr{vip, peer1}}
	e3 := Expect{Version: 3, Interval: time.Second, Addrs: []netip.Addr{vip}}
	a2 := Advert{Version: 2, VRID: 51, Priority: 100, Interval: time.Second, AuthType: AuthPass, AuthPass: "1111", Addrs: []netip.Addr{peer1, vip}}
	a3 := Advert{Version: 3, VRID: 51, Priority: 100, Interval: time.Second, Addrs: []netip.Addr{vip}}
	with := func(a Advert, f func(*Advert)) Advert { f(&a); return a }
	for name, c := range map[string]struct {
		e        Expect
		a        Advert
		key      string // "" accepted
		warnings int
	}{
		"equal, addresses in another order": {e2, a2, "", 0},
		"equal, version 3":                  {e3, a3, "", 0},
		"version":                           {e3, a2, RejectVersion, 0},
		"no dual mode":                      {e2, a3, RejectVersion, 0},
		"no authentication":                 {e2, with(a2, func(a *Advert) { a.AuthType, a.AuthPass = AuthNone, "" }), RejectAuthType, 0},
		"AH":                                {e2, with(a2, func(a *Advert) { a.AuthType = AuthAH }), RejectAuthType, 0},
		"another password":                  {e2, with(a2, func(a *Advert) { a.AuthPass = "1112" }), RejectAuthPass, 0},
		"v2 interval":                       {e2, with(a2, func(a *Advert) { a.Interval = 2 * time.Second }), RejectInterval, 0},
		"v3 interval":                       {e3, with(a3, func(a *Advert) { a.Interval = 2 * time.Second }), "", 1},
		"addresses":                         {e3, with(a3, func(a *Advert) { a.Addrs = nil }), "", 1},
		"plain checksum":                    {e3, with(a3, func(a *Advert) { a.PlainChecksum = true }), RejectPlain, 0},
	} {
		w, r := c.e.Check(c.a)
		key := ""
		if r != nil {
			key = r.Key
		}
		if key != c.key || len(w) != c.warnings {
			t.Errorf("%s: %q, warnings %q", name, key, w)
		}
	}
}
