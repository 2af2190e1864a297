package main

import (
	"bytes"
	"io"
)

// tally passes test output on and counts the results of top-level tests in it.
type tally struct {
	w                io.Writer
	line             []byte // the unfinished last line
	pass, fail, skip int
}

// Write implements io.Writer.
func (t *tally) Write(p []byte) (int, error) {
	t.line = append(t.line, p...)
	for {
		i := bytes.IndexByte(t.line, '\n')
		if i < 0 {
			break
		}
		t.count(t.line[:i])
		t.line = t.line[i+1:]
	}
	return t.w.Write(p)
}

// Flush counts a last line without a newline.
func (t *tally) Flush() { t.count(t.line); t.line = nil }

func (t *tally) count(line []byte) {
	switch {
	case bytes.HasPrefix(line, []byte("--- PASS: ")):
		t.pass++
	case bytes.HasPrefix(line, []byte("--- FAIL: ")):
		t.fail++
	case bytes.HasPrefix(line, []byte("--- SKIP: ")):
		t.skip++
	}
}
