package bench

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	update = flag.Bool("update", false, "write docs/survival.md anew")
	newer  = flag.String("record", "", "with -update: take this record of a run in first")
)

const (
	recordOf = "../testdata/events.json"
	pageOf   = "../../docs/survival.md"
)

// The page tells what was recorded.
func TestSurvivalPage(t *testing.T) {
	record := readRecordFile(t, recordOf)
	if *update {
		if *newer != "" {
			record = Merge(record, readRecordFile(t, *newer))
			text, err := MarshalRecord(record)
			if err != nil {
				t.Fatal(err)
			}
			write(t, recordOf, text)
		}
		write(t, pageOf, Page(record))
	}
	page, err := os.ReadFile(pageOf)
	if err != nil {
		t.Fatal(err)
	}
	if got := Page(record); string(got) != string(page) {
		t.Errorf("%s is not what the record gives (go test ./e2e/bench -update writes it):\n%s", pageOf, got)
	}
}

func readRecordFile(t *testing.T, name string) []Entry {
	t.Helper()
	if _, err := os.Stat("../../docs"); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the sources are not here")
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	record, err := ReadRecord(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return record
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func heldTrial(held, young, fail, resets float64) trial {
	return trial{values: map[quantity]float64{heldBroken: held, youngBroken: young, failed: fail, reset: resets, twoMAC: 0}}
}

func TestRecordRoundTrip(t *testing.T) {
	e := &heldEvents[0]
	stalledOnce := heldTrial(9, 9, 9, 9)
	stalledOnce.stalled = time.Second
	r := results{}
	r.add(e, lbcHeld, heldTrial(0, 3, 1, 0))
	r.add(e, lbcHeld, heldTrial(2, 0, 0, 0))
	r.add(e, lbcHeld, stalledOnce)
	r.add(e, kaHeld, stalledOnce)
	if !r.clean(e, lbcHeld) || r.clean(e, kaHeld) || r.clean(e, lbcRR) {
		t.Error("a marked trial is a clean one, or no clean one is seen")
	}
	text, err := MarshalRecord(r.record())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadRecord(text)
	if err != nil || !reflect.DeepEqual(got, r.record()) || len(got) != 2 {
		t.Fatalf("got %+v, %v, from\n%s", got, err, text)
	}
	want := Entry{Event: e.name, System: string(lbcHeld), Trials: 3, Marked: 1}
	if v := got[0].Values[string(heldBroken)]; v != (Figures{0, 1, 2}) || got[0].Event != want.Event || got[0].Trials != 3 || got[0].Marked != 1 {
		t.Errorf("got %+v", got[0])
	}
	if _, err := ReadRecord([]byte("{}")); err == nil {
		t.Error("something else was read")
	}
}

func TestMerge(t *testing.T) {
	older := []Entry{{Event: "held-move", System: string(lbcHeld), Trials: 1}, {Event: "held-move", System: string(kaHeld), Trials: 1}, {Event: "held-cut", System: string(lbcHeld), Trials: 1}}
	newer := []Entry{{Event: "held-cut", System: string(kaHeld), Trials: 2}, {Event: "held-roll", System: string(lbcHeld), Trials: 2}}
	var got []string
	for _, e := range Merge(older, newer) {
		got = append(got, e.Event+" "+e.System)
	}
	want := "held-move lbcluster, mh and sync; held-move keepalived, rr and sync; held-roll lbcluster, mh and sync; held-cut keepalived, rr and sync"
	if strings.Join(got, "; ") != want {
		t.Errorf("got %q", got)
	}
}

func TestPageCells(t *testing.T) {
	e := &heldEvents[0]
	en := e.entry(lbcHeld, []trial{heldTrial(0, 3, 1, 0), heldTrial(2, 0, 0, 5)})
	if got := pageCell(&en); got != "2 / 3 / 1 (+5 reset)" {
		t.Error(got)
	}
	if got := pageCell(&Entry{Trials: 1, Marked: 1}); got != "no clean trial" {
		t.Error(got)
	}
	page := string(Page([]Entry{en}))
	for _, want := range []string{
		"| The VIP is moved as an operator would | 2 / 3 / 1 (+5 reset) | - |",
		"* `held-cut`: The owner's link dies: its cable is pulled.\n",
		"lbcluster, mh and sync 2.\nTrials",
		"at a time: never.",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
}

// Settings that are there for comparison promise only what must never be.
func TestHeldTargets(t *testing.T) {
	for i := range heldEvents {
		e := &heldEvents[i]
		for s, want := range map[system]bool{lbcHeld: true, lbcRRSync: false, lbcRR: false, kaHeld: false} {
			if _, ok := e.target(s, heldBroken); ok != want {
				t.Errorf("%s, %s: a target for held connections: %v", e.name, s, ok)
			}
			if _, ok := e.target(s, twoMAC); ok != s.ours() {
				t.Errorf("%s, %s: a target for two MACs: %v", e.name, s, ok)
			}
		}
		if e.trials[lbcHeld] == 0 || e.trials[kaHeld] == 0 {
			t.Errorf("%s is not measured with %s and %s", e.name, lbcHeld, kaHeld)
		}
	}
}

func TestHeldPlan(t *testing.T) {
	p, err := readPlan([]string{"held-move", "held-roll"})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[system][2]int{lbcHeld: {2, 2}, lbcRR: {1, 0}, kaHeld: {1, 1}, lbcDefault: {0, 0}} {
		if got := [2]int{p.of(&heldEvents[0], s), p.of(&heldEvents[1], s)}; got != want {
			t.Errorf("%s: %v trials, want %v", s, got, want)
		}
	}
	if !strings.Contains(list(), "  held-freeze The owner's daemon is frozen") {
		t.Errorf("the list is\n%s", list())
	}
}

func TestHeldConfigurations(t *testing.T) {
	const example = "global_defs {\n}\nvirtual_server 1.2.3.4 80 {\n    lb_algo rr\n    real_server 172.25.88.2 80 {\n        weight 1\n    }\n    real_server 172.25.88.3 80 {\n        weight 1\n    }\n}\n"
	conf := heldConf(example, true, recommended)
	for _, want := range []string{"lvs_sync_daemon eth0 VI_1", "lb_algo mh\n    mh-port\n    mh-fallback\n"} {
		if !strings.Contains(conf, want) {
			t.Errorf("%q is not in\n%s", want, conf)
		}
	}
	if heldConf(example, false, "rr") != example {
		t.Error("nothing was to change")
	}
	if got := drained(example); !strings.Contains(got, "172.25.88.2 80 {\n        weight 0") || !strings.Contains(got, "172.25.88.3 80 {\n        weight 1") {
		t.Errorf("got\n%s", got)
	}
}
