package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parts splits a file of testdata/grammar into its files.
func parts(t *testing.T, name string) memory {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m := memory{}
	for _, part := range strings.Split("\n"+string(data), "\n-- ")[1:] {
		head, body, ok := strings.Cut(part, " --\n")
		if !ok {
			t.Fatalf("%s: no head in %.40q", name, part)
		}
		m[head] = strings.TrimRight(body, "\n") + "\n"
	}
	return m
}

// unknown is what keepalived calls unknown keywords in a file that has no other
// keyword than global_defs, which holds no block.
func unknown(tokens []token) string {
	var list []string
	begin, inside, waiting := true, false, false
	for _, tok := range tokens {
		switch tok.kind {
		case boundary:
			begin = true
		case open:
			inside = inside || waiting
			waiting = false
		case shut:
			if !inside {
				list = append(list, "}")
			}
			inside, begin = false, true
		case word:
			switch {
			case begin && tok.text == "global_defs" && !inside:
				waiting = true
			case begin:
				list = append(list, tok.text)
			}
			begin = false
		}
	}
	return strings.Join(list, "\n") + "\n"
}

// TestGrammar: statements come out of each file of testdata/grammar as keepalived
// 2.2.7 sees them. What it says of them (keepalived -t --config-id vm) stands at
// each file's end, noted from the real program.
func TestGrammar(t *testing.T) {
	files, err := filepath.Glob("testdata/grammar/*.txt")
	if err != nil || len(files) < 6 {
		t.Fatalf("the files are missing: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			m := parts(t, file)
			r := &report{order: map[string]int{}, lenient: true}
			l := newLexer(r, Reader{Open: m.open, Glob: m.glob, ConfigID: "vm"})
			l.first("k.conf")
			if got := unknown(l.tokens); got != m["unknown"] {
				t.Errorf("got:\n%s\nkeepalived:\n%s\nproblems:\n%snotices:\n%s", got, m["unknown"], lines(r.problems), lines(r.notices))
			}
			if len(r.problems) > 0 {
				t.Error(lines(r.problems))
			}
		})
	}
}
