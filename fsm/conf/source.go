package conf

import (
	"fmt"
	"unicode/utf8"
)

// pos is a place in a file.
type pos struct {
	file string
	line int
	col  int // in bytes, from 1; 0: the line as a whole
	src  *origin
}

// origin is a line as it stands in its file, with how it came to be read.
type origin struct {
	raw    string
	became string // what substitutions made of it; empty: nothing
	// from is where the line's file was included, or where the definition
	// that the line belongs to was used; how says which.
	from pos
	how  string
}

// spot is a place that can be compared.
type spot struct {
	file string
	line int
}

func (p pos) spot() spot { return spot{p.file, p.line} }

// column is the place's column as editors count: in characters, from 1.
func (p pos) column() int {
	if p.col < 1 || p.src == nil || p.col > len(p.src.raw)+1 {
		return 0
	}
	return utf8.RuneCountInString(p.src.raw[:p.col-1]) + 1
}

// chain says how a line came to be read, the nearest step first.
func (p pos) chain() []string {
	var steps []string
	for s := p.src; s != nil && s.how != ""; s = s.from.src {
		steps = append(steps, fmt.Sprintf("%s %s:%d", s.how, s.from.file, s.from.line))
	}
	return steps
}

// line is text with the places where it came from: a physical line, or what
// substitution, conditions and repetition made of one.
type line struct {
	text string
	at   pos     // of the first byte
	cols []int32 // of each byte, where they do not simply follow each other
}

// pos is the place of the byte at i.
func (l line) pos(i int) pos {
	p := l.at
	switch {
	case l.cols == nil:
		p.col += i
	case i < len(l.cols):
		p.col = int(l.cols[i])
	case len(l.cols) > 0:
		p.col = int(l.cols[len(l.cols)-1]) + 1
	}
	return p
}

// cut is the part of the line from i to j.
func (l line) cut(i, j int) line {
	part := line{text: l.text[i:j], at: l.pos(i)}
	if l.cols != nil {
		part.cols = l.cols[i:j]
	}
	return part
}

// trim cuts blanks off both ends.
func (l line) trim() line {
	i, j := 0, len(l.text)
	for i < j && blank(l.text[i]) {
		i++
	}
	for j > i && blank(l.text[j-1]) {
		j--
	}
	return l.cut(i, j)
}

// columns are the columns of every byte, for those who splice.
func (l line) columns() []int32 {
	if l.cols != nil {
		return l.cols
	}
	cols := make([]int32, len(l.text))
	for i := range cols {
		cols[i] = int32(l.at.col + i)
	}
	return cols
}

// splice puts value in the place of the bytes from i to j; all of it stands in
// the column of i.
func (l line) splice(i, j int, value string) line {
	cols := l.columns()
	col := int32(l.pos(i).col)
	var out line
	out.at = l.at
	out.text = l.text[:i] + value + l.text[j:]
	out.cols = make([]int32, 0, len(out.text)+1)
	out.cols = append(out.cols, cols[:i]...)
	for range len(value) {
		out.cols = append(out.cols, col)
	}
	out.cols = append(out.cols, cols[j:]...)
	return out
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r' }
