package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/ipvs/ipvstest"

	"pgregory.net/rapid"
)

// A block has lines of "ipvsadm -Sn" under the headings have:, want: and ours:
// (services as tcp/ADDR:PORT); the output is the operations, then the foreign
// services, then the table that comes out.
func TestDiffTranscripts(t *testing.T) {
	transcripts(t, "testdata/diff/*.txt", func(t *testing.T) func(string) string {
		return func(input string) string {
			part := sections(input)
			want, ours := ipvstest.Must(part["want:"]), Ownership{}
			for _, f := range strings.Fields(part["ours:"]) {
				k, err := parseKey(f)
				if err != nil {
					t.Fatal(err)
				}
				ours[k] = true
			}
			var k ipvstest.Kernel
			if err := k.Set(part["have:"]); err != nil {
				t.Fatal(err)
			}
			have, _ := k.List()
			return story(t, &k, have, want, ours)
		}
	})
}

func story(t *testing.T, k *ipvstest.Kernel, have, want []ipvs.Service, ours Ownership) string {
	var b strings.Builder
	ops := Diff(have, want, ours)
	for _, op := range ops {
		fmt.Fprintln(&b, op)
	}
	if len(ops) == 0 {
		fmt.Fprintln(&b, "nothing to do")
	}
	for _, f := range Foreign(have, want, ours) {
		fmt.Fprintln(&b, "foreign:", f.Key)
	}
	if err := carryOut(k, have, ops, never).err(); err != nil {
		t.Errorf("the kernel refuses: %v", err)
	}
	now, _ := k.List()
	if again := Diff(now, want, ours); len(again) > 0 {
		t.Errorf("a second run would do %v", again)
	}
	return b.String()
}

func never() bool { return false }

func sections(input string) map[string]string {
	out, at := map[string]string{}, ""
	for _, l := range strings.Split(input, "\n") {
		if strings.HasSuffix(l, ":") && !strings.Contains(l, " ") {
			at = l
			continue
		}
		out[at] += l + "\n"
	}
	return out
}

// genTable draws a table over few keys, so that two of them overlap.
func genTable(t *rapid.T, name string) []ipvs.Service {
	var out []ipvs.Service
	for i := range 4 {
		if !rapid.Bool().Draw(t, fmt.Sprint(name, i)) {
			continue
		}
		s := ipvs.Service{
			Key:       ipvs.Key{Addr: netip.MustParseAddr("172.25.88.100"), Port: uint16(80 + i), Protocol: rapid.SampledFrom([]ipvs.Protocol{ipvs.TCP, ipvs.UDP}).Draw(t, "protocol")},
			Scheduler: rapid.SampledFrom([]string{"rr", "wlc"}).Draw(t, "scheduler"),
		}
		if rapid.Bool().Draw(t, "persistent") {
			s.Flags, s.Timeout, s.Mask = ipvs.Persistent, 300, rapid.SampledFrom([]uint8{24, 32}).Draw(t, "mask")
		}
		for j := range 4 {
			if rapid.Bool().Draw(t, "dest") {
				s.Dests = append(s.Dests, ipvs.Dest{
					DestKey: ipvs.DestKey{Addr: netip.AddrFrom4([4]byte{172, 25, 88, byte(2 + j)}), Port: s.Port},
					Method:  rapid.SampledFrom([]ipvs.Method{ipvs.DirectRouting, ipvs.Tunnel}).Draw(t, "method"),
					Weight:  rapid.IntRange(0, 2).Draw(t, "weight"),
					Upper:   uint32(rapid.IntRange(0, 1).Draw(t, "upper")),
				})
			}
		}
		out = append(out, s.Canonical())
	}
	ipvs.Sort(out)
	return out
}

func genOwnership(t *rapid.T, have []ipvs.Service) Ownership {
	ours := Ownership{}
	for _, s := range have {
		if rapid.Bool().Draw(t, "ours") {
			ours[s.Key] = true
		}
	}
	return ours
}

func load(have []ipvs.Service) *ipvstest.Kernel {
	k := new(ipvstest.Kernel)
	if err := k.Set(ipvs.Rules(have)); err != nil {
		panic(err)
	}
	return k
}

// What comes out is want and what was foreign, exactly; a second Diff is empty;
// at no moment does a wanted service have fewer destinations than the poorer
// of its two tables.
func TestDiffMakesWantAndSparesTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := genTable(t, "have"), genTable(t, "want")
		ours := genOwnership(t, have)
		k := load(have)
		ops := Diff(have, want, ours)
		for _, op := range ops {
			if err := k.Do(op); err != nil {
				t.Fatal(err)
			}
			now, _ := k.List()
			for _, s := range want {
				floor := min(len(byKey(have)[s.Key].Dests), len(s.Dests))
				if n := len(byKey(now)[s.Key].Dests); n < floor {
					t.Fatalf("after %s the service has %d destinations, fewer than %d", op, n, floor)
				}
			}
		}
		now, _ := k.List()
		expect := slices.Concat(want, Foreign(have, want, ours))
		if got := ipvs.Rules(now); got != ipvs.Rules(expect) {
			t.Fatalf("got\n%swant\n%s", got, ipvs.Rules(expect))
		}
		if again := Diff(now, want, ours); len(again) > 0 {
			t.Fatalf("a second run would do %v", again)
		}
	})
}

// Whatever fails, running again until nothing fails arrives at want; and on the
// way no service loses a destination that stays, or its last one while another
// could not be added.
func TestFailuresConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := genTable(t, "have"), genTable(t, "want")
		ours := genOwnership(t, have)
		foreign := Foreign(have, want, ours)
		for _, s := range want {
			ours[s.Key] = true
		}
		k := load(have)
		broken := errors.New("no buffer space available")
		left := rapid.IntRange(1, 6).Draw(t, "failures")
		k.Fail = func(op ipvs.Op) error {
			if left > 0 && rapid.Bool().Draw(t, "fails") {
				left--
				return broken
			}
			return nil
		}
		for range 20 {
			before, _ := k.List()
			out := carryOut(k, before, Diff(before, want, ours), never)
			checkKept(t, before, want, k, out)
			if out.err() == nil {
				break
			}
		}
		now, _ := k.List()
		if got, expect := ipvs.Rules(now), ipvs.Rules(slices.Concat(want, foreign)); got != expect {
			t.Fatalf("got\n%swant\n%s", got, expect)
		}
	})
}

func checkKept(t *rapid.T, before, want []ipvs.Service, k *ipvstest.Kernel, out outcome) {
	now, _ := k.List()
	missing := map[ipvs.Key]bool{}
	for _, op := range Diff(now, want, Ownership{}) {
		missing[op.Service.Key] = missing[op.Service.Key] || op.Verb == ipvs.AddDest
	}
	for _, s := range want {
		had, has := byKey(before)[s.Key], byKey(now)[s.Key]
		if missing[s.Key] && len(had.Dests) > 0 && len(has.Dests) == 0 {
			t.Fatalf("%s is empty while an addition failed: did %v", s.Key, out.done)
		}
		for _, d := range s.Dests {
			in := func(s ipvs.Service) bool {
				return slices.ContainsFunc(s.Dests, func(o ipvs.Dest) bool { return o.DestKey == d.DestKey })
			}
			if in(had) && !in(has) {
				t.Fatalf("%s lost %s, which stays in the table", s.Key, d.DestKey)
			}
		}
	}
}

// A refused scheduler must not keep a dead server in the table, and the last
// server stays while its replacement cannot be added.
func TestWhatFailureHoldsUp(t *testing.T) {
	have := ipvstest.Must(`
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1
-a -t 10.0.0.1:80 -r 10.0.0.3:80 -g -w 1
-A -t 10.0.0.1:81 -s rr
-a -t 10.0.0.1:81 -r 10.0.0.2:81 -g -w 1`)
	want := ipvstest.Must(`
-A -t 10.0.0.1:80 -s fairest
-a -t 10.0.0.1:80 -r 10.0.0.3:80 -g -w 1
-A -t 10.0.0.1:81 -s rr
-a -t 10.0.0.1:81 -r 10.0.0.4:81 -g -w 1
-A -t 10.0.0.1:82 -s fairest
-a -t 10.0.0.1:82 -r 10.0.0.4:82 -g -w 1`)
	k := load(have)
	k.Fail = func(op ipvs.Op) error {
		if op.Verb == ipvs.AddDest && op.Service.Port == 81 {
			return errors.New("no buffer space available")
		}
		return nil
	}
	out := carryOut(k, have, Diff(have, want, nil), never)
	if len(out.errs) != 3 { // :80's and :82's scheduler, :81's server
		t.Errorf("errors: %v", out.errs)
	}
	const expect = `-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.0.3:80 -g -w 1
-A -t 10.0.0.1:81 -s rr
-a -t 10.0.0.1:81 -r 10.0.0.2:81 -g -w 1
`
	if k.String() != expect {
		t.Errorf("table is\n%s", k)
	}
}

func TestCarryOutStops(t *testing.T) {
	var want []ipvs.Service
	for i := range 2 * atOnce {
		want = append(want, ipvs.Service{Key: ipvs.Key{Mark: uint32(i + 1)}, Scheduler: "rr"}.Canonical())
	}
	k, n := new(ipvstest.Kernel), 0
	out := carryOut(k, nil, Diff(nil, want, nil), func() bool { n++; return n > 1 })
	if len(out.done) != atOnce || !errors.Is(out.err(), errStopped) {
		t.Errorf("did %d, %v", len(out.done), out.err())
	}
}

func TestRefusedOnly(t *testing.T) {
	refused := fmt.Errorf("x: %w", ipvs.ErrScheduler)
	for _, c := range []struct {
		errs []error
		want bool
	}{
		{nil, false},
		{[]error{refused}, true},
		{[]error{refused, refused}, true},
		{[]error{refused, errors.New("disk")}, false},
	} {
		if got := (outcome{errs: c.errs}).refusedOnly(); got != c.want {
			t.Errorf("%v: %v", c.errs, got)
		}
	}
}

// What is done to IPVS is counted by what it was; the hidden services are not.
func TestOperationsAreCounted(t *testing.T) {
	p := &Plane{}
	seen := ipvs.Service{Key: ipvs.Key{Addr: netip.MustParseAddr("172.25.88.100"), Port: 80, Protocol: ipvs.TCP}}
	secret := ipvs.Service{Key: ipvs.Key{Mark: StayMark}}
	p.count([]ipvs.Op{{Verb: ipvs.AddService, Service: seen}, {Verb: ipvs.AddDest, Service: seen}, {Verb: ipvs.AddDest, Service: seen}})
	p.count([]ipvs.Op{{Verb: ipvs.RemoveDest, Service: seen}, {Verb: ipvs.AddService, Service: secret}})
	want := map[string]uint64{"add_service": 1, "add_server": 2, "remove_server": 1}
	if got := p.Status().Operations; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
