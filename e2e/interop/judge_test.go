package interop

import (
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	step := func(name string) Step {
		for _, s := range Steps {
			if s.Name == name {
				return s
			}
		}
		t.Fatalf("no step %q", name)
		return Step{}
	}
	served := NewPair(Cell{Higher, false}).After(PeerStarts)
	cut := served.After(PathCut)
	cluster, peer, both := Holders{Cluster: true}, Holders{Peer: true}, Holders{true, true}
	for _, c := range []struct {
		before Pair
		step   string
		seen   Seen
		want   string // part of each, divided by "; "
	}{
		{served, StepOwnerDies, Seen{Holders: cluster, After: time.Second, Nobody: time.Second}, ""},
		{served, StepOwnerDies, Seen{Holders: cluster, Taken: 1}, "the peer took it 1 times in between"},
		{served, StepOwnerDies, Seen{Holders: peer, Taken: 1}, "held by peer, two keepalived would have it held by cluster; the peer took it"},
		{served, StepOwnerStops, Seen{Holders: cluster, Twice: 30 * time.Millisecond}, ""},
		{served, StepOwnerStops, Seen{Holders: cluster, Twice: 2 * time.Second}, "two directors had it for 2s"},
		{served, StepNextDies, Seen{Holders: peer, After: 4 * time.Second, Nobody: 3 * time.Second, Taken: 1}, ""},
		{served, StepNextDies, Seen{Holders: peer, After: 14 * time.Second, Taken: 1}, "that took 14s"},
		{served, StepNextDies, Seen{Holders: peer, After: 4 * time.Second, Both: 3 * time.Second, Taken: 1}, "had it both for 3s"},
		{served, StepNextDies, Seen{Holders: both}, "held by both; had it both"},
		{served, StepPathCut, Seen{Holders: both, Both: time.Minute, Taken: 1}, ""},
		{cut, StepPathHeals, Seen{Holders: cluster, After: time.Second, Both: time.Second}, ""},
		{cut, StepPathHeals, Seen{Holders: cluster, After: 20 * time.Second}, "that took 20s"},
		{cut, StepPathHeals, Seen{Holders: peer, After: time.Second}, "held by peer"},
	} {
		if c.seen.Holders == both && c.step == StepNextDies {
			c.seen.Both = 5 * time.Second
		}
		got := Judge(c.before, step(c.step), c.seen)
		words := strings.Split(c.want, "; ")
		if (c.want == "") != (len(got) == 0) || c.want != "" && len(got) != len(words) {
			t.Errorf("%s: %+v: %q, want %q", c.step, c.seen, got, c.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], words[i]) {
				t.Errorf("%s: %+v: %q, want %q", c.step, c.seen, got, c.want)
			}
		}
	}
}
