package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// step is one fault of a schedule: what happens, to which directors. It is
// written as words, so that a schedule that failed can be given again.
type step struct {
	fault string
	hosts []string // "dir1" to "dir3", or "owner" as it is when the step begins
}

func (s step) String() string { return strings.Join(append([]string{s.fault}, s.hosts...), " ") }

// needs is how many directors each fault names.
var needs = map[string]int{
	"freeze": 1, "kill": 1, "stop": 1, "power": 1, "cable": 1, "detach": 1, "flap": 1,
	"apart": 2, "oneway": 2, "vrrp": 1, "udp": 1, "raft": 1, "gossip": 1, "alone": 1,
	"loss": 1, "bad": 1, "disk": 1, "address": 1,
	"freezes": 2, "lossy": 0, "clock": 0, "shatter": 0, "killall": 0,
}

// draw makes n random steps.
func draw(rnd *rand.Rand, n int) []step {
	faults := make([]string, 0, len(needs))
	for f := range needs {
		faults = append(faults, f)
	}
	slices.Sort(faults) // a map has no order, a seed must give one
	var steps []step
	for range n {
		f := faults[rnd.IntN(len(faults))]
		who := []string{"dir1", "dir2", "dir3"}
		rnd.Shuffle(len(who), func(i, j int) { who[i], who[j] = who[j], who[i] })
		if needs[f] == 1 && rnd.IntN(2) == 0 {
			who[0] = "owner"
		}
		steps = append(steps, step{f, who[:needs[f]]})
	}
	return steps
}

// parseSteps reads what step.String writes, one a line or divided by ";".
func parseSteps(text string) ([]step, error) {
	var steps []step
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		w := strings.Fields(line)
		if len(w) == 0 || strings.HasPrefix(w[0], "#") {
			continue
		}
		n, ok := needs[w[0]]
		if !ok || len(w)-1 != n {
			return nil, fmt.Errorf("step %q: want a known fault and the directors it names (%d)", line, n)
		}
		for _, h := range w[1:] {
			if !slices.Contains([]string{"dir1", "dir2", "dir3", "owner"}, h) {
				return nil, fmt.Errorf("step %q: no director is called %q", line, h)
			}
		}
		if n == 2 && (w[1] == w[2] || w[1] == "owner" || w[2] == "owner") {
			return nil, fmt.Errorf("step %q: want two different directors by name", line)
		}
		steps = append(steps, step{w[0], w[1:]})
	}
	return steps, nil
}

func write(steps []step) string {
	var s []string
	for _, st := range steps {
		s = append(s, st.String())
	}
	return strings.Join(s, "; ")
}

func TestSchedules(t *testing.T) {
	a := draw(rand.New(rand.NewPCG(7, 0)), 200)
	if b := draw(rand.New(rand.NewPCG(7, 0)), 200); write(a) != write(b) {
		t.Error("one seed gave two schedules")
	}
	if c := draw(rand.New(rand.NewPCG(8, 0)), 200); write(a) == write(c) {
		t.Error("two seeds gave one schedule")
	}
	back, err := parseSteps(write(a))
	if err != nil || write(back) != write(a) {
		t.Errorf("read back differently: %v", err)
	}
	for _, s := range a {
		if faultsOf[s.fault] == nil {
			t.Errorf("nobody knows how to do %q", s.fault)
		}
	}
	for _, bad := range []string{"melt dir1", "freeze", "freeze dir9", "apart dir1 dir1", "apart owner dir1", "kill dir1 dir2"} {
		if _, err := parseSteps(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
