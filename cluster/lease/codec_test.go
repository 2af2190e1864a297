package lease

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

var sampleMessages = []Message{
	{Kind: Probe, Router: 1, Seq: 1, Addrs: []netip.Addr{vip1, vip3}},
	{Kind: ProbeReply, Router: 1, Seq: 1},
	{Kind: Ask, Router: 1 << 40, Seq: 1 << 50, TTL: 8e8, Cookie: 77, Addrs: []netip.Addr{vip1}},
	{Kind: Grant, Router: 2, Seq: 3},
	{Kind: Deny, Router: 2, Seq: 3, Reason: Taken, Holder: "m17", Remaining: 12345, Cookie: 1 << 60},
	{Kind: Release, Router: 2, Seq: 3},
	{Kind: Release, Router: 2, Seq: 3, Hint: "m4"},
	{Kind: ReleaseAck, Router: 2, Seq: 3},
}

func TestBodyRoundTrip(t *testing.T) {
	tag, boot, echo := fsm.ConfigTag{Epoch: 1, Term: 300, Index: 70000}, Nonce{7, 8}, Nonce{1, 2, 3}
	got, err := parseBody(appendBody(nil, tag, boot, echo, sampleMessages))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range sampleMessages {
		want.Tag, want.Boot, want.Echo = tag, boot, echo
		if !reflect.DeepEqual(got[i], want) {
			t.Errorf("wrote %+v\nread  %+v", want, got[i])
		}
	}
}

func TestParseBodyRefuses(t *testing.T) {
	head := appendBody(nil, fsm.ConfigTag{}, Nonce{}, Nonce{}, nil)
	for name, rec := range map[string][]byte{
		"an unknown kind":          {99, 1, 1},
		"kind 0":                   {0, 1, 1},
		"a cut record":             {byte(Ask), 1, 1, 5},
		"an address of 5 bytes":    {byte(Probe), 1, 1, 1, 5, 1, 2, 3, 4, 5},
		"too many addresses":       {byte(Probe), 1, 1, 0xff, 0xff, 1},
		"an unknown reason":        {byte(Deny), 1, 1, 200, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0},
		"an id of 200 bytes":       append([]byte{byte(Deny), 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 200}, make([]byte, 200)...),
		"a ttl of 2^63":            {byte(Ask), 1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0},
		"a number in long form":    {byte(Grant), 0x81, 0, 1},
		"a number of eleven bytes": {byte(Grant), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1},
	} {
		if ms, err := parseBody(append(bytes.Clone(head), rec...)); err == nil {
			t.Errorf("%s is read as %+v", name, ms)
		}
	}
	for n := range head {
		if _, err := parseBody(head[:n]); err == nil {
			t.Errorf("a head of %d bytes is read", n)
		}
	}
}

// FuzzParseBody: nothing panics, and what is read is written back byte by byte.
func FuzzParseBody(f *testing.F) {
	f.Add(appendBody(nil, fsm.ConfigTag{Term: 1, Index: 2}, Nonce{8}, Nonce{9}, sampleMessages))
	f.Add(appendBody(nil, fsm.ConfigTag{}, Nonce{}, Nonce{}, nil))
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := parseBody(b)
		if err != nil || len(ms) == 0 {
			return
		}
		if again := appendBody(nil, ms[0].Tag, ms[0].Boot, ms[0].Echo, ms); !bytes.Equal(again, b) {
			t.Errorf("read %x, wrote %x", b, again)
		}
	})
}

func everybody(fsm.MemberID) bool { return true }

func newTestSealer(t testing.TB, self fsm.MemberID, cluster string, key []byte) *sealer {
	s, err := newSealer(self, NewNonce(), cluster, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// FuzzOpen: no packet that was not sealed opens, and none panics.
func FuzzOpen(f *testing.F) {
	sender := newTestSealer(f, "m1", "c1", testKey)
	sender.boot = Nonce{1} // the same packet in every worker
	p, _ := sender.seal("m2", appendBody(nil, fsm.ConfigTag{}, Nonce{}, Nonce{}, sampleMessages))
	f.Add(p)
	f.Add(p[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := newTestSealer(t, "m2", "c1", testKey).open(b, everybody); err == nil && !bytes.Equal(b, p) {
			t.Errorf("opened %x", b)
		}
	})
}

func TestOpenSaysWhyNot(t *testing.T) {
	body := appendBody(nil, fsm.ConfigTag{}, Nonce{}, Nonce{}, sampleMessages)
	me := newTestSealer(t, "m2", "c1", testKey)
	seal := func(s *sealer, to fsm.MemberID, body []byte) []byte {
		p, err := s.seal(to, body)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	flip := func(p []byte, i int) []byte { q := bytes.Clone(p); q[(i+len(q))%len(q)] ^= 1; return q }
	peer := newTestSealer(t, "m1", "c1", testKey)
	good := seal(peer, "m2", body)
	if ms, err := me.open(good, everybody); err != nil || len(ms) != len(sampleMessages) || ms[0].From != "m1" || ms[0].Boot != (Nonce{}) {
		t.Fatalf("open: %v, %+v", err, ms)
	}
	for _, c := range []struct {
		name string
		p    []byte
		want error
	}{
		{"the same again", good, errReplay},
		{"nothing", nil, errVersion},
		{"cut in the header", good[:30], errVersion},
		{"another version", append([]byte{99}, good[1:]...), errVersion},
		{"another cluster", seal(newTestSealer(t, "m1", "c2", testKey), "m2", body), errCluster},
		{"another key", seal(newTestSealer(t, "m1", "c1", append([]byte("x"), testKey...)), "m2", body), errKey},
		{"for another member", seal(peer, "m3", body), errReceiver},
		{"from a stranger", seal(newTestSealer(t, "m9", "c1", testKey), "m2", body), errSender},
		{"from ourselves", seal(newTestSealer(t, "m2", "c1", testKey), "m2", body), errSender},
		{"changed body", flip(seal(peer, "m2", body), -20), errKey},
		{"changed tag", flip(seal(peer, "m2", body), -1), errKey},
		{"changed nonce", flip(seal(peer, "m2", body), 20), errKey},
		{"no tag", good[:len(good)-20], errKey},
		{"a body that is none", seal(peer, "m2", []byte{1}), errBody},
	} {
		if _, err := me.open(c.p, func(id fsm.MemberID) bool { return id != "m9" }); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestSealerForgetsOldStarts(t *testing.T) {
	me := newTestSealer(t, "m2", "c1", testKey)
	for range 3 * maxBoots {
		p, _ := newTestSealer(t, "m1", "c1", testKey).seal("m2", appendBody(nil, fsm.ConfigTag{}, Nonce{}, Nonce{}, nil))
		if _, err := me.open(p, everybody); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(me.in["m1"]); n != maxBoots {
		t.Errorf("%d starts of one sender are kept, want %d", n, maxBoots)
	}
	me.forget(func(fsm.MemberID) bool { return false })
	if len(me.in) != 0 {
		t.Error("a removed member's keys are kept")
	}
}

// The window accepts each counter once, as a set would, as long as it is not
// older than the window.
func TestWindowAcceptsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen, top := map[uint64]bool{}, uint64(0)
		base := rapid.SampledFrom([]uint64{0, 1000, 1 << 63}).Draw(t, "base")
		for _, d := range rapid.SliceOfN(rapid.Uint64Range(0, 900), 1, 200).Draw(t, "deltas") {
			n := base + d
			want := n > 0 && !seen[n] && n+windowSize > top
			if got := w.accept(n); got != want {
				t.Fatalf("accept(%d) = %v with top %d", n, got, top)
			}
			seen[n], top = true, max(top, n)
		}
	})
}

func TestNewSealerRefuses(t *testing.T) {
	if _, err := newSealer("m1", Nonce{}, "c", []byte("short")); err == nil {
		t.Error("a short key is taken")
	}
	if _, err := newSealer("", Nonce{}, "c", testKey); err == nil {
		t.Error("an empty id is taken")
	}
}
