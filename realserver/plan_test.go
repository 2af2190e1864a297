package realserver

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// fake is a kernel in memory.
type fake struct {
	seen  Seen
	diary []string
	fail  string // this change fails
}

func newFake(arp ...int) *fake {
	f := &fake{seen: Seen{ARP: map[string]map[string]int{"all": {ignore: 0, announce: 0}, "eth0": {ignore: 0, announce: 0}}}}
	f.seen.Addresses = []Address{
		{netip.MustParsePrefix("127.0.0.1/8"), "lo", true}, {netip.MustParsePrefix("10.0.0.2/24"), "eth0", false}, {netip.MustParsePrefix("fe80::1/64"), "eth0", false},
	}
	if len(arp) == 4 {
		f.seen.ARP["all"] = map[string]int{ignore: arp[0], announce: arp[1]}
		f.seen.ARP["eth0"] = map[string]int{ignore: arp[2], announce: arp[3]}
	}
	return f
}

func (f *fake) See() (Seen, error) {
	s := Seen{Addresses: slices.Clone(f.seen.Addresses), ARP: map[string]map[string]int{}}
	for dev, values := range f.seen.ARP {
		s.ARP[dev] = maps.Clone(values)
	}
	return s, nil
}

func (f *fake) did(what string) error {
	if what == f.fail {
		return errors.New("read-only file system")
	}
	f.diary = append(f.diary, what)
	return nil
}

func (f *fake) SetARP(name string, value int) error {
	if err := f.did(fmt.Sprintf("%s=%d", name, value)); err != nil {
		return err
	}
	f.seen.ARP["all"][name] = value
	return nil
}

func (f *fake) Add(a netip.Addr) (bool, error) {
	if f.seen.OnLoopback(a) {
		return true, nil
	}
	if err := f.did("+" + a.String()); err != nil {
		return false, err
	}
	f.seen.Addresses = append(f.seen.Addresses, Address{netip.PrefixFrom(a, a.BitLen()), "lo", true})
	return false, nil
}

func (f *fake) Remove(a netip.Addr) error {
	if err := f.did("-" + a.String()); err != nil {
		return err
	}
	f.seen.Addresses = slices.DeleteFunc(f.seen.Addresses, func(o Address) bool { return o.Loopback && o.Prefix.Addr() == a })
	return nil
}

func (f *fake) take() string {
	out := strings.Join(f.diary, " ")
	f.diary = nil
	return out
}

func addrs(text string) []netip.Addr {
	var out []netip.Addr
	for _, w := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(w))
	}
	return out
}

// One host's life: what is done, in which order, and what is left afterwards.
func TestApply(t *testing.T) {
	f := newFake()
	var rec, saved Record
	apply := func(want string) error {
		var err error
		_, rec, err = Apply(f, addrs(want), rec, func(r Record) error { saved = r; return nil })
		if fmt.Sprint(rec) != fmt.Sprint(saved) {
			t.Errorf("record %v, saved %v", rec, saved)
		}
		return err
	}
	for _, step := range []struct{ want, does string }{
		{"", ""},
		{"172.16.0.1 2001:db8::1", "arp_ignore=1 arp_announce=2 +172.16.0.1 +2001:db8::1"},
		{"172.16.0.1 2001:db8::1", ""},
		{"172.16.0.2", "+172.16.0.2 -172.16.0.1 -2001:db8::1"},
		{"", "-172.16.0.2 arp_announce=0 arp_ignore=0"},
		{"", ""},
	} {
		if err := apply(step.want); err != nil || f.take() != step.does {
			t.Errorf("for %q: %v, %v; want %s", step.want, f.diary, err, step.does)
		}
	}
	// What was there before stays; what somebody set since, too.
	f = newFake(8, 2, 0, 0)
	_, _ = f.Add(addrs("172.16.0.9")[0])
	f.take()
	if err := apply("172.16.0.9"); err != nil || f.take() != "" || len(rec.Addresses)+len(rec.ARP) > 0 {
		t.Errorf("all was there: %v %+v", err, rec)
	}
	f = newFake()
	_ = apply("172.16.0.1")
	f.seen.ARP["all"][ignore] = 2
	f.take()
	if err := apply(""); err != nil || f.take() != "-172.16.0.1 arp_announce=0" || f.seen.ARP["all"][ignore] != 2 {
		t.Errorf("somebody changed arp_ignore: %v", err)
	}
}

// Without the settings no IPv4 address comes, as it would be answered for.
func TestApplyStaysSilent(t *testing.T) {
	f := newFake()
	f.fail = "arp_announce=2"
	var rec Record
	_, rec, err := Apply(f, addrs("172.16.0.1 2001:db8::1"), rec, func(Record) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "read-only") || f.take() != "arp_ignore=1 +2001:db8::1" {
		t.Errorf("%v", err)
	}
	f.fail = ""
	if _, _, err = Apply(f, addrs("172.16.0.1 2001:db8::1"), rec, func(Record) error { return nil }); err != nil || f.take() != "arp_announce=2 +172.16.0.1" {
		t.Errorf("afterwards: %v", err)
	}
	f = newFake(0, 0, 3, 0)
	if _, _, err = Apply(f, addrs("172.16.0.1"), Record{}, func(Record) error { return nil }); err != nil || f.take() != "arp_ignore=1 arp_announce=2" {
		t.Errorf("eth0 answers whatever all says: %v", err)
	}
}

// A record that cannot be written keeps everything as it is.
func TestApplyNeedsItsRecord(t *testing.T) {
	f := newFake()
	_, _, err := Apply(f, addrs("172.16.0.1 2001:db8::1"), Record{}, func(Record) error { return errors.New("disk full") })
	if err == nil || f.take() != "" {
		t.Errorf("%v %v", err, f.diary)
	}
}

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		arp  []int
		add  []Address
		want string
	}{
		"well":       {[]int{1, 2, 0, 0}, []Address{{netip.MustParsePrefix("172.16.0.1/32"), "lo", true}}, ""},
		"by itself":  {[]int{0, 0, 1, 2}, []Address{{netip.MustParsePrefix("172.16.0.1/32"), "lo", true}}, ""},
		"not there":  {[]int{1, 2, 0, 0}, nil, "is not on lo"},
		"answers":    {[]int{0, 2, 0, 0}, []Address{{netip.MustParsePrefix("172.16.0.1/32"), "lo", true}}, "eth0 answers ARP for what is on lo: net.ipv4.conf.all.arp_ignore is 0"},
		"answers, 3": {[]int{1, 2, 3, 0}, []Address{{netip.MustParsePrefix("172.16.0.1/32"), "lo", true}}, "net.ipv4.conf.eth0.arp_ignore is 3"},
		"asks":       {[]int{1, 1, 0, 0}, []Address{{netip.MustParsePrefix("172.16.0.1/32"), "lo", true}}, "net.ipv4.conf.all.arp_announce is 1"},
		"on eth0":    {[]int{1, 2, 0, 0}, []Address{{netip.MustParsePrefix("172.16.0.1/32"), "lo", true}, {netip.MustParsePrefix("172.16.0.1/24"), "eth0", false}}, "ip addr del 172.16.0.1/24 dev eth0"},
		"too wide":   {[]int{1, 2, 0, 0}, []Address{{netip.MustParsePrefix("172.16.0.1/24"), "lo", true}}, "all of 172.16.0.0/24 counts as this host"},
	} {
		f := newFake(c.arp...)
		f.seen.Addresses = append(f.seen.Addresses, c.add...)
		got := strings.Join(Problems(addrs("172.16.0.1"), f.seen), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Count(got, "\n") > 0 {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := fmt.Sprint(newFake().seen.Own()); got != "[10.0.0.2]" {
		t.Errorf("own addresses: %s", got)
	}
}

// Whatever happened between, nothing wanted leaves what was there before, and no
// address is ever on lo while it would be answered for.
func TestApplyTakesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.IntRange(0, 8)
		f := newFake(values.Draw(t, "ignore"), values.Draw(t, "announce"), rapid.IntRange(0, 2).Draw(t, "eth0"), rapid.IntRange(0, 2).Draw(t, "eth0 announce"))
		pool := addrs("172.16.0.1 172.16.0.2 2001:db8::1")
		for _, a := range pool {
			if rapid.Bool().Draw(t, "there before") {
				_, _ = f.Add(a)
			}
		}
		before := inventory(f.seen)
		var rec Record
		save := func(r Record) error { rec = r; return nil }
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			var want []netip.Addr
			for _, a := range pool {
				if rapid.Bool().Draw(t, "wanted") {
					want = append(want, a)
				}
			}
			f.fail = rapid.SampledFrom([]string{"", "", "arp_ignore=1", "+172.16.0.1", "-172.16.0.2"}).Draw(t, "fails")
			_, r, err := Apply(f, want, rec, save)
			if fmt.Sprint(r) != fmt.Sprint(rec) {
				t.Fatalf("record %v, saved %v", r, rec)
			}
			f.fail = ""
			if err == nil {
				if again, _, _ := Apply(f, want, rec, save); len(again) > 0 {
					t.Fatalf("a second time it does %v", again)
				}
				if bad := Problems(want, f.seen); len(bad) > 0 {
					t.Fatalf("for %v: %v", want, bad)
				}
			}
			if slices.ContainsFunc(rec.Addresses, netip.Addr.Is4) && !silent(max(f.seen.ARP["all"][ignore], f.seen.ARP["eth0"][ignore])) {
				t.Fatalf("%v are on lo and answered for", rec.Addresses)
			}
		}
		if _, _, err := Apply(f, nil, rec, save); err != nil {
			t.Fatal(err)
		}
		if len(rec.Addresses)+len(rec.ARP) > 0 {
			t.Fatalf("the record still has %+v", rec)
		}
		if after := inventory(f.seen); after != before {
			t.Fatalf("before: %s\nafter:  %s", before, after)
		}
	})
}

// inventory is what a host has, in order.
func inventory(s Seen) string {
	all := slices.Clone(s.Addresses)
	slices.SortFunc(all, func(a, b Address) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	return fmt.Sprint(all, s.ARP)
}
