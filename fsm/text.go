package fsm

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits on free text, in bytes, so that no proposer can bloat the table.
const (
	maxBy     = 128
	maxDetail = 200
	maxGlobal = 256
)

// clean makes free text fit for the table: on one line, at most limit bytes,
// and valid UTF-8 in the way that JSON makes it valid (strings.Map, too, makes
// U+FFFD of each bad byte), so that it does not matter which comes first.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		// U+0080 to U+009F are control characters too: terminals take U+009B
		// for the start of an escape sequence. The rest turns text around.
		if r < ' ' || 0x7f <= r && r <= 0x9f || 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// isClean reports whether clean would leave s as it is.
func isClean(s string, limit int) bool { return clean(s, limit) == s }

// nameProblem says what is wrong with the name of a set or a virtual router;
// "" if nothing is. Other scripts than Latin are fine; what a shell, a path or
// a configuration file would take apart is not.
func nameProblem(s string) string {
	switch {
	case s == "":
		return "the name is missing"
	case len(s) > 64:
		return "the name is longer than 64 bytes"
	case !utf8.ValidString(s):
		return "the name is not UTF-8"
	case s[0] == '-':
		return "the name begins with -"
	}
	for _, r := range s {
		if !nameRune(r) {
			return fmt.Sprintf("the name has %q in it: use letters, digits and _ . : @ + -", r)
		}
	}
	return ""
}

// nameRune avoids package unicode on purpose: its tables differ between Go
// releases, and all members must judge alike.
func nameRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		strings.ContainsRune("_.:@+-", r) || r > 0xa0 && r != 0x2028 && r != 0x2029 && r != utf8.RuneError
}

// hostNameProblem is nameProblem for a member, whose name is a host's.
func hostNameProblem(s string) string {
	if s == "" || len(s) > 63 {
		return "a member's name has 1 to 63 characters"
	}
	for i, r := range s {
		alnum := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("._-", r)) {
			return fmt.Sprintf("the name %q is no host name: letters, digits and . _ -, a letter or digit first", s)
		}
	}
	return ""
}

// count is "1 problem", "2 problems".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// someOf joins at most limit items and counts the rest.
func someOf(items []string, limit int) string {
	if len(items) <= limit {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:limit], ", "), len(items)-limit)
}
