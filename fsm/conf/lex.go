package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxLine is keepalived's line buffer (lib/parser.h MAXBUF): it ignores longer
// lines, we refuse them.
const maxLine = 1024

// maxDepth bounds includes within includes.
const maxDepth = 32

// maxProblems bounds what a hopeless file (a binary, say) can report.
const maxProblems = 500

type kind uint8

const (
	word     kind = iota
	open          // {
	shut          // }
	boundary      // the end of a statement: line end
)

type token struct {
	kind   kind
	pos    pos
	text   string
	quoted bool // never a keyword that hints at a missing brace
}

// lexer turns files into one stream of tokens; includes are spliced in.
type lexer struct {
	*report
	open   func(string) ([]byte, error)
	glob   func(string) ([]string, error)
	active []string // files being read, outermost first
	tokens []token
}

// file reads one file; from is where it was named, zero for the first.
func (l *lexer) file(name string, from pos) {
	keyword := ""
	if from.file != "" {
		keyword = "include"
	} else {
		from.file = name
	}
	for _, a := range l.active {
		if a == name {
			l.problem(from, keyword, "%s includes itself", name)
			return
		}
	}
	if len(l.active) == maxDepth {
		l.problem(from, keyword, "includes are nested more than %d deep", maxDepth)
		return
	}
	data, err := l.open(name)
	if err != nil {
		l.problem(from, keyword, "cannot read %s: %s", name, reason(err))
		return
	}
	if _, seen := l.order[name]; !seen {
		l.order[name] = len(l.order)
	}
	l.active = append(l.active, name)
	l.lines(name, data)
	l.active = l.active[:len(l.active)-1]
}

// reason drops the operation and name that an os error repeats.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

func (l *lexer) lines(name string, data []byte) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for i, raw := range strings.Split(string(data), "\n") {
		if len(l.problems) > maxProblems {
			return
		}
		at := pos{name, i + 1}
		raw = strings.TrimRight(raw, "\r")
		switch {
		case strings.IndexByte(raw, 0) >= 0:
			l.problem(at, "", "the line holds a NUL byte: is this a text file?")
		case len(raw) > maxLine:
			l.problem(at, firstWord(raw), "the line is %d bytes long; keepalived reads at most %d", len(raw), maxLine)
		default:
			l.line(at, raw)
		}
	}
}

func firstWord(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 || len(f[0]) > 64 {
		return ""
	}
	return f[0]
}

// includes are the forms of include that keepalived knows; all but the first
// insist that something is found.
var includes = map[string]bool{
	"include": true, "includer": true, "includem": true, "includew": true, "includeb": true, "includea": true,
}

// ownID is before lines that are for lbcluster alone: keepalived leaves them out.
const ownID = "@lbcluster"

func (l *lexer) line(at pos, raw string) {
	text := l.decomment(at, raw)
	first := firstWord(text)
	if first == "" && strings.TrimSpace(text) == "" {
		return
	}
	switch {
	case includes[first]:
		l.include(at, first, strings.Trim(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), first)), `"`))
		return
	case first == ownID:
		l.line(at, strings.Replace(text, ownID, "", 1))
		return
	case strings.HasPrefix(first, "@"):
		l.problem(at, first, "conditional lines (@) are not supported yet")
		return
	case strings.HasPrefix(first, "$") && strings.Contains(first, "="):
		l.problem(at, first, "definitions ($NAME=) are not supported yet")
		return
	case strings.HasPrefix(first, "~SEQ"), strings.HasPrefix(first, "~LST"):
		l.problem(at, first, "~SEQ and ~LST are not supported yet")
		return
	}
	l.words(at, text)
	l.tokens = append(l.tokens, token{kind: boundary, pos: at})
}

// decomment cuts the comment off a line as keepalived does: at the first # or !
// outside double quotes that no backslash protects. A comment that begins
// inside a word cuts that word, which is told.
func (l *lexer) decomment(at pos, raw string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '\\' && i+1 < len(raw) && (raw[i+1] == '#' || raw[i+1] == '!'):
			i++
			c = raw[i]
		case c == '#' || c == '!':
			text := b.String()
			if last := strings.TrimRight(text, " \t{}"); last != "" && len(last) == len(text) {
				l.notice(at, firstWord(text), "%q begins a comment in the middle of a word, as in keepalived: the value ends before it (write \\%c or quotes if it belongs to the value)", string(c), c)
			}
			return text
		}
		b.WriteByte(c)
	}
	return b.String()
}

// words splits a line without comments into words and braces.
func (l *lexer) words(at pos, text string) {
	add := func(k kind, s string) { l.tokens = append(l.tokens, token{kind: k, pos: at, text: s}) }
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case blank(c):
			i++
		case c == '{':
			add(open, "{")
			i++
		case c == '}':
			add(shut, "}")
			i++
		case c == '"':
			end := strings.IndexByte(text[i+1:], '"')
			if end < 0 {
				l.problem(at, firstWord(text), "the quote is not closed on this line")
				return
			}
			add(word, text[i+1:i+1+end])
			l.tokens[len(l.tokens)-1].quoted = true
			i += end + 2
		default:
			end := i
			for end < len(text) && !blank(text[end]) && !strings.ContainsRune(`{}"`, rune(text[end])) {
				end++
			}
			if w := text[i:end]; strings.HasPrefix(w, "$_") || strings.HasSuffix(w, "$") && end < len(text) && text[end] == '{' {
				l.problem(at, firstWord(text), "substitutions ($NAME, ${NAME}) are not supported yet")
				return
			}
			add(word, text[i:end])
			i = end
		}
	}
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r' }

// include splices the files that the pattern names, in the glob's order.
// keepalived only logs a missing file of a plain include; we refuse it, since a
// set that lacks a file's resources would delete them. A pattern with
// wildcards may match nothing.
func (l *lexer) include(at pos, keyword, pattern string) {
	switch {
	case pattern == "":
		l.problem(at, keyword, "needs the name of a file")
		return
	case strings.ContainsAny(pattern, "{}"):
		l.problem(at, keyword, "braces in file names are not supported yet")
		return
	}
	if !path.IsAbs(pattern) {
		pattern = path.Join(path.Dir(at.file), pattern)
	}
	if !strings.ContainsAny(pattern, "*?[") {
		l.file(pattern, at)
		return
	}
	names, err := l.matches(pattern)
	if err != nil {
		l.problem(at, keyword, "%v", err)
		return
	}
	if len(names) == 0 && keyword != "include" {
		l.problem(at, keyword, "no file matches %s", pattern)
	} else if len(names) == 0 {
		l.notice(at, keyword, "no file matches %s", pattern)
	}
	for _, n := range names {
		l.file(n, at)
	}
}

func (l *lexer) matches(pattern string) ([]string, error) {
	if l.glob == nil {
		return nil, errors.New("wildcards cannot be looked up here")
	}
	names, err := l.glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", pattern, err)
	}
	return names, nil
}
