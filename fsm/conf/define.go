package conf

import (
	"strings"
)

// variable is what $NAME= defined. Its value is looked at where it is used:
// definitions in it are those of that time.
type variable struct {
	name  string
	at    pos
	lines []line // several only of a definition whose lines end with a backslash
	// many: defined with a backslash at the end. Such a one is only used at
	// the end of a line.
	many bool
}

// expand does to a line what comes before its words: conditions, definitions,
// repetitions and substitution, again as long as that changes it. What is left
// are statements, if ok, and the lines that follow from it.
func (l *lexer) expand(ln line) (out line, rest []line, ok bool) {
	for {
		if ln, ok = l.condition(ln); !ok {
			return ln, rest, false
		}
		switch {
		case l.defines(ln):
			return ln, rest, false
		case strings.HasPrefix(ln.text, "~SEQ"), strings.HasPrefix(ln.text, "~LST"):
			l.repeat(ln)
			return ln, rest, false
		}
		next, more, changed := l.substitute(ln)
		rest = append(more, rest...)
		if !changed {
			return ln, rest, ln.text != ""
		}
		if ln, ok = l.decomment(next); !ok {
			return ln, rest, false
		}
		if ln.text[0] != '@' && strings.IndexByte(ln.text, '$') < 0 && ln.text[0] != '~' {
			return ln, rest, true
		}
	}
}

// ownID stands before lines that are for lbcluster alone: keepalived, which has
// another id, leaves them out.
const ownID = "lbcluster"

// condition reads "@ID rest" and "@^ID rest": the rest counts if the
// configuration's id is, or is not, ID.
func (l *lexer) condition(ln line) (line, bool) {
	if ln.text == "" || ln.text[0] != '@' {
		return ln, true
	}
	id := ln.text[1:]
	not := strings.HasPrefix(id, "^")
	if not {
		id = id[1:]
	}
	i := strings.IndexAny(id, " \t")
	if i < 0 {
		l.notice(ln.at, ln.text, "a condition without a line that it could be of: ignored, as in keepalived")
		return ln, false
	}
	keep := id[:i] == ownID
	if !keep {
		l.conditional = true
		keep = id[:i] == l.configID
	}
	if keep == not {
		return ln, false
	}
	from := len(ln.text) - len(id) + i
	return ln.cut(from, len(ln.text)).trim(), true
}

// nameEnd is the end of a name that begins at i: letters, digits and _, the
// first no digit; i itself if none begins there.
func nameEnd(s string, i int) int {
	for j := i; ; j++ {
		if j < len(s) {
			c := s[j]
			if c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' && j > i {
				continue
			}
		}
		return j
	}
}

// defines reads $NAME=value.
func (l *lexer) defines(ln line) bool {
	if !strings.HasPrefix(ln.text, "$") {
		return false
	}
	end := nameEnd(ln.text, 1)
	if end == 1 || end == len(ln.text) || ln.text[end] != '=' {
		return false
	}
	v := &variable{name: ln.text[1:end], at: ln.at}
	value := ln.cut(end+1, len(ln.text)).trim()
	l.definitions[v.name] = v
	if !strings.HasSuffix(value.text, `\`) {
		v.lines = []line{value}
		return true
	}
	v.many = true
	l.defining = v
	v.lines = []line{value.cut(0, len(value.text)-1).trim()}
	return true
}

// define adds a line to the definition that is being read.
func (l *lexer) define(ln line) {
	v := l.defining
	goesOn := strings.HasSuffix(ln.text, `\`)
	if goesOn {
		ln = ln.cut(0, len(ln.text)-1).trim()
	} else {
		l.defining = nil
	}
	if ln.text != "" && l.grow(ln.at) {
		v.lines = append(v.lines, ln)
	}
}

// substitute replaces the uses of definitions, from left to right, and those in
// what takes their place. A definition of several lines puts its first in its
// place and its others after the line.
func (l *lexer) substitute(ln line) (out line, rest []line, changed bool) {
	if strings.IndexByte(ln.text, '$') < 0 {
		return ln, nil, false
	}
	original := ln
	for i, steps := 0, 0; ; steps++ {
		next := strings.IndexByte(ln.text[i:], '$')
		if next < 0 || i+next+1 == len(ln.text) {
			break
		}
		i += next
		v, value, end := l.use(ln, i)
		if v == nil && end == 0 {
			i++
			continue
		}
		l.used.replaced++
		if l.used.spliced += len(ln.text); l.used.replaced > l.max.replaced || l.used.spliced > l.max.spliced {
			l.stop(ln.pos(i), firstWord(ln.text), "definitions are used more than %d times, or in lines of more than %d bytes: reading ends here", l.max.replaced, l.max.spliced)
			return original, nil, false
		}
		ln = ln.splice(i, end, value)
		changed = true
		if len(ln.text) > maxLine || steps > maxLine {
			l.problem(original.at, firstWord(original.text), "definitions make the line longer than %d bytes, keepalived's bound, or have no end: is one defined by itself?", maxLine)
			return ln.cut(0, 0), nil, true
		}
		if v != nil && v.many {
			rest = append(l.following(v, ln.pos(i)), rest...)
		}
		if strings.HasPrefix(strings.TrimLeft(value, " \t"), "~") {
			break // its own variables come when it is repeated
		}
	}
	if changed {
		ln = l.remember(original, ln)
	}
	return ln, rest, changed
}

// remember keeps what a line was before.
func (l *lexer) remember(before, after line) line {
	src := *before.at.src
	src.became = after.text
	after.at.src = &src
	return after
}

// following are the lines of a definition after its first, as used at a place.
func (l *lexer) following(v *variable, at pos) []line {
	var list []line
	for _, ln := range v.lines[1:] {
		src := origin{raw: ln.at.src.raw, from: at, how: "used in"}
		ln.at.src = &src
		list = append(list, ln)
	}
	return list
}

// use finds what stands for $NAME or ${NAME} at i and where that ends; nil and 0
// if there is no such definition, or it may not be used here.
func (l *lexer) use(ln line, i int) (v *variable, value string, end int) {
	s := ln.text
	braced := i+1 < len(s) && s[i+1] == '{'
	from := i + 1
	if braced {
		from++
	}
	stop := nameEnd(s, from)
	if stop == from {
		return nil, "", 0
	}
	name, args := s[from:stop], ""
	switch {
	case braced:
		shut := strings.IndexByte(s[stop:], '}')
		if shut < 0 {
			return nil, "", 0
		}
		args, end = s[stop:stop+shut], stop+shut+1
	case stop < len(s) && strings.IndexByte(" \t,)", s[stop]) < 0:
		return nil, "", 0
	default:
		end = stop
	}
	v = l.definitions[name]
	switch {
	case v == nil:
		if value, ok := l.predefined(ln.pos(i), name, strings.TrimSpace(args)); ok {
			return nil, value, end
		}
		return nil, "", 0
	case args != "", v.many && end != len(s):
		return nil, "", 0
	}
	return v, v.lines[0].text, end
}
