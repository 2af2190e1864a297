package main

import (
	"bytes"
	"reflect"
	"testing"

	"lbcluster/e2e/lab/guest"
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

// Only tests that failed run again, in their packages, and nothing does after a
// broken invariant or a binary that ended without saying which test it was.
func TestWhoRunsAgain(t *testing.T) {
	tests := []guest.Test{{Package: "p/a", Args: []string{"-test.v", "-test.run=Test"}}, {Package: "p/b"}, {Package: "p/c"}}
	const out = "=== LAB   p/a\r\n--- FAIL: TestA (0.01s)\r\n--- PASS: TestB (0.01s)\n--- FAIL: TestC (0.01s)\n=== LAB   p/a: exit status 1\n" +
		"=== LAB   p/b\n--- PASS: TestA (0.01s)\n"
	for _, c := range []struct {
		more string
		want []guest.Test
	}{
		{"", []guest.Test{{Package: "p/a", Args: []string{"-test.v", "-test.run=^(TestA|TestC)$"}}}},
		{"=== LAB   p/c\n=== LAB   p/c: exit status 2\n", nil},
		{"=== LAB   p/c\n--- FAIL: TestX (0.01s)\npanic: x\n=== LAB   p/c: exit status 2\n", nil},
		{"    x_test.go:1: BROKEN: two MACs answered\n", nil},
	} {
		var w bytes.Buffer
		count := &tally{w: &w}
		_, _ = count.Write([]byte(out + c.more))
		count.Flush()
		if got := count.again(tests); !reflect.DeepEqual(got, c.want) {
			t.Errorf("after %q: %+v, want %+v", c.more, got, c.want)
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
