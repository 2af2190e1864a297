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
	Column  int    // in characters, from 1; 0 where the line as a whole is meant
	Keyword string // the word that is wrong, or whose value is
	Text    string
	Source  string // the line as it stands in the file
	// Became is what definitions and repetitions made of the line, where that
	// is something else.
	Became string
	// Chain says how the line came to be read, the nearest step first:
	// "included from k.conf:3", "used in k.conf:7".
	Chain []string
}

// Notice is something to know about a file that can be applied: a value that is
// stored but not acted on yet, a default of keepalived that surprises, or what
// a lenient reading guessed. Its fields are those of [Problem].
type Notice struct {
	File    string
	Line    int
	Column  int
	Keyword string
	Text    string
	Source  string
	Became  string
	Chain   []string
}

// String is "keepalived.conf:12:5: lb_kind: what is wrong".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Line > 0 && p.Column > 0 {
		fmt.Fprintf(&b, ":%d", p.Column)
	}
	b.WriteString(": ")
	if p.Keyword != "" {
		b.WriteString(p.Keyword + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// String is "keepalived.conf:12:5: state: what to know".
func (n Notice) String() string { return Problem(n).String() }

// maxShown bounds the part of a line that Context shows, in characters.
const maxShown = 120

// Context shows the line with a mark under the column, what definitions made of
// it, and how it came to be read; each line indented. Empty if there is nothing
// to show.
func (p Problem) Context() string {
	var b strings.Builder
	if p.Source != "" {
		b.WriteString(p.excerpt())
	}
	if p.Became != "" {
		shown, _ := printable(p.Became, 0)
		b.WriteString("      = " + shown + "\n")
	}
	for _, step := range p.Chain {
		b.WriteString("      " + step + "\n")
	}
	return b.String()
}

// Context is as [Problem.Context].
func (n Notice) Context() string { return Problem(n).Context() }

func (p Problem) excerpt() string {
	shown, mark := printable(p.Source, p.Column)
	text := fmt.Sprintf("%5d | %s\n", p.Line, shown)
	if mark > 0 {
		text += "      | " + strings.Repeat(" ", mark-1) + "^\n"
	}
	return text
}

// printable is a line that a terminal shows as it is, cut to a sane length
// around the column, and where in it the column is.
func printable(s string, column int) (string, int) {
	runes := []rune(strings.TrimRight(strings.ToValidUTF8(s, "?"), " \t\r"))
	for i, r := range runes {
		switch {
		case r == '\t':
			runes[i] = ' '
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			runes[i] = '?'
		}
	}
	from := 0
	if column > maxShown-20 {
		from = min(column-40, len(runes))
	}
	to := min(from+maxShown, len(runes))
	text, lead, trail := string(runes[from:to]), "", ""
	if from > 0 {
		lead = "..."
	}
	if to < len(runes) {
		trail = "..."
	}
	if column > 0 {
		column += len(lead) - from
	}
	return lead + text + trail, column
}

// report collects what a reader has to say.
type report struct {
	problems []Problem
	notices  []Notice
	order    map[string]int // of first opening, so that included files sort in reading order
	// lenient: what keepalived passes over is passed over here, with a notice.
	lenient bool
	dropped int // problems and notices beyond the bounds
}

// maxProblems and maxNotices bound what a hopeless file (a binary, say) can
// report.
const (
	maxProblems = 500
	maxNotices  = 2000
)

func found(p pos, keyword, text string) Problem {
	out := Problem{File: p.file, Line: p.line, Column: p.column(), Keyword: keyword, Text: text, Chain: p.chain()}
	if p.src != nil {
		out.Source, out.Became = p.src.raw, p.src.became
	}
	return out
}

func (r *report) problem(p pos, keyword, format string, args ...any) {
	if len(r.problems) == maxProblems {
		r.dropped++
		return
	}
	r.problems = append(r.problems, found(p, keyword, fmt.Sprintf(format, args...)))
}

func (r *report) notice(p pos, keyword, format string, args ...any) {
	if len(r.notices) == maxNotices {
		r.dropped++
		return
	}
	r.notices = append(r.notices, Notice(found(p, keyword, fmt.Sprintf(format, args...))))
}

// doubt reports what keepalived logs and passes over. Strictly it is a problem.
// In a lenient reading it is a notice that says what keepalived does, which is
// done here too: then doubt returns true.
func (r *report) doubt(p pos, keyword, text, guess string) bool {
	if !r.lenient {
		r.problem(p, keyword, "%s", text)
		return false
	}
	r.notice(p, keyword, "%s; %s, as keepalived does", text, guess)
	return true
}

// omit reports what can't be kept although it changes what happens to packets,
// or which programs run: a problem, that a lenient reading leaves out.
func (r *report) omit(p pos, keyword, why string) {
	if r.lenient {
		r.notice(p, keyword, "left out, which changes what the file does: %s", why)
		return
	}
	r.problem(p, keyword, "cannot be kept: %s (--lenient leaves it out)", why)
}

// sort puts problems and notices in the order in which a person reads the
// files, and drops repetitions.
func (r *report) sort() {
	slices.SortStableFunc(r.problems, r.compare)
	r.problems = slices.CompactFunc(r.problems, same)
	slices.SortStableFunc(r.notices, func(a, b Notice) int { return r.compare(Problem(a), Problem(b)) })
	r.notices = slices.CompactFunc(r.notices, func(a, b Notice) bool { return same(Problem(a), Problem(b)) })
	if r.dropped > 0 {
		r.notices = append(r.notices, Notice{File: r.main(), Text: fmt.Sprintf("%d more things were found and are not shown", r.dropped)})
	}
}

// main is the file that was opened first.
func (r *report) main() string {
	for name, i := range r.order {
		if i == 0 {
			return name
		}
	}
	return ""
}

func (r *report) compare(a, b Problem) int {
	return cmp.Or(cmp.Compare(r.order[a.File], r.order[b.File]), cmp.Compare(a.Line, b.Line))
}

// same: the same is said of one line more than once where a file is included
// twice, or a line repeated.
func same(a, b Problem) bool {
	return a.File == b.File && a.Line == b.Line && a.Keyword == b.Keyword && a.Text == b.Text
}
