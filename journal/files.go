package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The files, one entry a line as JSON: when the first is full it takes the
// place of the second.
const (
	currentFile = "journal.jsonl"
	olderFile   = "journal.1.jsonl"
)

// files appends to the current file and turns them.
type files struct {
	dir   string
	max   int64
	f     *os.File
	size  int64
	dirty bool
}

// append writes one line. After an error the file is opened anew.
func (w *files) append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	line = append(line, '\n')
	if err := w.ready(int64(len(line))); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	n, err := w.f.Write(line)
	w.size += int64(n)
	w.dirty = true
	if err != nil {
		w.close()
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// ready has a file open that has room for n bytes.
func (w *files) ready(n int64) error {
	path := filepath.Join(w.dir, currentFile)
	if w.f != nil && w.size+n > w.max {
		w.close()
		if err := os.Rename(path, filepath.Join(w.dir, olderFile)); err != nil {
			return err
		}
	}
	if w.f != nil {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	w.f = f
	w.size, err = endLine(f)
	if err != nil {
		w.close()
		return err
	}
	if w.size > 0 && w.size+n > w.max {
		return w.ready(n)
	}
	return nil
}

// endLine ends a line that was cut short, so that the next is whole, and
// returns the size.
func endLine(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return 0, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, fi.Size()-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return fi.Size(), nil
	}
	n, err := f.Write([]byte{'\n'})
	return fi.Size() + int64(n), err
}

// sync asks the disk to keep what was written.
func (w *files) sync() {
	if w.f != nil && w.dirty {
		w.dirty = w.f.Sync() != nil
	}
}

func (w *files) close() {
	if w.f != nil {
		w.f.Close()
		w.f = nil
	}
}

// Append writes one entry of a process that has no Journal: lbcluster fence,
// after the daemon's death.
func Append(dir string, e Entry) error {
	w := &files{dir: dir, max: MaxFile}
	defer w.close()
	return w.append(e.bounded())
}

// readFiles returns the entries in both files, oldest first. Lines that cannot
// be read are skipped: a power failure may have cut one short.
func readFiles(dir string) ([]Entry, error) {
	var all []Entry
	for _, name := range []string{olderFile, currentFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("read the journal: %w", err)
		}
		all = append(all, parse(b)...)
	}
	return all, nil
}

// parse reads lines of JSON and skips what is none.
func parse(b []byte) []Entry {
	var all []Entry
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		var e Entry
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Kind != "" {
			all = append(all, e)
		}
	}
	return all
}

// Read returns what was noted from one time to another by this member's wall
// clock (zero: no limit), oldest first; only the newest limit entries of them
// (0: all). It returns what is in memory, with an error, when the disk does not
// answer before ctx ends.
func (j *Journal) Read(ctx context.Context, from, to time.Time, limit int) ([]Entry, error) {
	type result struct {
		entries []Entry
		err     error
	}
	answer := make(chan result, 1)
	go func() { // a read may hang with its disk; then nobody waits for it any more
		entries, err := readFiles(j.cfg.Dir)
		answer <- result{entries, err}
	}()
	var got result
	select {
	case got = <-answer:
	case <-ctx.Done():
		got.err = fmt.Errorf("read the journal: %w", ctx.Err())
	}
	all := join(got.entries, j.memory())
	return newest(within(all, from, to), limit), got.err
}

func (j *Journal) memory() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Entry(nil), j.tail...)
}

// join is all there is, once: what is only in the files is older than what is
// in memory, which may have gone from the files, or never got there.
func join(written, memory []Entry) []Entry {
	type id struct {
		at, boot int64
		unit     uint64
		kind     Kind
	}
	of := func(e Entry) id { return id{e.At.UnixNano(), e.Boot, e.Unit, e.Kind} }
	have := map[id]bool{}
	for _, e := range memory {
		have[of(e)] = true
	}
	var older []Entry
	for _, e := range written {
		if !have[of(e)] {
			older = append(older, e)
		}
	}
	return append(older, memory...)
}

func within(all []Entry, from, to time.Time) []Entry {
	var out []Entry
	for _, e := range all {
		if (from.IsZero() || !e.At.Before(from)) && (to.IsZero() || !e.At.After(to)) {
			out = append(out, e)
		}
	}
	return out
}

func newest(all []Entry, limit int) []Entry {
	if limit > 0 && len(all) > limit {
		return all[len(all)-limit:]
	}
	return all
}
