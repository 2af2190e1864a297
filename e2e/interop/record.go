package interop

import (
	"fmt"
	"strings"
	"time"
)

// Row is what was seen of one cell in one step.
type Row struct {
	Step string
	Cell Cell
	Seen
}

// WriteRecord writes the rows of a run, one on a line: what [ReadRecord] reads.
func WriteRecord(rows []Row) []byte {
	var b strings.Builder
	step := ""
	for _, r := range rows {
		if r.Step != step {
			step = r.Step
			fmt.Fprintf(&b, "== %s\n", step)
		}
		fmt.Fprintf(&b, "%s: %s after %v, both %v, nobody %v, twice %v, taken %d\n", r.Cell, r.Holders,
			ms(r.After), ms(r.Both), ms(r.Nobody), ms(r.Twice), r.Taken)
	}
	return []byte(b.String())
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// ReadRecord reads what [WriteRecord] wrote.
func ReadRecord(text []byte) ([]Row, error) {
	var rows []Row
	step := ""
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		if name, ok := strings.CutPrefix(l, "== "); ok {
			step = name
			continue
		}
		r, err := readRow(l)
		if err != nil || step == "" {
			return nil, fmt.Errorf("a record has the line %q: %v", l, err)
		}
		r.Step = step
		rows = append(rows, r)
	}
	return rows, nil
}

func readRow(l string) (r Row, err error) {
	cell, rest, _ := strings.Cut(l, ": ")
	if r.Cell, err = cellNamed(cell); err != nil {
		return r, err
	}
	words := strings.Fields(strings.ReplaceAll(rest, ",", ""))
	if len(words) != 11 {
		return r, fmt.Errorf("%d words", len(words))
	}
	if r.Holders, err = holdersNamed(words[0]); err != nil {
		return r, err
	}
	for i, to := range []*time.Duration{&r.After, &r.Both, &r.Nobody, &r.Twice} {
		if *to, err = time.ParseDuration(words[2+2*i]); err != nil {
			return r, err
		}
	}
	_, err = fmt.Sscan(words[10], &r.Taken)
	return r, err
}

func cellNamed(name string) (Cell, error) {
	for _, c := range Cells {
		if c.String() == name {
			return c, nil
		}
	}
	return Cell{}, fmt.Errorf("no cell %q", name)
}

func holdersNamed(name string) (Holders, error) {
	for _, h := range []Holders{{true, true}, {true, false}, {false, true}, {}} {
		if h.String() == name {
			return h, nil
		}
	}
	return Holders{}, fmt.Errorf("nobody is called %q", name)
}
