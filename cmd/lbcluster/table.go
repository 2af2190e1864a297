package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// table lays rows out in columns without trailing blanks.
type table struct {
	b       strings.Builder
	w       *tabwriter.Writer
	columns int // of the first row; shorter rows are filled up, or they would end the column for those below
}

func newTable(head ...any) *table {
	t := &table{columns: len(head)}
	t.w = tabwriter.NewWriter(&t.b, 0, 8, 2, ' ', 0)
	t.row(head...)
	return t
}

func (t *table) row(cells ...any) {
	texts := make([]string, max(len(cells), t.columns))
	for i, c := range cells {
		texts[i] = fmt.Sprint(c)
	}
	fmt.Fprintln(t.w, strings.Join(texts, "\t"))
}

func (t *table) String() string { return t.indented("") }

// indented puts prefix before each line.
func (t *table) indented(prefix string) string {
	t.w.Flush() // into memory: cannot fail
	var out strings.Builder
	for line := range strings.Lines(t.b.String()) {
		out.WriteString(prefix + strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}
