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

// TestElectStories plays testdata/elect.txt: one machine at a time, asked every
// 50 ms as the Listener does, so that nothing is late.
func TestElectStories(t *testing.T) {
	text, err := os.ReadFile("testdata/elect.txt")
	if err != nil {
		t.Fatal(err)
	}
	var s electStory
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
		ran++
		if got := s.play(t, story); got != want {
			t.Errorf("line %d: %s\n got %s\nwant %s", n, story, got, want)
		}
	}
	if ran < 60 {
		t.Errorf("only %d lines", ran)
	}
}

type electStory struct {
	e     Elect
	now   int64
	voice Voice
}

// own is the address of the machine's adverts in the stories.
var own = netip.MustParseAddr("10.0.0.50")

func (s *electStory) play(t *testing.T, story string) string {
	words, f := strings.Fields(story), fields(story)
	if words[0] == "router" || words[0] == "holds" {
		r := Rules{Version: 2, Priority: uint8(num(t, f["priority"])), Interval: dur(t, f["interval"])}
		if f["version"] == "3" {
			r.Version = 3
		}
		r.DownAdverts = num(t, f["down"])
		r.PreemptDelay, r.StartupDelay = dur(t, f["preempt_delay"]), dur(t, f["startup"])
		_, r.NoPreempt = f["nopreempt"]
		_, r.LowerPrioNoAdvert = f["lower_prio_no_advert"]
		_, r.HigherPrioSendAdvert = f["higher_prio_send_advert"]
		s.now, s.voice, s.e = 1e12, NoVoice, NewElect(1e12, r)
		if words[0] == "holds" {
			s.e, s.voice = ContinueElect(s.now, r), OwnVoice
		}
		return s.tell(Verdict{})
	}
	at := 1e12 + int64(dur(t, words[0]))
	var v Verdict
	if words[1] != "frozen" {
		for ; s.now < at; s.now += int64(sampleEvery) {
			s.e, _ = s.e.Tick(s.now, s.voice)
		}
	}
	s.now = at
	switch words[1] {
	case "tick", "frozen":
		s.e, v = s.e.Tick(at, s.voice)
	case "heard":
		w := Word{From: netip.MustParseAddr("10.0.0." + f["from"]), Source: own, Priority: uint8(num(t, f["priority"])), Interval: s.e.Rules.Interval}
		if f["interval"] != "" {
			w.Interval = dur(t, f["interval"])
		}
		s.e, v = s.e.Heard(at, w, s.voice)
	case "voice":
		s.voice = map[string]Voice{"own": OwnVoice, "other": OtherVoice, "none": NoVoice}[words[2]]
		s.e, v = s.e.Tick(at, s.voice)
	case "reset":
		s.e = s.e.Reset(at)
	default:
		t.Fatalf("unknown event %q", words[1])
	}
	return s.tell(v)
}

func (s *electStory) tell(v Verdict) string {
	out := string(s.e.State)
	if s.e.Due() != 0 {
		out += " " + time.Duration(s.e.Due()-s.now).Round(time.Millisecond).String()
	}
	if w, ok := s.e.Yields(s.now); ok {
		out += fmt.Sprintf(" yields to %s", w.From)
	}
	if v.Answer {
		out += " answer"
	}
	if v.Announce {
		out += " announce"
	}
	return out
}

func num(t testing.TB, s string) int {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func dur(t *testing.T, s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// keepalived is a reference model of one real router, written from the rules in
// RFC 9568 section 6.4 and keepalived's additions, by other means than Elect: it
// keeps when it last heard whom, and computes the rest.
type keepalived struct {
	r      Rules
	addr   netip.Addr
	master bool
	heard  int64 // the start of the timer that runs
	skew   bool  // only the skew runs: after a priority 0
	next   int64 // its next advert
}

func (k *keepalived) down() int64 {
	skew := time.Duration(256-int(k.r.Priority)) * time.Second / 256
	if k.r.Version == 3 {
		skew = time.Duration(256-int(k.r.Priority)) * k.r.Interval / 256
	}
	if k.skew {
		return k.heard + int64(skew)
	}
	return k.heard + int64(3*k.r.Interval+skew)
}

// tick reports whether it sends an advert.
func (k *keepalived) tick(now int64) bool {
	if !k.master && now >= k.down() {
		k.master, k.next = true, now
	}
	if k.master && now >= k.next {
		k.next = now + int64(k.r.Interval)
		return true
	}
	return false
}

// hears reports whether it answers.
func (k *keepalived) hears(now int64, from netip.Addr, priority uint8) bool {
	switch {
	case k.master && priority == 0:
		return true
	case k.master && (priority > k.r.Priority || priority == k.r.Priority && from.Compare(k.addr) > 0):
		k.master, k.heard, k.skew = false, now, false
	case k.master:
		return true
	case priority == 0:
		k.heard, k.skew = now, true
	case k.r.NoPreempt || priority >= k.r.Priority:
		k.heard, k.skew = now, false
	}
	return false
}

// TestElectBesideKeepalived runs a cluster of three directors and one keepalived
// through cuts, deaths and losses of the majority. Once the network is whole and
// a majority is there, there is exactly one MASTER within the time that the rules
// need, and never two for longer than an advert interval.
func TestElectBesideKeepalived(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.SampledFrom([]uint8{2, 3}).Draw(t, "version")
		nopreempt := rapid.Bool().Draw(t, "nopreempt")
		ours, theirs := rapid.Uint8Range(1, 254).Draw(t, "ours"), rapid.Uint8Range(1, 254).Draw(t, "theirs")
		rules := Rules{Version: version, Priority: ours, Interval: time.Second, NoPreempt: nopreempt}
		w := newPairWorld(rules, Rules{Version: version, Priority: theirs, Interval: time.Second, NoPreempt: nopreempt})
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				w.cut = !w.cut
			case 1:
				w.majority = !w.majority
			case 2: // the owner dies, and is back soon
				w.dead, w.back = w.owner, w.now+int64(rapid.IntRange(1, 20).Draw(t, "dead for"))*int64(time.Second)
			case 3:
				w.peerDead = !w.peerDead
			}
			w.run(t, time.Duration(rapid.IntRange(100, 15000).Draw(t, "for"))*time.Millisecond)
		}
		w.cut, w.majority, w.peerDead, w.dead = false, true, false, -1
		w.run(t, 20*time.Second)
		if w.masters() != 1 {
			t.Fatalf("%d MASTERs at rest (owner %d %v, keepalived %v)", w.masters(), w.owner, w.stands(), w.peer.master)
		}
		if !nopreempt && ours != theirs && w.peer.master != (theirs > ours) {
			t.Fatalf("ours %d, theirs %d, and keepalived MASTER: %v", ours, theirs, w.peer.master)
		}
		before, owner := w.peer.master, w.owner
		w.dead, w.back = w.owner, w.now+int64(30*time.Second)
		if ours != theirs {
			w.run(t, 10*time.Second)
			if w.peer.master != before {
				t.Fatalf("the owner %d died, %d has the lease, and keepalived's MASTER went from %v to %v", owner, w.owner, before, w.peer.master)
			}
		}
	})
}

// pairWorld is three directors with a perfect lease, and a keepalived.
type pairWorld struct {
	now                     int64
	elects                  [3]Elect
	addrs                   [3]netip.Addr
	peer                    keepalived
	owner                   int // -1: nobody
	free                    int64
	next                    int64 // the owner's next advert
	dead                    int
	back                    int64
	cut, majority, peerDead bool
	both                    int64 // since when there are two MASTERs that hear each other
}

func newPairWorld(ours, theirs Rules) *pairWorld {
	w := &pairWorld{now: 1e12, owner: -1, dead: -1, majority: true}
	for i := range w.elects {
		w.elects[i] = NewElect(w.now, ours)
		w.addrs[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + 20*i)})
	}
	w.peer = keepalived{r: theirs, addr: netip.MustParseAddr("10.0.0.40"), heard: w.now}
	return w
}

func (w *pairWorld) stands() (out []State) {
	for _, e := range w.elects {
		out = append(out, e.State)
	}
	return out
}

func (w *pairWorld) masters() (n int) {
	if w.speaks() {
		n++
	}
	if w.peer.master && !w.peerDead {
		n++
	}
	return n
}

func (w *pairWorld) speaks() bool { return w.owner >= 0 && w.elects[w.owner].State == Master }

func (w *pairWorld) voice(i int) Voice {
	switch {
	case w.speaks() && w.owner == i:
		return OwnVoice
	case w.speaks():
		return OtherVoice
	}
	return NoVoice
}

func (w *pairWorld) run(t *rapid.T, d time.Duration) {
	const step = int64(10 * time.Millisecond)
	for end := w.now + int64(d); w.now < end; w.now += step {
		if w.dead >= 0 && w.now >= w.back {
			w.elects[w.dead] = NewElect(w.now, w.elects[w.dead].Rules)
			w.dead = -1
		}
		w.lease()
		for i := range w.elects {
			if i != w.dead {
				w.elects[i], _ = w.elects[i].Tick(w.now, w.voice(i))
			}
		}
		if w.speaks() && w.now >= w.next {
			w.ourAdvert()
		}
		if w.peerDead {
			w.peer.master, w.peer.heard, w.peer.skew = false, w.now, false
		} else if w.peer.tick(w.now) {
			w.theirAdvert()
		}
		w.judge(t)
	}
}

// lease takes and gives as the real one: it ends when its holder dies, loses the
// majority or does not stand, and is free 800 ms after a death.
func (w *pairWorld) lease() {
	if o := w.owner; o >= 0 && (o == w.dead || !w.majority || w.elects[o].State != Master) {
		w.owner = -1
		if w.free = w.now; o == w.dead {
			w.free += int64(800 * time.Millisecond)
		}
	}
	for i := range w.elects {
		if w.owner < 0 && w.majority && w.now >= w.free && i != w.dead && w.elects[i].State == Master {
			w.owner, w.next = i, w.now
		}
	}
}

func (w *pairWorld) ourAdvert() {
	w.next = w.now + int64(w.elects[w.owner].Rules.Interval)
	if !w.cut && !w.peerDead && w.peer.hears(w.now, w.addrs[w.owner], w.elects[w.owner].Rules.Priority) {
		w.peer.next = w.now // it answers
	}
}

func (w *pairWorld) theirAdvert() {
	if w.cut {
		return
	}
	for i := range w.elects {
		if i == w.dead {
			continue
		}
		var v Verdict
		mine := w.voice(i)
		w.elects[i], v = w.elects[i].Heard(w.now, Word{From: w.peer.addr, Source: w.addrs[i], Priority: w.peer.r.Priority, Interval: w.peer.r.Interval}, mine)
		if v.Answer && mine == OwnVoice {
			w.next = w.now + 1
		}
	}
}

func (w *pairWorld) judge(t *rapid.T) {
	if w.cut || w.masters() < 2 {
		w.both = 0
		return
	}
	if w.both == 0 {
		w.both = w.now
	}
	if took := time.Duration(w.now - w.both); took > time.Second+50*time.Millisecond {
		t.Fatalf("two MASTERs that hear each other for %v: owner %d %v, ours %d, theirs %d", took, w.owner, w.stands(), w.elects[0].Rules.Priority, w.peer.r.Priority)
	}
}
