package cluster

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// world is a cluster in miniature: it carries out what the steward decides,
// on a clock of its own.
type world struct {
	now      time.Time
	leader   fsm.MemberID
	settled  time.Time
	changed  time.Time
	next     int
	members  []fsm.Member
	servers  []server
	behind   map[fsm.MemberID]bool
	quiet    map[fsm.MemberID]bool
	last     map[fsm.MemberID]time.Time
	since    map[fsm.MemberID]time.Time
	trace    []string
	changes  []time.Time // of the voters
	minVotes int
}

const worldSpacing, worldSilent, worldBack = 4 * time.Second, 3 * time.Second, 2 * time.Second

func newWorld() *world {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &world{
		now: start, leader: "m1", settled: start, next: 2,
		members: []fsm.Member{{ID: "m1", State: fsm.Present}},
		servers: []server{{"m1", true}},
		behind:  map[fsm.MemberID]bool{}, quiet: map[fsm.MemberID]bool{},
		last: map[fsm.MemberID]time.Time{}, since: map[fsm.MemberID]time.Time{},
	}
}

func (w *world) view() view {
	v := view{
		Now: w.now, Self: w.leader, Members: slices.Clone(w.members), Servers: slices.Clone(w.servers),
		Progress: map[fsm.MemberID]progress{}, Settled: w.settled, Changed: w.changed,
		Spacing: worldSpacing, Silent: worldSilent, Back: worldBack,
	}
	for _, m := range w.members {
		if !w.since[m.ID].IsZero() {
			_, in := v.server(m.ID)
			v.Progress[m.ID] = progress{CaughtUp: in && !w.behind[m.ID], Last: w.last[m.ID], Since: w.since[m.ID]}
		}
	}
	return v
}

// greet lets everybody who is not quiet answer.
func (w *world) greet() {
	for _, m := range w.members {
		if w.quiet[m.ID] || m.ID == w.leader {
			continue
		}
		if w.since[m.ID].IsZero() || w.now.Sub(w.last[m.ID]) > 1500*time.Millisecond {
			w.since[m.ID] = w.now
		}
		w.last[m.ID] = w.now
	}
}

// run lets time pass in steps of 500 ms and does what the steward says.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(500 * time.Millisecond) {
		w.greet()
		for range 20 {
			v := w.view()
			c := nextChange(v)
			if c.Kind == noChange {
				break
			}
			w.do(v, c)
		}
	}
}

func (w *world) do(v view, c change) {
	s, _ := v.server(c.ID)
	if c.changesVoters(s.Voter) {
		w.changed = w.now
		w.changes = append(w.changes, w.now)
	}
	i := slices.IndexFunc(w.servers, func(s server) bool { return s.ID == c.ID })
	j := slices.IndexFunc(w.members, func(m fsm.Member) bool { return m.ID == c.ID })
	switch c.Kind {
	case addNonvoter:
		w.servers = append(w.servers, server{c.ID, false})
	case promote:
		w.servers[i].Voter = true
	case demote:
		w.servers[i].Voter = false
	case dropServer:
		w.servers = slices.Delete(slices.Clone(w.servers), i, i+1)
	case markPresent:
		w.members[j].State = fsm.Present
	case markSilent, markBack:
		w.members[j].Silent = c.Kind == markSilent
	case removeMember:
		w.members = slices.Delete(slices.Clone(w.members), j, j+1)
	case handOver:
		w.leads(c.ID)
	}
	at := w.now.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).Seconds()
	w.trace = append(w.trace, fmt.Sprintf("%5.1fs %s %s (%s); voters %s", at, c.Kind, c.ID, c.Why, w.voters()))
}

// leads makes somebody the leader, who has greeted nobody yet.
func (w *world) leads(id fsm.MemberID) {
	w.leader, w.settled, w.changed = id, w.now, time.Time{}
	w.last, w.since = map[fsm.MemberID]time.Time{}, map[fsm.MemberID]time.Time{}
}

func (w *world) voters() string {
	var ids []string
	for _, s := range w.servers {
		if s.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	return strings.Join(ids, ",")
}

func (w *world) member(id string) *fsm.Member {
	for i := range w.members {
		if string(w.members[i].ID) == id {
			return &w.members[i]
		}
	}
	return &fsm.Member{}
}

// command runs one line of a transcript.
func (w *world) command(t *testing.T, line string) {
	f := strings.Fields(line)
	arg := ""
	if len(f) > 1 {
		arg = f[1]
	}
	switch f[0] {
	case "join":
		n, _ := strconv.Atoi(arg)
		for range max(n, 1) {
			w.join()
		}
	case "wait":
		d, err := time.ParseDuration(arg)
		if err != nil {
			t.Fatal(err)
		}
		w.run(d)
	case "leave":
		w.member(arg).State = fsm.Leaving
	case "remove":
		w.members = slices.DeleteFunc(slices.Clone(w.members), func(m fsm.Member) bool { return string(m.ID) == arg })
	case "silence":
		w.quiet[fsm.MemberID(arg)] = true
	case "return":
		delete(w.quiet, fsm.MemberID(arg))
	case "behind":
		w.behind[fsm.MemberID(arg)] = true
	case "caughtup":
		delete(w.behind, fsm.MemberID(arg))
	case "leader":
		w.leads(fsm.MemberID(arg))
	default:
		t.Fatalf("unknown command %q", line)
	}
}

func (w *world) join() {
	id := fsm.MemberID(fmt.Sprintf("m%d", w.next))
	w.next++
	w.members = append(slices.Clone(w.members), fsm.Member{ID: id, State: fsm.Joining})
}

// TestStewardTranscripts plays testdata/steward_*.txt: each command is
// followed by what the steward did because of it. REWRITE=1 writes them anew.
func TestStewardTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/steward_*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld()
			var got strings.Builder
			lines := bufio.NewScanner(strings.NewReader(string(want)))
			for lines.Scan() {
				line := lines.Text()
				switch {
				case strings.HasPrefix(line, "    "):
					continue
				case line == "" || line[0] == '#':
					fmt.Fprintln(&got, line)
					continue
				}
				fmt.Fprintln(&got, line)
				w.trace = nil
				w.command(t, line)
				for _, did := range w.trace {
					fmt.Fprintln(&got, "    "+did)
				}
			}
			if got.String() == string(want) {
				return
			}
			if os.Getenv("REWRITE") != "" {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s: got\n%s\nwant\n%s", file, got.String(), want)
		})
	}
}

// Whatever people and machines do, the voters change one at a time, spaced,
// never down to none, and end up odd, without those who left.
func TestStewardProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			ids := make([]fsm.MemberID, len(w.members))
			for i, m := range w.members {
				ids[i] = m.ID
			}
			id := rapid.SampledFrom(ids).Draw(t, "id")
			staying := 0
			for _, m := range w.members {
				if m.State == fsm.Present {
					staying++
				}
			}
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1:
				if len(w.members) < 9 {
					w.join()
				}
			case 2:
				if staying > 1 && id != w.leader {
					w.member(string(id)).State = fsm.Leaving
				}
			case 3:
				if staying > 1 && id == w.leader {
					w.member(string(id)).State = fsm.Leaving
				}
			case 4:
				if staying > 1 && id != w.leader {
					w.members = slices.DeleteFunc(slices.Clone(w.members), func(m fsm.Member) bool { return m.ID == id })
				}
			case 5:
				w.quiet[id] = !w.quiet[id]
			case 6:
				if s, ok := w.view().server(id); ok && s.Voter && !w.quiet[id] {
					w.leads(id)
				}
			}
			before := w.voters()
			w.run(time.Duration(rapid.IntRange(0, 20).Draw(t, "halves")) * 500 * time.Millisecond)
			if w.voters() == "" {
				t.Fatalf("no voters left, before: %s", before)
			}
		}
		for i := 1; i < len(w.changes); i++ {
			if d := w.changes[i].Sub(w.changes[i-1]); d < worldSpacing {
				t.Fatalf("two changes of the voters within %v:\n%s", d, strings.Join(w.trace, "\n"))
			}
		}
		// When the world calms down, everything settles.
		w.quiet = map[fsm.MemberID]bool{}
		w.run(5 * time.Minute)
		if c := nextChange(w.view()); c != (change{}) {
			t.Fatalf("never settles: %+v", c)
		}
		n := 0
		for _, s := range w.servers {
			m, ok := findMember(w.members, s.ID)
			if !ok || m.State != fsm.Present || m.Silent {
				t.Fatalf("server %+v is member %+v (%v)", s, m, ok)
			}
			if s.Voter {
				n++
			}
		}
		staying := 0
		for _, m := range w.members {
			if m.State == fsm.Leaving && len(w.members) > 1 {
				t.Fatalf("%s never left", m.ID)
			}
			staying++
		}
		want := min(staying, maxVoters)
		if want%2 == 0 {
			want--
		}
		if n != want {
			t.Fatalf("%d voters of %d members, want %d", n, staying, want)
		}
	})
}

// Nobody who stays may vote: then those who vote go on, rather than nobody.
func TestStewardKeepsTheLastVoters(t *testing.T) {
	w := newWorld()
	for range 2 {
		w.join()
	}
	w.run(20 * time.Second)
	for i := range w.members {
		w.members[i].State = fsm.Leaving
	}
	w.run(time.Minute)
	if got := w.voters(); got != "m1,m2,m3" {
		t.Errorf("voters %s", got)
	}
}
