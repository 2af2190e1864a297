package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// tales are what the three members of a script's cluster recorded of a unit.
var tales = map[string]func(unit uint64) []journal.Record{
	// dir1 is cut off; dir2's wall clock is an hour ahead.
	"cut": func(unit uint64) []journal.Record {
		at := func(s float64) time.Time { return apitest.Now.Add(time.Duration(s * float64(time.Second))) }
		e := func(s float64, kind journal.Kind, unit uint64, cause journal.Cause, length time.Duration, peers ...fsm.MemberID) journal.Entry {
			return journal.Entry{At: at(s), Unit: unit, Kind: kind, Cause: cause, For: length, Peers: peers}
		}
		one := []journal.Entry{
			e(-3600, journal.Started, 0, journal.FirstStart, 0), e(-3590, journal.Acquired, unit, "", 0),
			e(3.06, journal.RoundLost, unit, "", 60*time.Millisecond, "m2", "m3"),
			e(3.72, journal.Lost, unit, journal.Expired, 0),
			e(3.8, journal.Lost, unit+1, journal.Expired, 0), // another router's: not shown
		}
		two := []journal.Entry{e(3604.13, journal.Acquired, unit, "", 0, "m1")}
		three := []journal.Entry{e(3.5, journal.PathDead, 0, "", 0, "m1")}
		three[0].Text = "UDP"
		return withNodes([]journal.Record{{Node: "m1", Name: "dir1", Entries: one},
			{Node: "m2", Name: "dir2", Entries: two, Offset: time.Hour, Margin: time.Millisecond}, {Node: "m3", Name: "dir3", Entries: three, Dropped: 4}})
	},
}

func withNodes(records []journal.Record) []journal.Record {
	for i := range records {
		records[i].Now = apitest.Now.Add(time.Minute + records[i].Offset)
		for n := range records[i].Entries {
			records[i].Entries[n].Node = records[i].Node
		}
	}
	return records
}

func TestReadWhen(t *testing.T) {
	now := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	for word, want := range map[string]time.Time{
		"":                     {},
		"12:00":                time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		"12:00:03.5":           time.Date(2026, 11, 22, 12, 0, 3, 5e8, time.UTC),
		"14:00":                time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC),
		"2026-11-20 01:02:03":  time.Date(2026, 11, 20, 1, 2, 3, 0, time.UTC),
		"2026-11-20T01:02:03Z": time.Date(2026, 11, 20, 1, 2, 3, 0, time.UTC),
	} {
		if got, err := readWhen(word, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", word, got, err)
		}
	}
	if _, err := readWhen("yesterday", now); err == nil {
		t.Error("a word that is no time was taken")
	}
}

// TestStartCause: how the process before this one ended.
func TestStartCause(t *testing.T) {
	e := func(kind journal.Kind, boot string) journal.Entry { return journal.Entry{Kind: kind, BootID: boot} }
	for _, c := range []struct {
		before []journal.Entry
		want   journal.Cause
	}{
		{nil, journal.FirstStart},
		{[]journal.Entry{e(journal.Started, "b"), e(journal.Lost, "b")}, journal.AfterCrash},
		{[]journal.Entry{e(journal.Started, "b"), e(journal.Stopped, "b"), e(journal.Lost, "b")}, journal.AfterStop},
		{[]journal.Entry{e(journal.Stopped, "b"), e(journal.Started, "b")}, journal.AfterCrash},
		{[]journal.Entry{e(journal.Started, "b"), e(journal.Reloaded, "b")}, journal.AfterReload},
		{[]journal.Entry{e(journal.Started, "a"), e(journal.Stopped, "a")}, journal.AfterBoot},
	} {
		if got := startCause(c.before, "b"); got != c.want {
			t.Errorf("%+v: %s, want %s", c.before, got, c.want)
		}
	}
}

// TestRecorder: a daemon that is in no cluster yet answers with its record, of
// the time asked for, and notes trouble once.
func TestRecorder(t *testing.T) {
	d := &theDaemon{cfg: NodeConfig{Name: "dir1"}, journal: journal.New(journal.Config{Dir: t.TempDir()})}
	var err error
	if d.node, err = cluster.New(cluster.Config{Dir: t.TempDir(), Name: "dir1", Addr: netip.MustParseAddrPort("127.0.0.1:7500")}); err != nil {
		t.Fatal(err)
	}
	d.noteStart(t.Context())
	set := d.noteFit(func(bool, string) {})
	set(false, "no gate")
	set(false, "no gate")
	set(true, "")
	b, err := d.answerJournal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var r journal.Record
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	var kinds []journal.Kind
	for _, e := range r.Entries {
		kinds = append(kinds, e.Kind)
	}
	if !slices.Equal(kinds, []journal.Kind{journal.Started, journal.Unfit, journal.Fit}) || r.Entries[0].Cause != journal.FirstStart {
		t.Errorf("%+v", r.Entries)
	}
	if r.NowBoot == 0 || r.Now.IsZero() || r.BootID == "" {
		t.Errorf("no clocks: %+v", r)
	}
}

// TestDiskTrouble: only what is new is noted.
func TestDiskTrouble(t *testing.T) {
	was := cluster.DiskStatus{AppendErrors: 1, LastError: "old"}
	if got := diskTrouble(was, was); got != "" {
		t.Errorf("nothing happened: %q", got)
	}
	now := was
	now.AppendTimeouts, now.LastError = 1, "append takes longer than 3s"
	if got := diskTrouble(was, now); got != "append takes longer than 3s" {
		t.Errorf("%q", got)
	}
}

// TestLostCause: the lease's words for the end of a tenure.
func TestLostCause(t *testing.T) {
	for why, want := range map[string]journal.Cause{
		"the lease ran out: no majority of the voters answered in time": journal.Expired,
		"not fit for it: eth0 has no carrier":                           journal.Unable,
		"the daemon stops":                                              journal.Stopping,
		"something new":                                                 "",
	} {
		if got := lostCause(why); got != want {
			t.Errorf("%q: %q, want %q", why, got, want)
		}
	}
}

// TestEveryKindHasWords: what a person reads is never empty or a bare constant
// with a hyphen.
func TestEveryKindHasWords(t *testing.T) {
	for _, k := range []journal.Kind{
		journal.Started, journal.Stopped, journal.Reloaded, journal.Acquired, journal.Lost, journal.Handover, journal.RoundLost,
		journal.Denied, journal.GateClosed, journal.GateFailed, journal.Forced, journal.ForceEnded, journal.Unfit, journal.Fit,
		journal.Link, journal.Paused, journal.Clock, journal.PathDead, journal.PathBack, journal.Disk, journal.Fenced,
	} {
		text := eventText(journal.Event{Entry: journal.Entry{Kind: k, Peers: []fsm.MemberID{"m2"}, For: time.Second, Times: 2}}, map[fsm.MemberID]string{"m2": "dir2"})
		if text == "" || strings.Contains(text, "-") || strings.Contains(text, "m2") || !strings.Contains(text, "1.0 s (2 times)") {
			t.Errorf("%s: %q", k, text)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	ended, stop := context.WithCancel(t.Context())
	stop()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want string
	}{
		{t.Context(), fmt.Errorf("asking m2: Get %q: %w", "http://m2/v1/ask/journal", refused), "connection refused"},
		{t.Context(), errors.New("halted"), "halted"},
		{ended, refused, "no answer within 3s"},
	} {
		if got := noAnswer(c.ctx, c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
