package interop

import (
	"os"
	"slices"
	"testing"
)

const (
	recordsOf = "../testdata/interop/"
	pageOf    = "../../docs/interop.md"
	version   = "2.2.7 (Debian 12)"
)

// What was recorded of each batch is right, and the page tells it.
func TestRecordsAndPage(t *testing.T) {
	records := map[string][]Row{}
	for _, b := range Batches {
		text, err := os.ReadFile(recordsOf + b.String() + ".txt")
		if err != nil {
			t.Fatalf("%v: make interop records what keepalived does", err)
		}
		rows, err := ReadRecord(text)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		records[b.String()] = rows
		judged(t, b, rows)
	}
	golden(t, pageOf, Page(version, records))
}

// judged wants a row of each cell in each step, and each to be right.
func judged(t *testing.T, b Batch, rows []Row) {
	t.Helper()
	if len(rows) != len(Steps)*len(Cells) {
		t.Errorf("%s: %d rows, want %d steps of %d cells", b, len(rows), len(Steps), len(Cells))
	}
	pairs := start()
	for _, s := range Steps {
		for i, c := range Cells {
			at := slices.IndexFunc(rows, func(r Row) bool { return r.Step == s.Name && r.Cell == c })
			if at < 0 {
				t.Fatalf("%s: nothing is recorded of %s: %s", b, s.Name, c)
			}
			for _, wrong := range Judge(pairs[i], s, rows[at].Seen) {
				t.Errorf("%s: %s: %s: %s", b, s.Name, c, wrong)
			}
			pairs[i] = pairs[i].After(s.Event)
		}
	}
}
