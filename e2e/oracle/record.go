package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// WriteRecord writes the facts of files, by their names, one on a line: what
// [ReadRecord] reads.
func WriteRecord(record map[string]Facts) []byte {
	var b strings.Builder
	for _, file := range slices.Sorted(maps.Keys(record)) {
		fmt.Fprintf(&b, "== %s\n", file)
		for _, f := range record[file].Sorted() {
			fmt.Fprintf(&b, "%s: %s = %s\n", f.Element, f.Field, record[file][f])
		}
	}
	return []byte(b.String())
}

// ReadRecord reads what [WriteRecord] wrote.
func ReadRecord(text []byte) (map[string]Facts, error) {
	record := map[string]Facts{}
	var facts Facts
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		if file, ok := strings.CutPrefix(l, "== "); ok {
			facts = Facts{}
			record[file] = facts
			continue
		}
		name, value, ok := strings.Cut(l, " = ")
		i := strings.LastIndex(name, ": ")
		if !ok || i < 0 || facts == nil {
			return nil, fmt.Errorf("a record has the line %q", l)
		}
		facts[Fact{name[:i], name[i+2:]}] = value
	}
	return record, nil
}
