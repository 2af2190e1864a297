package main

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"lbcluster/e2e/lab/guest"
)

// tally passes test output on and counts the results of top-level tests in it.
type tally struct {
	w                io.Writer
	line             []byte // the unfinished last line
	pass, fail, skip int

	pkg    string
	failed map[string][]string // test names by package
	broken bool                // an invariant did not hold, or tests did not come to an end
}

// Write implements io.Writer.
func (t *tally) Write(p []byte) (int, error) {
	t.line = append(t.line, p...)
	for {
		i := bytes.IndexByte(t.line, '\n')
		if i < 0 {
			break
		}
		t.count(string(t.line[:i]))
		t.line = t.line[i+1:]
	}
	return t.w.Write(p)
}

// Flush counts a last line without a newline.
func (t *tally) Flush() { t.count(string(t.line)); t.line = nil }

func (t *tally) count(line string) {
	line = strings.TrimRight(line, "\r")
	pkg, begins := strings.CutPrefix(line, guest.PackageMark)
	switch {
	case strings.HasPrefix(line, "--- PASS: "):
		t.pass++
	case strings.HasPrefix(line, "--- FAIL: "):
		t.fail++
		if t.failed == nil {
			t.failed = map[string][]string{}
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "--- FAIL: "), " ")
		t.failed[t.pkg] = append(t.failed[t.pkg], name)
	case strings.HasPrefix(line, "--- SKIP: "):
		t.skip++
	case strings.Contains(line, guest.BrokenMark), strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "):
		t.broken = true
	case begins && !strings.Contains(pkg, ":"):
		t.pkg = pkg
	case begins: // how it ended
		t.broken = t.broken || len(t.failed[t.pkg]) == 0
	}
}

// again is what to run a second time of tests: those that failed, and nothing
// if an invariant was broken or the failure was no test's.
func (t *tally) again(tests []guest.Test) []guest.Test {
	if t.broken {
		return nil
	}
	var out []guest.Test
	for _, test := range tests {
		names := t.failed[test.Package]
		if len(names) == 0 {
			continue
		}
		test.Args = append(slices.DeleteFunc(slices.Clone(test.Args), func(a string) bool { return strings.HasPrefix(a, "-test.run=") }),
			"-test.run=^("+strings.Join(names, "|")+")$")
		out = append(out, test)
	}
	return out
}
