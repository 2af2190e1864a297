package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
)

// TestWatchStatus: it comes again and again, also while the daemon is away, and ends
// well when interrupted.
func TestWatchStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := apitest.NewBusy()
		var out bytes.Buffer
		a := &app{out: &out, errOut: &out}
		asked := 0
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		err := a.watchStatus(ctx, 2*time.Second, func(ctx context.Context) (api.StatusReport, error) {
			if asked++; asked == 2 {
				return api.StatusReport{}, errors.New("the daemon does not answer")
			}
			local := f.Local()
			return api.BuildReport(f.Table(), local, f.Others(ctx), apitest.Now), nil
		})
		if err != nil || asked != 4 {
			t.Errorf("asked %d times, %v", asked, err)
		}
		if n := strings.Count(out.String(), "The cluster survives 1 more failure"); n != 3 || !strings.Contains(out.String(), "lbcluster: the daemon does not answer") {
			t.Errorf("drawn %d times:\n%s", n, out.String())
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Error("what is no terminal gets a terminal's commands")
		}
	})
}

// TestDrawn: what is drawn fits, and says what does not.
func TestDrawn(t *testing.T) {
	for _, c := range []struct {
		text          string
		rows, columns int
		want          string
	}{
		{"a\nb\n", 24, 80, "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"},
		{"abcdef\n", 24, 4, "\x1b[Habc…\x1b[K\n\x1b[J"},
		{"äöüß\n", 24, 4, "\x1b[Häöüß\x1b[K\n\x1b[J"},
		{"1\n2\n3\n4\n5\n", 4, 80, "\x1b[H1\x1b[K\n2\x1b[K\n… and 3 lines more: lbcluster status\x1b[K\n\x1b[J"},
		{"1\n2\n3\n", 4, 80, "\x1b[H1\x1b[K\n2\x1b[K\n3\x1b[K\n\x1b[J"},
	} {
		got := drawn(c.text, c.rows, c.columns)
		if got != c.want {
			t.Errorf("%q in %dx%d:\n%q, want\n%q", c.text, c.rows, c.columns, got, c.want)
		}
		if strings.Count(got, "\n") > c.rows-1 {
			t.Errorf("%q rolls a screen of %d rows", got, c.rows)
		}
	}
}

// TestJudgeStatus: whatever is in a text, the line is one line with one bar.
func TestJudgeStatus(t *testing.T) {
	f := apitest.NewBusy()
	r := api.BuildReport(f.Table(), f.Local(), f.Others(t.Context()), apitest.Now)
	for want, change := range map[verdict]func(*api.StatusReport){
		verdictOK: func(r *api.StatusReport) { r.Findings, r.Warnings = nil, nil },
		verdictWarning: func(r *api.StatusReport) {
			r.Findings = nil
			r.Warnings = []api.LocatedWarning{{Member: "dir1", Text: "a|b\nc"}}
		},
		verdictCritical: func(r *api.StatusReport) {
			r.Findings = []api.Finding{{Severity: api.Warn}, {Severity: api.Bad, Text: "x | y\nz"}}
		},
		verdictUnknown: func(r *api.StatusReport) { r.Enrolled = false },
	} {
		one := r
		change(&one)
		v, line := judgeStatus(one, nil)
		if v != want || strings.Contains(line, "\n") || v != verdictUnknown && strings.Count(line, "|") != 1 {
			t.Errorf("%v: %v %q", want, v, line)
		}
		if v != verdictOK && v != verdictUnknown && !strings.Contains(line, "/") {
			t.Errorf("%v: %q", v, line)
		}
	}
	if v, line := judgeStatus(api.StatusReport{}, errors.New("a\nb")); v != verdictUnknown || line != "a b" {
		t.Errorf("%v %q", v, line)
	}
}
