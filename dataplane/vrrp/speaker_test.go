package vrrp

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSpeakerStories plays testdata/speaker.txt.
func TestSpeakerStories(t *testing.T) {
	text, err := os.ReadFile("testdata/speaker.txt")
	if err != nil {
		t.Fatal(err)
	}
	var s Speaker
	n, ran := 0, 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		story, want, ok := strings.Cut(line, " => ")
		if !ok {
			t.Fatalf("line %d: no =>", n)
		}
		var out Output
		s, out = play(t, s, story)
		ran++
		if got := tell(s, out); got != want {
			t.Errorf("line %d: %s\n got %s\nwant %s", n, story, got, want)
		}
	}
	if ran < 40 {
		t.Errorf("only %d lines", ran)
	}
}

func play(t *testing.T, s Speaker, story string) (Speaker, Output) {
	words := strings.Fields(story)
	if words[0] == "router" {
		return NewSpeaker(readRouter(t, fields(story)))
	}
	now := nanos(t, words[0])
	f := fields(story)
	_, zero := f["zero"]
	_, accepted := f["accepted"]
	e := Event{SendZero: zero, Accepted: accepted}
	if f["ended"] != "" {
		e.Ended = nanos(t, f["ended"])
	}
	switch words[1] {
	case "acquired":
		e.Kind = Acquired
	case "lost":
		e.Kind = Lost
	case "heard":
		e.Kind = Heard
		p, err := strconv.Atoi(f["priority"])
		if err != nil {
			t.Fatal(err)
		}
		e.Priority = uint8(p)
	case "tick":
		e.Kind = Tick
	case "update":
		return s.Update(now, readRouter(t, f))
	default:
		t.Fatalf("unknown event %q", words[1])
	}
	return s.Step(now, e)
}

func readRouter(t *testing.T, f map[string]string) Router {
	f["vrid"] = "51"
	a := readAdvert(t, f)
	return Router{ID: 1, Name: "VI_1", VRID: 51, Version: a.Version, Priority: a.Priority, Interval: a.Interval, Addresses: []netip.Addr{vip}}
}

func nanos(t *testing.T, s string) int64 {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return int64(d)
}

func tell(s Speaker, out Output) string {
	var parts []string
	if out.Log != "" {
		parts = append(parts, "log "+out.Log)
	}
	if out.Send {
		parts = append(parts, "send")
	}
	if out.SendZero {
		parts = append(parts, "farewell")
	}
	next := "-"
	if s.Next != 0 {
		next = time.Duration(s.Next).String()
	}
	return strings.Join(append(parts, fmt.Sprintf("%s %s", s.State, next)), "; ")
}

// Whatever happens: it sends only as MASTER, when it is due, or out of turn ten times per interval,
// and a farewell only on leaving MASTER within half a skew time of the end.
func TestPropertySpeaker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Router{ID: 1, Name: "VI_1", VRID: 51, Version: 3, Priority: uint8(rapid.IntRange(1, 255).Draw(t, "priority")),
			Interval: time.Duration(rapid.IntRange(1, 300).Draw(t, "cs")) * centisecond, Addresses: []netip.Addr{vip}}
		s, _ := NewSpeaker(r)
		now := int64(time.Hour)
		begin, sends, masters := now, 0, 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 2*int64(r.Interval)).Draw(t, "wait")
			e := Event{
				Kind: EventKind(rapid.IntRange(int(Acquired), int(Tick)).Draw(t, "kind")), SendZero: rapid.Bool().Draw(t, "zero"),
				Ended:    now - rapid.Int64Range(-int64(r.Interval), 2*int64(r.Interval)).Draw(t, "ago"),
				Accepted: rapid.Bool().Draw(t, "accepted"), Priority: rapid.SampledFrom([]uint8{0, 1, 255}).Draw(t, "theirs"),
			}
			before := s.State
			var out Output
			s, out = s.Step(now, e)
			if out.Send {
				sends++
				if s.State != Master {
					t.Fatalf("sent as %s", s.State)
				}
			}
			if before == Backup && s.State == Master {
				masters++
			}
			ago := now - e.Ended
			if out.SendZero && (before != Master || s.State != Backup || !e.SendZero || ago < 0 || ago > int64(r.Advert(r.Priority).Skew()/2)) {
				t.Fatalf("farewell on %+v at %d from %s", e, now, before)
			}
			if (s.Next == 0) != (s.State == Backup) {
				t.Fatalf("%s with the next advert at %d", s.State, s.Next)
			}
		}
		// One per acquisition, one per interval passed, ten out of turn per interval.
		if most := masters + int((now-begin)/int64(r.Interval)+1) + int((now-begin)/int64(r.Interval/10)+1); sends > most {
			t.Fatalf("%d adverts in %v at interval %v, at most %d expected", sends, time.Duration(now-begin), r.Interval, most)
		}
	})
}

func TestRouterCheck(t *testing.T) {
	good := Router{ID: 1, Name: "VI_1", VRID: 51, Version: 2, Priority: 100, Interval: time.Second, AuthPass: "1111", Addresses: []netip.Addr{vip}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	with := func(f func(*Router)) Router { r := good; f(&r); return r }
	for name, r := range map[string]Router{
		"priority 0":      with(func(r *Router) { r.Priority = 0 }),
		"no address":      with(func(r *Router) { r.Addresses = nil }),
		"v2 half seconds": with(func(r *Router) { r.Interval = time.Second / 2 }),
		"version 5":       with(func(r *Router) { r.Version = 5 }),
		"long password":   with(func(r *Router) { r.AuthPass = "123456789" }),
	} {
		if r.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
