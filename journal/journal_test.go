package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// ticking is a CLOCK_BOOTTIME that goes on by a millisecond a reading.
func ticking() func() int64 {
	var now int64
	return func() int64 { now += int64(time.Millisecond); return now }
}

// keep notes entries with a running journal and ends it.
func keep(t *testing.T, dir string, max int64, note func(*Journal)) *Journal {
	t.Helper()
	j := New(Config{Dir: dir, Node: "m1", Boot: ticking(), MaxFile: max})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	note(j)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return j
}

func read(t *testing.T, j *Journal) []Entry {
	t.Helper()
	all, err := j.Read(t.Context(), time.Time{}, time.Time{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSurvivesRestart: what one process noted, the next reads, in order; what
// the fence appended in between too.
func TestSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	keep(t, dir, 0, func(j *Journal) { j.Note(Entry{Kind: Acquired, Unit: 7}) })
	if err := Append(dir, Entry{Kind: Fenced, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	j := keep(t, dir, 0, func(j *Journal) { j.Note(Entry{Kind: Started}) })
	var kinds []Kind
	for _, e := range read(t, j) {
		kinds = append(kinds, e.Kind)
	}
	if fmt.Sprint(kinds) != "[acquired fenced started]" {
		t.Errorf("%v", kinds)
	}
	if e := read(t, j)[0]; e.Node != "m1" || e.Boot == 0 || e.At.IsZero() || e.BootID != BootID() {
		t.Errorf("not stamped: %+v", e)
	}
}

// TestBounded: whatever is noted, the two files stay below their limits and the
// newest entries are there.
func TestBounded(t *testing.T) {
	dir := t.TempDir()
	const max, n = 4096, 800
	j := New(Config{Dir: dir, Node: "m1", Boot: ticking(), MaxFile: max})
	for round := range n / 100 {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		for i := range 100 {
			j.Note(Entry{Kind: Denied, Unit: uint64(round*100 + i), Text: strings.Repeat("x", 1000)})
		}
		stop()
		<-done
	}
	for _, name := range []string{currentFile, olderFile} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Size() > max {
			t.Errorf("%s: %v bytes, %v", name, fi.Size(), err)
		}
	}
	all := read(t, j)
	if last := all[len(all)-1]; last.Unit != n-1 || len(last.Text) > maxText {
		t.Errorf("the last entry is %+v", last)
	}
	if len(j.memory()) > recent {
		t.Errorf("%d entries in memory", len(j.memory()))
	}
}

// TestRepetitions: equal entries within a second are one, and counted.
func TestRepetitions(t *testing.T) {
	j := New(Config{Boot: func() int64 { return 1 }})
	now := int64(0)
	j.cfg.Boot = func() int64 { return now }
	for range 10 {
		now += int64(200 * time.Millisecond)
		j.Note(Entry{Kind: RoundLost, Unit: 7, Peers: []fsm.MemberID{"m2"}})
		j.Note(Entry{Kind: RoundLost, Unit: 8, Peers: []fsm.MemberID{"m2"}})
	}
	j.Note(Entry{Kind: RoundLost, Unit: 7, Peers: []fsm.MemberID{"m3"}})
	var told []string
	for _, e := range j.memory() {
		if e.Unit == 7 {
			told = append(told, fmt.Sprint(e.Peers, e.Times))
		}
	}
	if got := strings.Join(told, " "); got != "[m2] 0 [m2] 5 [m3] 0" {
		t.Errorf("%s", got)
	}
}

// TestStalledDisk: a writer that hangs costs the producers nothing, is counted,
// and does not hold up the end; a reader gets what is in memory. A pipe without
// a reader stands for the disk.
func TestStalledDisk(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, currentFile)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	hole, err := os.OpenFile(pipe, os.O_RDWR, 0) // so that opening it does not hang
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	j := New(Config{Dir: dir, Node: "m1", Boot: ticking()})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	begin := time.Now()
	for i := range 4 * queueSize {
		j.Note(Entry{Kind: Denied, Unit: uint64(i)})
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("producers waited: %v", took)
	}
	if j.Dropped() == 0 {
		t.Error("nothing was counted as dropped")
	}
	limited, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	got, err := j.Read(limited, time.Time{}, time.Time{}, 0)
	if err == nil || len(got) == 0 || got[len(got)-1].Unit != 4*queueSize-1 {
		t.Errorf("%d entries, %v", len(got), err)
	}
	stop()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("the end waits for the disk")
	}
}

// TestFullDisk: an error is said once, and entries go on in memory.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	j := keep(t, dir, 0, func(j *Journal) {
		for i := range 10 {
			j.Note(Entry{Kind: Acquired, Unit: uint64(i)})
		}
	})
	if j.Trouble() == "" || j.Dropped() != 10 || len(j.memory()) != 10 {
		t.Errorf("%q, %d dropped, %d in memory", j.Trouble(), j.Dropped(), len(j.memory()))
	}
}

// TestEndWaitsNoLonger: with a disk that answers, the end is at once.
func TestEndWaitsNoLonger(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j := New(Config{Dir: dir, Boot: ticking()})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		j.Note(Entry{Kind: Started})
		begin := time.Now()
		stop()
		if <-done; time.Since(begin) > 0 {
			t.Errorf("the end took %v", time.Since(begin))
		}
		if all, err := readFiles(dir); err != nil || len(all) != 1 {
			t.Errorf("%v, %v", all, err)
		}
	})
}

// TestTornLine: a line cut short by a power failure costs itself alone.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	keep(t, dir, 0, func(j *Journal) { j.Note(Entry{Kind: Acquired, Unit: 1}) })
	f, err := os.OpenFile(filepath.Join(dir, currentFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"at":"2026-11-2`)
	f.Close()
	j := keep(t, dir, 0, func(j *Journal) { j.Note(Entry{Kind: Lost, Unit: 1}) })
	if all := read(t, j); len(all) != 2 || all[1].Kind != Lost {
		t.Errorf("%+v", all)
	}
}

// TestReadRange: only what was asked for, and no more than the limit.
func TestReadRange(t *testing.T) {
	j := keep(t, t.TempDir(), 0, func(j *Journal) {
		for i := range 10 {
			j.Note(Entry{Kind: Acquired, Unit: uint64(i), At: noon.Add(time.Duration(i) * time.Second)})
		}
	})
	got, err := j.Read(t.Context(), noon.Add(2*time.Second), noon.Add(7*time.Second), 3)
	if err != nil || len(got) != 3 || got[0].Unit != 5 || got[2].Unit != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestMergeKeepsOrder: whatever the wall clocks did, no member's entries change
// places, and all are there.
func TestMergeKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records []Record
		n := 0
		for m := range rapid.IntRange(1, 4).Draw(t, "members") {
			r := Record{Node: fsm.MemberID(fmt.Sprint("m", m+1)), BootID: "now", Now: noon, NowBoot: 1e12,
				Offset: time.Duration(rapid.Int64Range(-1e12, 1e12).Draw(t, "offset"))}
			boot := int64(0)
			for i := range rapid.IntRange(0, 20).Draw(t, "entries") {
				boot += rapid.Int64Range(0, 1e10).Draw(t, "step")
				e := Entry{Node: r.Node, Kind: Denied, Unit: uint64(i), Boot: boot, BootID: "now", At: noon.Add(time.Duration(rapid.Int64Range(-1e13, 1e13).Draw(t, "wall")))}
				if i < 5 {
					e.BootID = "before"
				}
				r.Entries = append(r.Entries, e)
				n++
			}
			records = append(records, r)
		}
		next := map[fsm.MemberID]uint64{}
		merged := Merge(records)
		for i, e := range merged {
			if e.Unit != next[e.Node] {
				t.Fatalf("%s: entry %d stands where %d should", e.Node, e.Unit, next[e.Node])
			}
			next[e.Node]++
			if i > 0 && e.Time.Before(merged[i-1].Time) {
				t.Fatal("time goes back")
			}
		}
		if len(merged) != n {
			t.Fatalf("%d of %d", len(merged), n)
		}
	})
}

// FuzzParse: no file makes reading fail.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"kind":"lost","unit":7}` + "\n" + `{"kind":`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range parse(b) {
			if e.Kind == "" {
				t.Error("an entry without a kind")
			}
		}
	})
}

// TestExplainNeverFails: any sequence of events gets a sentence, which names no
// change that is not there.
func TestExplainNeverFails(t *testing.T) {
	kinds := []Kind{Started, Stopped, Acquired, Acquired, Lost, Lost, Handover, RoundLost, Denied, Paused, Fenced, Unfit, Link, PathDead}
	causes := []Cause{"", Expired, Unable, Yielded, Stopping, NoGate, Unwanted, AfterCrash, AfterReload, LinkDown, ByMove, Adopted}
	rapid.Check(t, func(t *rapid.T) {
		var events []Event
		at := noon
		for range rapid.IntRange(0, 30).Draw(t, "n") {
			at = at.Add(time.Duration(rapid.Int64Range(0, 5e9).Draw(t, "step")))
			e := Event{Time: at, Entry: Entry{
				Node: rapid.SampledFrom([]fsm.MemberID{"m1", "m2", "m3"}).Draw(t, "node"),
				Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Cause: rapid.SampledFrom(causes).Draw(t, "cause"),
				Unit: rapid.SampledFrom([]uint64{0, 7, 8}).Draw(t, "unit"),
				For:  time.Duration(rapid.Int64Range(0, 1e10).Draw(t, "for")),
			}}
			if rapid.Bool().Draw(t, "peer") {
				e.Peers = []fsm.MemberID{rapid.SampledFrom([]fsm.MemberID{"m1", "m2", "m3"}).Draw(t, "whom")}
			}
			events = append(events, e)
		}
		a := Explain(events, Question{Unit: 7, Name: "VI_1", Now: at})
		if !strings.HasPrefix(a.Sentence, "VI_1 ") && a.Found || !strings.HasSuffix(a.Sentence, ".") {
			t.Fatalf("%+v", a)
		}
		if a.Gap < 0 || a.Found && a.From == "" && a.To == "" {
			t.Fatalf("%+v", a)
		}
	})
}
