package dataplane

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what the code does into testdata; commit only what you understand")

// transcripts runs each file that matches pattern: blocks, separated by empty
// lines, of input lines, "----" and the output that run must give for them. A
// line that begins with # is a comment. fresh makes run for each file.
func transcripts(t *testing.T, pattern string, fresh func(t *testing.T) (run func(input string) string)) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts at %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			run := fresh(t)
			var out []string
			for _, block := range strings.Split(strings.TrimSpace(string(b)), "\n\n") {
				out = append(out, play(t, block, run))
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// play runs one block and returns it with the output as it is.
func play(t *testing.T, block string, run func(string) string) string {
	t.Helper()
	input, want, ok := strings.Cut(block, "\n----")
	if !ok {
		return block // comments alone
	}
	var lines []string
	for _, l := range strings.Split(input, "\n") {
		if !strings.HasPrefix(l, "#") {
			lines = append(lines, l)
		}
	}
	got := strings.TrimRight(run(strings.Join(lines, "\n")), "\n")
	if want = strings.Trim(want, "\n"); got != want && !*rewrite {
		t.Errorf("%s\n---- got\n%s\n---- want\n%s", input, got, want)
	}
	if got != "" {
		got = "\n" + got
	}
	return input + "\n----" + got
}
