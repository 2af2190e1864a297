package conf

import (
	"fmt"
	"strings"
)

func sprint(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// shellLike are the keywords whose values keepalived splits as a shell would:
// with both kinds of quotes and backslashes.
var shellLike = set(`
	script notify notify_master notify_backup notify_fault notify_stop notify_deleted notify_master_rx_lower_pri
	notify_up notify_down quorum_up quorum_down misc_path regex startup_script shutdown_script
	notify_fifo_script vrrp_notify_fifo_script lvs_notify_fifo_script
`)

// statement reads what stands between line ends and braces.
func (l *lexer) statement(ln line) {
	before := len(l.tokens)
	l.words(ln)
	if len(l.tokens) > before {
		l.tokens = append(l.tokens, token{kind: boundary, pos: ln.at})
	}
}

// words splits a statement into words: at blanks, and "..." is one word.
func (l *lexer) words(ln line) {
	text := ln.text
	keyword := true
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case blank(c):
			i++
		case c == '"':
			end := strings.IndexByte(text[i+1:], '"')
			if end < 0 {
				l.unclosed(ln, i)
				return
			}
			l.word(ln.pos(i), text[i+1:i+1+end], true)
			i += end + 2
		default:
			end := i
			for end < len(text) && !blank(text[end]) && text[end] != '"' {
				end++
			}
			w := text[i:end]
			l.word(ln.pos(i), w, false)
			i = end
			if keyword && shellLike[w] && strings.ContainsAny(text[i:], `'"\`) {
				l.shellWords(ln, i)
				return
			}
		}
		keyword = false
	}
}

func (l *lexer) word(at pos, text string, quoted bool) {
	if !quoted {
		l.leftover(at, text)
	}
	l.tokens = append(l.tokens, token{kind: word, pos: at, text: text, quoted: quoted})
}

// leftover tells of what looks like a definition's use but named none.
func (l *lexer) leftover(at pos, text string) {
	if len(text) > 1 && text[0] == '$' && nameEnd(text, 1) == len(text) {
		l.notice(at, text, "there is no definition $%s: the text stays as it is", text[1:])
	}
}

func (l *lexer) unclosed(ln line, i int) {
	l.doubt(ln.pos(i), firstWord(ln.text), "the quote is not closed on this line", "what follows it is ignored")
}

// shellWords splits what follows a keyword of shellLike.
func (l *lexer) shellWords(ln line, from int) {
	text := ln.text
	for i := from; ; {
		for i < len(text) && blank(text[i]) {
			i++
		}
		if i == len(text) {
			return
		}
		w, end, ok := shellWord(text, i)
		if !ok {
			l.unclosed(ln, i)
			return
		}
		l.word(ln.pos(i), w, true)
		i = end
	}
}

// shellWord reads one word from i on, and says where it ends; not ok: a quote is
// not closed, or nothing follows a backslash.
func shellWord(s string, i int) (w string, end int, ok bool) {
	var b strings.Builder
	var quote byte
	for i < len(s) {
		switch c := s[i]; {
		case c == '\\':
			if i+1 == len(s) {
				return "", 0, false
			}
			b.WriteString(s[i : i+2]) // whoever runs the program resolves it
			i += 2
			continue
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '"' || c == '\'':
			quote = c
		case blank(c):
			return b.String(), i, true
		default:
			b.WriteByte(c)
		}
		i++
	}
	return b.String(), i, quote == 0
}
