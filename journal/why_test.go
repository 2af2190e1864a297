package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// story is a file of testdata/why as read.
type story struct {
	records map[fsm.MemberID]*Record
	boots   map[fsm.MemberID]string
	offsets map[fsm.MemberID]time.Duration
	q       Question
	end     time.Time
}

// tell reads a line of a story. TIME is seconds after noon in true time; what
// members write down is by their own clocks.
//
//	clock NODE DURATION      its wall clock is ahead by so much, which the asker measured
//	step NODE DURATION       from here on its wall clock is ahead by so much
//	boot NODE ID             what it writes from here on is of this boot
//	unreachable NODE WHY...
//	at TIME
//	TIME NODE KIND [cause=C] [peers=A,B] [for=D] [gate=TIME] [all] [TEXT...]
func (s *story) tell(t *testing.T, line string) {
	f := strings.Fields(line)
	switch f[0] {
	case "clock", "step":
		s.offsets[fsm.MemberID(f[1])] = span(t, f[2])
		if f[0] == "clock" {
			s.record(fsm.MemberID(f[1])).Offset = span(t, f[2])
		}
	case "boot":
		s.boots[fsm.MemberID(f[1])] = f[2]
	case "unreachable":
		s.q.Unreachable[fsm.MemberID(f[1])] = strings.Join(f[2:], " ")
	case "at":
		s.q.At = instant(t, f[1])
	default:
		s.happen(t, f)
	}
}

func (s *story) happen(t *testing.T, f []string) {
	at, node := instant(t, f[0]), fsm.MemberID(f[1])
	s.end = at
	e := Entry{At: at.Add(s.offsets[node]), Boot: at.Sub(noon).Nanoseconds() + 1e12, BootID: s.boots[node], Node: node, Unit: 7, Kind: Kind(f[2])}
	var text []string
	for _, word := range f[3:] {
		key, value, ok := strings.Cut(word, "=")
		switch {
		case ok && key == "cause":
			e.Cause = Cause(value)
		case ok && key == "peers":
			for p := range strings.SplitSeq(value, ",") {
				e.Peers = append(e.Peers, fsm.MemberID(p))
			}
		case ok && key == "for":
			e.For = span(t, value)
		case ok && key == "gate":
			e.Deadline = instant(t, value).Sub(noon).Nanoseconds() + 1e12
		case word == "all":
			e.Unit = 0
		default:
			text = append(text, word)
		}
	}
	e.Text = strings.Join(text, " ")
	r := s.record(node)
	r.Entries = append(r.Entries, e)
}

func (s *story) record(node fsm.MemberID) *Record {
	if s.records[node] == nil {
		s.records[node] = &Record{Node: node, Name: s.q.Names[node], Margin: time.Millisecond}
	}
	return s.records[node]
}

// ask merges what the members that answer have, and explains.
func (s *story) ask() string {
	var all []Record
	for node, r := range s.records {
		if _, silent := s.q.Unreachable[node]; silent {
			continue
		}
		r.Now, r.NowBoot, r.BootID = s.end.Add(time.Minute+s.offsets[node]), s.end.Add(time.Minute).Sub(noon).Nanoseconds()+1e12, s.boots[node]
		if r.Offset == 0 {
			r.Offset = s.offsets[node]
		}
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(string(a.Node), string(b.Node)) })
	events := Merge(all)
	a := Explain(events, s.q)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n[%s]\n", a.Sentence, a.Cause)
	for _, e := range events {
		fmt.Fprintf(&b, "%s %s %s\n", e.Time.Format("15:04:05.000"), e.Name, e.Kind)
	}
	return b.String()
}

func instant(t *testing.T, word string) time.Time { return noon.Add(span(t, word+"s")) }

func span(t *testing.T, word string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(strings.TrimPrefix(word, "+"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestWhy tells the stories in testdata/why and compares the answer, which
// stands below the ----. UPDATE_SCRIPTS=1 rewrites it; commit only what you
// understand.
func TestWhy(t *testing.T) {
	files, err := filepath.Glob("testdata/why/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			told, want, _ := strings.Cut(string(text), "----\n")
			s := &story{
				records: map[fsm.MemberID]*Record{}, offsets: map[fsm.MemberID]time.Duration{},
				boots: map[fsm.MemberID]string{"m1": "b1", "m2": "b2", "m3": "b3"},
				q: Question{Unit: 7, Name: "VI_1", Now: noon.Add(time.Hour), Names: map[fsm.MemberID]string{"m1": "dir1", "m2": "dir2", "m3": "dir3"},
					Unreachable: map[fsm.MemberID]string{}},
			}
			for line := range strings.Lines(told) {
				if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
					s.tell(t, line)
				}
			}
			got := s.ask()
			if os.Getenv("UPDATE_SCRIPTS") != "" {
				if err := os.WriteFile(file, []byte(told+"----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
