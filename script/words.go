package script

import (
	"errors"
	"fmt"
	"strings"
)

// Words splits a command: words are separated by blanks, ' and " keep what is
// between them together and vanish, and a backslash outside of ' takes the
// next character as it is.
func Words(command string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	some, escaped := false, false
	for _, c := range command {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, some = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, some = c, true
		case c == ' ' || c == '\t':
			if some {
				words = append(words, word.String())
				word.Reset()
			}
			some = false
		default:
			word.WriteRune(c)
			some = true
		}
	}
	switch {
	case quote != 0:
		return nil, fmt.Errorf("command %q: the %c is never closed", command, quote)
	case escaped:
		return nil, fmt.Errorf("command %q ends in a backslash", command)
	case some:
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("the command names no program")
	}
	return words, nil
}
