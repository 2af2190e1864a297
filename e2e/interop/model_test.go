package interop

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// What two keepalived come to, step by step: the file is the specification.
func TestModel(t *testing.T) {
	var b strings.Builder
	for _, c := range Cells {
		fmt.Fprintf(&b, "== %s\n", c)
		p := NewPair(c)
		for _, s := range Steps {
			p = p.After(s.Event)
			fmt.Fprintf(&b, "%s: %s\n", s.Name, p.Holders)
		}
	}
	golden(t, "testdata/model.txt", []byte(b.String()))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			t.Fatalf("%s, line %d is not what is written now (go test -update writes it):\n%s", name, i+1, strings.Join(g[min(i, len(g)):], "\n"))
		}
	}
}

// A transcript of what cannot be read off the steps: the same event after
// another history.
func TestModelAfterOtherHistories(t *testing.T) {
	for _, c := range []struct {
		cell   Cell
		events []Event
		want   string
	}{
		{Cell{Higher, false}, []Event{ClusterGoes}, "nobody"},
		{Cell{Lower, true}, []Event{PeerStarts, PeerFreezes}, "cluster"},
		{Cell{Lower, true}, []Event{PeerStarts, PeerFreezes, PeerThaws}, "cluster"},
		{Cell{Lower, false}, []Event{PeerStarts, PeerFreezes, PeerThaws}, "peer"},
		{Cell{Higher, true}, []Event{PeerStarts, ClusterGoes, PeerGoes, ClusterStarts}, "cluster"},
		{Cell{EqualHigh, false}, []Event{PeerStarts, ClusterGoes, ClusterStarts}, "peer"}, // an address never preempts
		{Cell{EqualHigh, false}, []Event{PeerStarts, PathCut, PathHeals}, "cluster"},
		{Cell{EqualLow, true}, []Event{PeerStarts, PathCut, PathHeals}, "peer"},
		{Cell{EqualLow, true}, []Event{PeerStarts, PathCut, ClusterGoes}, "peer"},
		{Cell{Lower, false}, []Event{PeerStarts, DirectorGoes, DirectorReturns}, "peer"},
	} {
		p := NewPair(c.cell)
		for _, e := range c.events {
			p = p.After(e)
		}
		if p.Holders.String() != c.want {
			t.Errorf("%s, %v: held by %s, want %s", c.cell, c.events, p.Holders, c.want)
		}
	}
}
