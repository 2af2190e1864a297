package oracle

import (
	"fmt"
	"slices"
	"strings"
)

// Explained is a reason for differences, with the differences that it explains.
type Explained struct {
	Why   string
	Cases []*Case
}

// Case describes differences; in each part * stands for any text.
type Case struct {
	File, Fact, Theirs, Ours string
	used                     bool
}

// ReadExplained reads a table: a reason, in lines of its own, then its cases,
// each indented by a tab, in four parts divided by " | ".
func ReadExplained(text []byte) ([]Explained, error) {
	var table []Explained
	for l := range strings.Lines(string(text)) {
		l = strings.TrimRight(l, "\n")
		rest, isCase := strings.CutPrefix(l, "\t")
		switch {
		case l == "" || strings.HasPrefix(l, "#"):
		case isCase:
			p := strings.Split(rest, " | ")
			if len(p) != 4 || len(table) == 0 {
				return nil, fmt.Errorf("not a reason's case of four parts: %q", l)
			}
			for i := range p {
				p[i] = strings.TrimSpace(p[i])
			}
			last := &table[len(table)-1]
			last.Cases = append(last.Cases, &Case{File: p[0], Fact: p[1], Theirs: p[2], Ours: p[3]})
		case len(table) > 0 && table[len(table)-1].Cases == nil:
			table[len(table)-1].Why += " " + l
		default:
			table = append(table, Explained{Why: l})
		}
	}
	return table, nil
}

// nothing stands for an empty value in a table.
const nothing = "-"

func shown(v string) string {
	if v == "" {
		return nothing
	}
	return v
}

func (c *Case) matches(d Difference) bool {
	return like(c.File, d.File) && like(c.Fact, d.Fact.String()) && like(c.Theirs, shown(d.Theirs)) && like(c.Ours, shown(d.Ours))
}

// like compares text with a pattern in which * stands for anything.
func like(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(text, p)
		if i < 0 {
			return false
		}
		text = text[i+len(p):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// Unexplained returns the differences that no reason explains.
func Unexplained(table []Explained, all []Difference) []Difference {
	return slices.DeleteFunc(slices.Clone(all), func(d Difference) bool {
		for _, e := range table {
			for _, c := range e.Cases {
				if c.matches(d) {
					c.used = true
					return true
				}
			}
		}
		return false
	})
}

// Unused returns the cases that explained nothing since the table was read.
func Unused(table []Explained) []Case {
	var out []Case
	for _, e := range table {
		for _, c := range e.Cases {
			if !c.used {
				out = append(out, *c)
			}
		}
	}
	return out
}
