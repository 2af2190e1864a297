package conf

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxBraces bounds what {a,b} in a file name can become.
const maxBraces = 256

// includes is the include keyword that a line begins with, or nothing. The
// letters say what keepalived insists on: that what is found can be read (r),
// that named files are there (m), that wildcards match something (w), that each
// choice of braces is there (b), or all of it (a).
func includes(s string) string {
	rest, ok := strings.CutPrefix(s, "include")
	if !ok {
		return ""
	}
	if rest == "" || blank(rest[0]) {
		return "include"
	}
	if strings.IndexByte("rmwba", rest[0]) >= 0 && len(rest) > 1 && blank(rest[1]) {
		return "include" + rest[:1]
	}
	return ""
}

// include splices the files that the pattern names, in the glob's order.
// keepalived only logs a missing file; we refuse it, since a set that lacks a
// file's resources would delete them. A pattern with wildcards may match nothing
// unless the keyword insists.
func (l *lexer) include(ln line) {
	keyword := includes(ln.text)
	name := ln.cut(len(keyword), len(ln.text)).trim()
	pattern := strings.Trim(name.text, `"`)
	at := name.at
	if pattern == "" {
		l.doubt(ln.at, keyword, "needs the name of a file", "it is ignored")
		return
	}
	choices, err := braces(pattern)
	if err != nil {
		l.problem(at, keyword, "%v", err)
		return
	}
	var names []string
	missing := false
	for _, choice := range choices {
		more, ok := l.matches(at, keyword, choice, len(choices) > 1)
		if !ok {
			missing = true
			continue
		}
		names = append(names, more...)
	}
	switch insists := strings.IndexByte("ba", keyword[len(keyword)-1]) >= 0; {
	case missing && insists:
		return // keepalived takes all of them or none
	case missing && len(names) == 0:
		l.doubt(at, keyword, sprint("no file of %s is there", pattern), "it is left out")
	}
	for _, n := range names {
		l.splice(at, keyword, n)
	}
}

// matches are the files that one choice of a pattern names. Not ok: a file that
// is named is not there.
func (l *lexer) matches(at pos, keyword, pattern string, choice bool) (names []string, ok bool) {
	if !path.IsAbs(pattern) {
		pattern = path.Join(path.Dir(at.file), pattern)
	}
	if !strings.ContainsAny(pattern, "*?[") {
		return l.named(at, keyword, pattern, choice)
	}
	if l.glob == nil {
		l.problem(at, keyword, "wildcards cannot be looked up here")
		return nil, true
	}
	names, err := l.glob(pattern)
	switch {
	case err != nil:
		l.problem(at, keyword, "looking up %s: %v", pattern, err)
	case len(names) == 0 && strings.IndexByte("wa", keyword[len(keyword)-1]) >= 0:
		l.problem(at, keyword, "no file matches %s", pattern)
	case len(names) == 0:
		l.notice(at, keyword, "no file matches %s", pattern)
	}
	return names, true
}

// named is a file named without wildcards. Of {a,b} one may be missing, unless
// the keyword insists.
func (l *lexer) named(at pos, keyword, name string, choice bool) ([]string, bool) {
	if !choice {
		return []string{name}, true
	}
	if _, err := l.open(name); err != nil {
		if strings.IndexByte("ba", keyword[len(keyword)-1]) >= 0 {
			l.problem(at, keyword, "cannot read %s: %s", name, reason(err))
		} else {
			l.notice(at, keyword, "%s of the choice is not read: %s", name, reason(err))
		}
		return nil, false
	}
	return []string{name}, true
}

// splice reads one file in the place of its include.
func (l *lexer) splice(at pos, keyword, name string) {
	switch {
	case l.stopped:
		return
	case slices.Contains(l.active, name):
		l.problem(at, keyword, "%s includes itself", name)
		return
	case len(l.active) == maxDepth:
		l.problem(at, keyword, "includes are nested more than %d deep", maxDepth)
		return
	}
	defining := l.defining
	l.defining = nil
	err := l.file(name, at)
	l.defining = defining
	if err == nil {
		return
	}
	text := sprint("cannot read %s: %s", name, reason(err))
	if keyword != "include" {
		l.problem(at, keyword, "%s", text)
		return
	}
	l.doubt(at, keyword, text, "it is left out")
}

// braces are the names that a pattern with {a,b} stands for.
func braces(pattern string) ([]string, error) {
	open := strings.IndexByte(pattern, '{')
	if open < 0 {
		return []string{pattern}, nil
	}
	depth, from := 0, open+1
	var parts []string
	for i := open; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '{':
			depth++
		case c == ',' && depth == 1:
			parts, from = append(parts, pattern[from:i]), i+1
		case c == '}':
			if depth--; depth == 0 {
				return combine(pattern[:open], append(parts, pattern[from:i]), pattern[i+1:])
			}
		}
	}
	return nil, errors.New("the brace in the file's name is not closed")
}

func combine(before string, parts []string, after string) ([]string, error) {
	var all []string
	for _, p := range parts {
		more, err := braces(before + p + after)
		if err != nil {
			return nil, err
		}
		if all = append(all, more...); len(all) > maxBraces {
			return nil, fmt.Errorf("the braces stand for more than %d names", maxBraces)
		}
	}
	return all, nil
}
