package conf

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// maxLine is keepalived's line buffer (lib/parser.h MAXBUF) without the line's
// end and the string's.
const maxLine = 1022

// maxDepth bounds includes within includes, and definitions within definitions.
const maxDepth = 32

// limits bound what a file can grow to by includes, definitions and repetitions.
type limits struct {
	files    int // opened
	bytes    int // of all files, each time one is read
	grown    int // lines made by ~SEQ, ~LST and definitions of several lines
	spliced  int // bytes of lines in which something was substituted
	replaced int // substitutions
	tokens   int // words and braces
}

// standardLimits are far beyond any file that a person or a template wrote.
var standardLimits = limits{files: 1000, bytes: 32 << 20, grown: 100_000, spliced: 16 << 20, replaced: 500_000, tokens: 1_000_000}

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
	open     func(string) ([]byte, error)
	glob     func(string) ([]string, error)
	env      func(string) (string, bool)
	configID string
	folder   string

	active []string // files being read, outermost first
	tokens []token

	definitions map[string]*variable
	defining    *variable // one whose last line ended with a backslash
	depth       int       // of lines made of lines
	conditional bool      // a line began with @

	max     limits
	used    limits // tokens aside
	stopped bool   // a limit was reached
}

func newLexer(r *report, o Reader) *lexer {
	l := &lexer{report: r, open: o.Open, glob: o.Glob, env: o.Env, configID: o.ConfigID, folder: o.Folder, max: standardLimits}
	if o.limits != nil {
		l.max = *o.limits
	}
	l.definitions = map[string]*variable{}
	return l
}

// stop ends the reading with a problem.
func (l *lexer) stop(at pos, keyword, format string, args ...any) {
	if !l.stopped {
		l.problem(at, keyword, format, args...)
	}
	l.stopped = true
}

// file reads one file; from is where it was named, zero for the first. It says
// whether the file could be opened; if not, complaining is the caller's.
func (l *lexer) file(name string, from pos) error {
	data, err := l.open(name)
	if err != nil {
		return err
	}
	l.used.files++
	l.used.bytes += len(data)
	if l.used.files > l.max.files || l.used.bytes > l.max.bytes {
		l.stop(from, "include", "with %s, %d files and %d bytes are exceeded: reading ends here", name, l.max.files, l.max.bytes)
		return nil
	}
	if _, seen := l.order[name]; !seen {
		l.order[name] = len(l.order)
	}
	l.active = append(l.active, name)
	l.tokens = slices.Grow(l.tokens, len(data)/bytesPerWord)
	l.lines(name, data, from)
	l.active = l.active[:len(l.active)-1]
	return nil
}

// bytesPerWord is about how much of a file there is to a word or a brace.
const bytesPerWord = 12

// first reads the file that the caller named.
func (l *lexer) first(name string) {
	if err := l.file(name, pos{}); err != nil {
		l.problem(pos{file: name}, "", "cannot read %s: %s", name, reason(err))
	}
	if v := l.defining; v != nil {
		l.doubt(v.at, "$"+v.name, "the file ends within the definition", "it ends there")
	}
}

// reason drops the operation and name that an os error repeats.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

func (l *lexer) lines(name string, data []byte, from pos) {
	text := string(bytes.TrimPrefix(data, []byte("\ufeff")))
	for n := 1; text != ""; n++ {
		if l.stopped || len(l.problems) == maxProblems {
			return
		}
		var raw string
		raw, text, _ = strings.Cut(text, "\n")
		raw = strings.TrimRight(raw, "\r")
		src := &origin{raw: raw}
		if from.file != "" {
			src.from, src.how = from, "included from"
		}
		l.physical(line{text: raw, at: pos{name, n, 1, src}})
	}
}

// physical reads a line of a file.
func (l *lexer) physical(ln line) {
	switch {
	case ln.text == "":
		l.defining = nil // a blank line ends a definition of several lines
	case strings.IndexByte(ln.text, 0) >= 0:
		l.doubt(ln.at, "", "the line holds a NUL byte: is this a text file?", "it is ignored")
	case len(ln.text) > maxLine:
		l.long(ln)
	default:
		if ln, ok := l.decomment(ln); ok {
			l.logical(ln)
		}
	}
}

// long reads a line beyond keepalived's buffer. Until 2.2 keepalived takes what
// does not fit for lines of their own, later it ignores what fits.
func (l *lexer) long(ln line) {
	if !l.doubt(ln.at, firstWord(ln.text), sprint("the line is %d bytes long; keepalived reads at most %d", len(ln.text), maxLine),
		sprint("it is cut into lines of %d", maxLine+1)) {
		return
	}
	for from := 0; from < len(ln.text); from += maxLine + 1 {
		if part, ok := l.decomment(ln.cut(from, min(from+maxLine+1, len(ln.text)))); ok {
			l.logical(part)
		}
	}
}

func firstWord(s string) string {
	s = strings.TrimLeft(s, " \t")
	if i := strings.IndexAny(s, " \t{}"); i >= 0 {
		s = s[:i]
	}
	if len(s) > 64 {
		return ""
	}
	return s
}

// decomment cuts blanks and the comment off a line as keepalived does: at the
// first # or ! outside double quotes that no backslash protects. It says whether
// anything is left. A comment that begins inside a word cuts that word, which
// is told. A backslash at the end stays there even behind a comment, so that a
// comment does not end a definition of several lines.
func (l *lexer) decomment(ln line) (line, bool) {
	ln = ln.trim()
	if strings.IndexAny(ln.text, "#!\\\"") < 0 {
		return ln, ln.text != ""
	}
	quoted := false
	for i := 0; i < len(ln.text); i++ {
		switch c := ln.text[i]; {
		case c == '\\' && i+1 < len(ln.text):
			if next := ln.text[i+1]; !quoted && (next == '#' || next == '!') {
				ln = ln.splice(i, i+1, "")
			} else {
				i++
			}
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '#' || c == '!'):
			goesOn := l.defining != nil && strings.HasSuffix(ln.text, `\`)
			l.midWord(ln, i)
			ln = ln.cut(0, i).trim()
			if goesOn {
				ln = ln.splice(len(ln.text), len(ln.text), `\`)
			}
			return ln, ln.text != ""
		}
	}
	return ln, ln.text != ""
}

// midWord tells of a comment that begins at i, inside a word.
func (l *lexer) midWord(ln line, i int) {
	if i == 0 || blank(ln.text[i-1]) || strings.IndexByte(`{}"`, ln.text[i-1]) >= 0 {
		return
	}
	c := ln.text[i]
	l.notice(ln.pos(i), firstWord(ln.text), "%q begins a comment in the middle of a word, as in keepalived: the value ends before it (write \\%c or quotes if it belongs to the value)", string(c), c)
}

// logical reads a line without comment: it may be kept or not by a condition,
// define something, be repeated, include a file; or it is statements, up to
// the first brace, which is one of its own.
func (l *lexer) logical(ln line) {
	if len(l.tokens) > l.max.tokens {
		l.stop(ln.at, "", "there are more than %d words: reading ends here", l.max.tokens)
	}
	if l.stopped {
		return
	}
	if l.depth++; l.depth > 4*maxDepth {
		l.stop(ln.at, firstWord(ln.text), "lines made of lines are nested more than %d deep", 4*maxDepth)
		return
	}
	defer func() { l.depth-- }()
	if l.defining != nil {
		l.define(ln)
		return
	}
	ln, rest, ok := l.expand(ln)
	if ok {
		l.statements(ln)
	}
	for _, more := range rest {
		if l.grow(more.at) {
			l.logical(more)
		}
	}
}

// grow counts a line that was made of another.
func (l *lexer) grow(at pos) bool {
	if l.used.grown++; l.used.grown > l.max.grown {
		l.stop(at, "", "definitions and repetitions make more than %d lines of the file: reading ends here", l.max.grown)
	}
	return !l.stopped
}

// statements cuts a line at its braces: what follows one is a line of its own.
func (l *lexer) statements(ln line) {
	if includes(ln.text) != "" {
		l.include(ln)
		return
	}
	i := l.brace(ln)
	if i < 0 {
		l.statement(ln)
		return
	}
	if i > 0 {
		l.statement(ln.cut(0, i))
	}
	k := open
	if ln.text[i] == '}' {
		k = shut
	}
	l.tokens = append(l.tokens, token{kind: k, pos: ln.pos(i), text: ln.text[i : i+1]})
	rest := ln.cut(i+1, len(ln.text)).trim()
	switch {
	case rest.text == "":
	case strings.IndexByte("@$~i", rest.text[0]) >= 0: // what only a line's beginning can be
		l.logical(rest)
	default:
		l.statements(rest)
	}
}

// brace finds the first brace outside double quotes; -1: there is none. Those of
// ${NAME} count as well in keepalived where NAME is not defined.
func (l *lexer) brace(ln line) int {
	s, quoted := ln.text, false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			quoted = !quoted
		case '{', '}':
			if quoted {
				continue
			}
			if i > 0 && s[i-1] == '$' && s[i] == '{' {
				if end := strings.IndexByte(s[i:], '}'); end > 0 && !l.undefined(ln.pos(i-1), s[i-1:i+end+1]) {
					i += end
					continue
				}
			}
			return i
		}
	}
	return -1
}

// undefined reports what looks like the use of a definition that is not there.
// It says whether to go on as keepalived does, with its braces as braces.
func (l *lexer) undefined(at pos, use string) bool {
	if len(use) > 64 {
		use = use[:64] + "..."
	}
	return l.doubt(at, use, "there is no such definition at this point of the file", "its braces count as braces of a block")
}
