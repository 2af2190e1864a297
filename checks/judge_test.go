package checks

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts anew; commit only what you understand")

// TestTranscripts plays testdata/*.txt. A story is a line that describes the
// check, a line of results, "----", and what the judge made of each: when it
// was probed, the result, the state after it and the pause before the next.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			played := play(t, string(old))
			if *rewrite {
				if err := os.WriteFile(file, []byte(played), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if played != string(old) {
				t.Errorf("the judge now says:\n%s", played)
			}
		})
	}
}

func play(t *testing.T, text string) string {
	var out strings.Builder
	for i, story := range strings.Split(strings.TrimSpace(text), "\n\n") {
		told, _, _ := strings.Cut(story, "\n----")
		var c fsm.Check
		var trace strings.Builder
		for _, line := range strings.Split(told, "\n") {
			switch words := strings.Fields(line); {
			case len(words) == 0 || words[0] == "#":
			case words[0] == "check":
				c = parseCheck(t, words[1:])
			default:
				judge(&trace, c, words)
			}
		}
		if i > 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, "%s\n----\n%s", told, trace.String())
	}
	return out.String()
}

func parseCheck(t *testing.T, words []string) (c fsm.Check) {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%s: %v", w, err)
		}
		seconds := fsm.Duration(time.Duration(n) * time.Second)
		switch key {
		case "retry":
			c.Retry = n
		case "delay_before_retry":
			c.DelayBeforeRetry = seconds
		case "delay_loop":
			c.DelayLoop = seconds
		default:
			t.Fatalf("unknown word %s", w)
		}
	}
	return c
}

func judge(out *strings.Builder, c fsm.Check, results []string) {
	var s State
	var at time.Duration
	for _, r := range results {
		next, wait := Judge(c, s, r == "ok")
		word := "down"
		if next.Up {
			word = "up"
		}
		if next.Failures > 0 {
			word += fmt.Sprintf(", %d of %d forgiven", next.Failures, c.Retry)
		}
		if next.Up != s.Up || next.Known != s.Known {
			word += "  <- changed"
		}
		fmt.Fprintf(out, "%5s %-4s next in %-3s %s\n", at, r, wait, word)
		s, at = next, at+wait
	}
}

// TestJudgeProperties compares the judge with what one would say with the whole
// history at hand.
func TestJudgeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := fsm.Check{Retry: rapid.IntRange(0, 4).Draw(t, "retry"), DelayLoop: 6e9, DelayBeforeRetry: 1e9}
		history := rapid.SliceOfN(rapid.Bool(), 1, 40).Draw(t, "history")
		var s State
		for i, ok := range history {
			before := s
			var wait time.Duration
			s, wait = Judge(c, s, ok)
			if want := hindsight(c.Retry, history[:i+1]); s.Up != want || !s.Known {
				t.Fatalf("after %v: %+v, want up=%v", history[:i+1], s, want)
			}
			forgiven := !ok && s.Up
			if forgiven != (wait == c.DelayBeforeRetry.D()) || forgiven == (wait == c.DelayLoop.D()) {
				t.Fatalf("after %v: wait %s, state %+v", history[:i+1], wait, s)
			}
			if s.Failures < 0 || s.Failures > c.Retry || s.Failures > 0 && !s.Up {
				t.Fatalf("invariant broken: %+v after %+v", s, before)
			}
		}
	})
}

// hindsight: up if the last success is no more than retry failures ago.
func hindsight(retry int, history []bool) bool {
	failures := 0
	for i := len(history) - 1; i >= 0; i-- {
		if history[i] {
			return failures <= retry
		}
		failures++
	}
	return false
}

func TestOpinion(t *testing.T) {
	up, down, unknown := State{Known: true, Up: true}, State{Known: true}, State{}
	for _, c := range []struct {
		name      string
		states    []State
		up, known bool
	}{
		{"nothing seen", []State{unknown}, false, false},
		{"one of two seen up", []State{up, unknown}, false, false},
		{"both up", []State{up, up}, true, true},
		{"one down is enough", []State{unknown, down}, false, true},
		{"one down of two", []State{up, down}, false, true},
	} {
		if up, known := Opinion(c.states); up != c.up || known != c.known {
			t.Errorf("%s: up %v, known %v", c.name, up, known)
		}
	}
}
