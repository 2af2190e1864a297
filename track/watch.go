package track

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
	"lbcluster/script"
)

// How often things are looked at that do not tell by themselves.
const (
	filePoll    = 200 * time.Millisecond
	processPoll = 500 * time.Millisecond
	linkPoll    = 100 * time.Millisecond
)

// watch looks at what t names until ctx ends, and tells each change.
func (r *Runner) watch(ctx context.Context, t fsm.Tracker, tell func(condition)) {
	switch t.Kind {
	case fsm.TrackScript:
		r.watchScript(ctx, t, tell)
	case fsm.TrackFile:
		r.poll(ctx, t, filePoll, tell, func() (condition, error) { return readNumber(r.cfg.ReadFile, t.Path) })
	case fsm.TrackProcess:
		d := &delayed{up: int64(t.StartupDelay), down: int64(t.TerminDelay)}
		began := time.Now()
		r.poll(ctx, t, processPoll, tell, func() (condition, error) {
			all, err := r.cfg.Processes()
			if err != nil {
				return condition{}, err
			}
			return d.next(int64(time.Since(began))+1, quorum(t, all)), nil
		})
	case fsm.TrackInterface:
		name := t.Name
		if mapped, ok := r.cfg.Interfaces[name]; ok {
			name = mapped
		}
		r.poll(ctx, t, linkPoll, tell, func() (condition, error) { return r.cfg.Link(name) })
	}
}

// poll tells the condition when it changes. A look that fails changes nothing:
// what was known last still counts.
func (r *Runner) poll(ctx context.Context, t fsm.Tracker, every time.Duration, tell func(condition), look func() (condition, error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last condition
	failed := ""
	for {
		now, err := look()
		if err == nil {
			failed = "" // the same error again is news again
		} else if t.Kind == fsm.TrackFile && !last.known {
			// keepalived too takes a file as 0 until it has read a number; else
			// a file without one would keep every director from standing.
			last = condition{known: true, ok: true}
			tell(last)
		}
		switch {
		case err != nil && err.Error() != failed:
			failed = err.Error()
			r.cfg.Log.Warn("what is tracked can't be looked at; its last condition counts", "kind", t.Kind, "err", err)
		case err == nil && now != last:
			last = now
			tell(now)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watchScript runs the script at its interval, never twice at once.
func (r *Runner) watchScript(ctx context.Context, t fsm.Tracker, tell func(condition)) {
	j := newJudge(t)
	tell(j.condition)
	tick := time.NewTicker(max(t.Interval.D(), time.Millisecond))
	defer tick.Stop()
	for {
		_, err := r.cfg.Run(ctx, script.Job{Command: t.Command, User: t.User, Timeout: t.Timeout.D()})
		if ctx.Err() != nil {
			return
		}
		why := ""
		if err != nil {
			why = err.Error()
		}
		before := j.condition
		j.next(err == nil, why)
		if j.condition != before {
			tell(j.condition)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readNumber reads a tracked file. One that is empty or not there says 0, as in
// keepalived.
func readNumber(read func(string) ([]byte, error), path string) (condition, error) {
	b, err := read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return condition{}, fmt.Errorf("read a tracked file: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return condition{known: true, ok: true}, nil
	}
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return condition{}, fmt.Errorf("%s holds no number", path)
	}
	return condition{known: true, ok: true, value: int(v)}, nil
}

// maxTracked bounds how much is read of a tracked file.
const maxTracked = 64

// readFile reads the beginning of a file.
func readFile(path string) ([]byte, error) {
	// A FIFO that nobody writes to must not hold up the watcher.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	b := make([]byte, maxTracked)
	n, err := f.Read(b)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// Process is one running program.
type Process struct {
	Name string   // /proc/PID/comm: at most 15 bytes
	Args []string // /proc/PID/cmdline
}

// commLimit is the kernel's TASK_COMM_LEN without the ending zero.
const commLimit = 15

// quorum counts the processes that t means.
func quorum(t fsm.Tracker, all []Process) condition {
	words, err := script.Words(t.Process)
	if err != nil {
		return condition{known: true, why: err.Error()}
	}
	n := 0
	for _, p := range all {
		if matches(t, words, p) {
			n++
		}
	}
	c := condition{known: true, ok: true}
	switch {
	case t.QuorumMax < 0 && n > 0:
		c.ok, c.why = false, fmt.Sprintf("%d run, and none may", n)
	case t.QuorumMax > 0 && n > t.QuorumMax:
		c.ok, c.why = false, fmt.Sprintf("%d run, more than %d", n, t.QuorumMax)
	case n < t.Quorum:
		c.ok, c.why = false, fmt.Sprintf("%d of %d run", n, t.Quorum)
	}
	return c
}

// matches follows keepalived: the process's name, unless parameters or
// full_command ask for the command line.
func matches(t fsm.Tracker, words []string, p Process) bool {
	if len(words) == 1 && !t.FullCommand {
		name := words[0][strings.LastIndexByte(words[0], '/')+1:]
		return p.Name == name[:min(len(name), commLimit)]
	}
	if len(words) != len(p.Args) {
		return false
	}
	for i, w := range words {
		if w != p.Args[i] {
			return false
		}
	}
	return true
}

// processes lists what runs on this machine; what vanishes meanwhile is left out.
func processes() ([]Process, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Process
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err != nil || zombie(string(stat)) {
			continue
		}
		comm, err := os.ReadFile("/proc/" + d.Name() + "/comm")
		if err != nil {
			continue
		}
		line, _ := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		p := Process{Name: strings.TrimSpace(string(comm))}
		if len(line) > 0 {
			p.Args = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		}
		all = append(all, p)
	}
	return all, nil
}

// zombie: the state follows the name, which stands in parentheses and may
// contain any.
func zombie(stat string) bool {
	i := strings.LastIndexByte(stat, ')')
	return i >= 0 && strings.HasPrefix(stat[i+1:], " Z")
}
