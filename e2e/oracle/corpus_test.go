package oracle

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lbcluster/fsm/conf"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	corpus    = "../testdata/corpus"
	recordOf  = "../testdata/keepalived-2.2.7.txt"
	explained = "../testdata/oracle.txt"
	pageOf    = "../../docs/keepalived-differences.md"
	version   = "2.2.7 (Debian 12)"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record(t *testing.T) map[string]Facts {
	t.Helper()
	r, err := ReadRecord(read(t, recordOf))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func table(t *testing.T) []Explained {
	t.Helper()
	e, err := ReadExplained(read(t, explained))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestCorpus compares what is read of each file with what keepalived was
// recorded to make of it, and writes the page of differences.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob(corpus + "/*.conf")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v; want at least 40", len(files), err)
	}
	recorded, reasons := record(t), table(t)
	var refused []Refusal
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".conf")
		result, problems := conf.Reader{Open: os.ReadFile, Glob: filepath.Glob, ConfigID: HostName}.Read(f)
		for _, p := range problems {
			refused = append(refused, Refusal{name, p.Line, p.Keyword, p.Text})
		}
		theirs, ok := recorded[name]
		if !ok {
			t.Errorf("%s.conf: nothing is recorded of keepalived: run TestOracle in the lab, which says what to do", name)
		}
		if len(problems) > 0 || !ok {
			continue
		}
		ours := FromConfig(result.Config)
		ours.AddRules(Rules(result.Config))
		for _, d := range Unexplained(reasons, Compare(name, theirs, ours)) {
			t.Errorf("not explained: %v", d)
		}
	}
	for _, c := range Unused(reasons) {
		t.Errorf("explained, but not there: %s | %s | %s | %s", c.File, c.Fact, c.Theirs, c.Ours)
	}
	golden(t, pageOf, Page(version, len(files), reasons, refused))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := read(t, name); string(got) != string(want) {
		t.Errorf("%s is not what the corpus yields; go test ./e2e/oracle -update writes it, then read what changed:\n%s", name, firstChange(string(want), string(got)))
	}
}

// firstChange shows the first line that differs.
func firstChange(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "- " + w[i] + "\n+ " + g[i]
		}
	}
	return "one is longer"
}
