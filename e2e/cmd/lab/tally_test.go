package main

import (
	"bytes"
	"testing"
)

func TestTally(t *testing.T) {
	const out = "=== RUN   TestA\n    --- FAIL: TestA/sub (0.00s)\n--- PASS: TestA (0.01s)\n--- FAIL: TestB (0.01s)\nx --- PASS: no\n--- SKIP: TestC (0.00s)\n--- PASS: TestD (0.01s)"
	for _, size := range []int{1, 7, len(out)} { // however the console cuts it
		var w bytes.Buffer
		c := &tally{w: &w}
		for rest := []byte(out); len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		c.Flush()
		if c.pass != 2 || c.fail != 1 || c.skip != 1 {
			t.Errorf("in pieces of %d: %d passed, %d failed, %d skipped", size, c.pass, c.fail, c.skip)
		}
		if w.String() != out {
			t.Errorf("the output was changed: %q", w.String())
		}
	}
}

func TestNotSource(t *testing.T) {
	for rel, want := range map[string]bool{
		"e2e/pair_test.go": true, ".lab/root": true, ".git": true, "bin/lbcluster": true, "a.test": true,
		"e2e/testdata/keepalived-pair.conf": false, "deploy/lbcluster.service": false, "cluster/bin": false, "Makefile": false,
	} {
		if got := notSource(rel); got != want {
			t.Errorf("notSource(%s) = %v", rel, got)
		}
	}
}
