package conf

import (
	"path"
	"strconv"
	"strings"
)

// predefined are the definitions that keepalived brings along.
func (l *lexer) predefined(at pos, name, args string) (string, bool) {
	bare := args == ""
	switch {
	case name == "_HASH" && bare:
		return "#", true
	case name == "_BANG" && bare:
		return "!", true
	case name == "_INSTANCE" && bare:
		l.conditional = true
		return l.configID, true
	case name == "_PWD" && bare:
		return l.directory(at), true
	case name == "_ENV" && nameEnd(args, 0) == len(args) && !bare:
		return l.environment(at, args)
	case name == "_RANDOM":
		return l.random(at, args)
	}
	return "", false
}

// directory is the absolute path of the file's folder: keepalived changes to the
// folder of the file that it reads.
func (l *lexer) directory(at pos) string {
	if dir := path.Dir(at.file); path.IsAbs(dir) {
		return dir
	}
	return path.Join(l.folder, path.Dir(at.file))
}

// environment reads a variable of the caller's environment.
func (l *lexer) environment(at pos, name string) (string, bool) {
	if l.env == nil {
		return "", false
	}
	value, ok := l.env(name)
	if !ok {
		return "", false
	}
	l.notice(at, "${_ENV "+name+"}", "read from the environment of this command")
	return value, true
}

// random is a number between bounds in keepalived, another one each time. What a
// cluster agrees on must be the same each time.
func (l *lexer) random(at pos, args string) (string, bool) {
	low := "0"
	if f := strings.Fields(args); len(f) > 2 {
		return "", false
	} else if len(f) > 0 {
		low = f[0]
	}
	if _, err := strconv.ParseUint(low, 10, 32); err != nil {
		return "", false
	}
	if l.lenient {
		l.notice(at, "_RANDOM", "a random number in keepalived; %s is taken, so that a file means the same each time", low)
	} else {
		l.problem(at, "_RANDOM", "a random number would make another table of the file each time it is read: write the number, or use --lenient, which takes the lowest")
	}
	return low, true
}
