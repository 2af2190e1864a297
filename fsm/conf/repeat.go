package conf

import (
	"slices"
	"strconv"
	"strings"
)

// repeat reads ~SEQ(...) and ~LST(...): the rest of the line is read once for
// each value, which is defined meanwhile, and stays so.
func (l *lexer) repeat(ln line) {
	var rounds [][]string
	var names []string
	var rest line
	var wrong string
	if strings.HasPrefix(ln.text, "~SEQ") {
		names, rounds, rest, wrong = l.sequence(ln)
	} else {
		names, rounds, rest, wrong = list(ln)
	}
	if wrong != "" {
		l.doubt(ln.at, ln.text[:4], wrong, "the line is ignored")
		return
	}
	for _, values := range rounds {
		if !l.grow(ln.at) {
			return
		}
		for i, name := range names {
			l.definitions[name] = &variable{name: name, at: ln.at, lines: []line{{text: values[i], at: ln.at}}}
		}
		if rest.text != "" {
			l.logical(rest)
		}
	}
}

// sequence reads ~SEQ(NAME, [START, [STEP,]] END) rest; ~SEQx writes the numbers
// in hexadecimal.
func (l *lexer) sequence(ln line) (names []string, rounds [][]string, rest line, wrong string) {
	s := ln.text[4:]
	base := 10
	if strings.HasPrefix(s, "x") {
		s, base = s[1:], 16
	}
	s = strings.TrimLeft(s, " \t")
	shut := strings.IndexByte(s, ')')
	if !strings.HasPrefix(s, "(") || shut < 0 {
		return nil, nil, rest, "~SEQ must be followed by (NAME, START, STEP, END); START and STEP may be left out"
	}
	rest = ln.cut(len(ln.text)-len(s)+shut+1, len(ln.text)).trim()
	inner, _, _ := l.substitute(line{text: s[1:shut] + ")", at: ln.at})
	parts := strings.Split(strings.TrimSuffix(inner.text, ")"), ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	name := parts[0]
	if name == "" || nameEnd(name, 0) != len(name) || len(parts) < 2 || len(parts) > 4 {
		return nil, nil, rest, sprint("%q is not NAME, START, STEP, END", strings.TrimSuffix(inner.text, ")"))
	}
	start, step, end, wrong := bounds(parts[1:])
	switch {
	case wrong != "":
		return nil, nil, rest, wrong
	case base == 16 && (start < 0 || end < 0):
		return nil, nil, rest, "~SEQx has no negative numbers"
	case (end-start)/step >= int64(l.max.grown):
		return nil, nil, rest, sprint("from %d to %d by %d are more than %d rounds", start, end, step, l.max.grown)
	}
	for v := start; step > 0 && v <= end || step < 0 && v >= end; v += step {
		rounds = append(rounds, []string{strconv.FormatInt(v, base)})
	}
	return []string{name}, rounds, rest, ""
}

// bounds completes END, START END or START STEP END with keepalived's defaults.
func bounds(parts []string) (start, step, end int64, wrong string) {
	var n [3]int64
	for i, p := range parts {
		v, err := strconv.ParseInt(p, 0, 64)
		if err != nil || v > 1<<40 || v < -1<<40 {
			return 0, 0, 0, sprint("%q is not a whole number", p)
		}
		n[i] = v
	}
	switch len(parts) {
	case 1:
		start, step, end = 1, 1, n[0]
		if end < 0 {
			start = -1
		}
		if end < 1 {
			step = -1
		}
	case 2:
		start, step, end = n[0], 1, n[1]
		if start > end {
			step = -1
		}
	default:
		start, step, end = n[0], n[1], n[2]
	}
	if step == 0 || start < end && step < 0 || start > end && step > 0 {
		return 0, 0, 0, sprint("with steps of %d, %d is never reached from %d", step, end, start)
	}
	return start, step, end, ""
}

// list reads ~LST(NAME, a, b) rest and ~LST({NAME, ...}, {a, ...}, ...) rest.
// Values that a set lacks are empty.
func list(ln line) (names []string, rounds [][]string, rest line, wrong string) {
	s := strings.TrimLeft(ln.text[4:], " \t")
	if !strings.HasPrefix(s, "(") {
		return nil, nil, rest, "~LST must be followed by (NAME, VALUE, ...) or ({NAME, ...}, {VALUE, ...}, ...)"
	}
	s = s[1:]
	for first := true; ; first = false {
		var group []string
		var ok bool
		if group, s, ok = values(s, first); !ok {
			return nil, nil, rest, "~LST is not of the form (NAME, VALUE, ...) or ({NAME, ...}, {VALUE, ...}, ...)"
		}
		if first {
			names = group
		} else {
			rounds = append(rounds, group)
		}
		if s[0] == ')' {
			break
		}
		s = s[1:]
	}
	for i, group := range rounds {
		if len(group) > len(names) {
			return nil, nil, rest, sprint("~LST has %d values for %d names", len(group), len(names))
		}
		rounds[i] = append(group, make([]string, len(names)-len(group))...)
	}
	bad := func(n string) bool { return n == "" || nameEnd(n, 0) != len(n) }
	if len(rounds) == 0 || slices.ContainsFunc(names, bad) {
		return nil, nil, rest, "~LST needs names, and values for them"
	}
	return names, rounds, ln.cut(len(ln.text)-len(s)+1, len(ln.text)).trim(), ""
}

// values reads one value or {one, two, ...} and what separates it from the next:
// the rest begins with a comma or the last parenthesis.
func values(s string, names bool) (group []string, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	ends, many := ",)", strings.HasPrefix(s, "{")
	if many {
		ends, s = ",}", s[1:]
	}
	for {
		i := strings.IndexAny(s, ends)
		if i < 0 {
			return nil, "", false
		}
		value := strings.TrimSpace(s[:i])
		if strings.ContainsAny(value, " \t{}") {
			return nil, "", false
		}
		group = append(group, value)
		if !many {
			return group, s[i:], !names || s[i] == ','
		}
		end := s[i]
		s = s[i+1:]
		if end == '}' {
			s = strings.TrimLeft(s, " \t")
			return group, s, s != "" && (s[0] == ',' || s[0] == ')' && !names)
		}
	}
}
