package conf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lbcluster/fsm"
)

// Result is what a file said.
type Result struct {
	Config  fsm.Config
	Notices []Notice // in the order of the file

	places places
}

// Problem is one reason why a file cannot be applied.
type Problem struct {
	File    string // as it was opened; included files under their own name
	Line    int    // from 1; 0 where the file as a whole is meant
	Keyword string // the word that is wrong, or whose value is
	Text    string
}

// String is "keepalived.conf:12: lb_kind: what is wrong".
func (p Problem) String() string { return format(p.File, p.Line, p.Keyword, p.Text) }

// Notice is something to know about a file that can be applied: a value that is
// stored but not acted on yet, or a default of keepalived that surprises.
type Notice struct {
	File    string
	Line    int
	Keyword string
	Text    string
}

// String is "keepalived.conf:12: state: what to know".
func (n Notice) String() string { return format(n.File, n.Line, n.Keyword, n.Text) }

func format(file string, line int, keyword, text string) string {
	var b strings.Builder
	b.WriteString(file)
	if line > 0 {
		fmt.Fprintf(&b, ":%d", line)
	}
	b.WriteString(": ")
	if keyword != "" {
		b.WriteString(keyword + ": ")
	}
	b.WriteString(text)
	return b.String()
}

// pos is a place in a file.
type pos struct {
	file string
	line int
}

// report collects what a reader has to say.
type report struct {
	problems []Problem
	notices  []Notice
	order    map[string]int // of first opening, so that included files sort in reading order
}

func (r *report) problem(p pos, keyword, format string, args ...any) {
	r.problems = append(r.problems, Problem{p.file, p.line, keyword, fmt.Sprintf(format, args...)})
}

func (r *report) notice(p pos, keyword, format string, args ...any) {
	r.notices = append(r.notices, Notice{p.file, p.line, keyword, fmt.Sprintf(format, args...)})
}

// sort puts problems and notices in the order in which a person reads the
// files, and drops repetitions.
func (r *report) sort() {
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(r.order[a.File], r.order[b.File]), cmp.Compare(a.Line, b.Line))
	})
	r.problems = slices.Compact(r.problems)
	slices.SortStableFunc(r.notices, func(a, b Notice) int {
		return cmp.Or(cmp.Compare(r.order[a.File], r.order[b.File]), cmp.Compare(a.Line, b.Line))
	})
	r.notices = slices.Compact(r.notices)
}
