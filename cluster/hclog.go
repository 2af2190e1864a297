package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// hcLogger lets Raft, which speaks hclog, log through slog.
type hcLogger struct {
	log  *slog.Logger
	name string
	args []any
	calm *calm
}

func newHCLogger(l *slog.Logger, name string) hclog.Logger {
	return &hcLogger{log: l.With("part", name), name: name, calm: &calm{said: map[string]*saying{}}}
}

// newRaftLogger is newHCLogger with everything, and for longer, held to once
// while hush is set: a member that was removed stands for election for ever.
func newRaftLogger(l *slog.Logger, name string, hush *atomic.Bool) hclog.Logger {
	return &hcLogger{log: l.With("part", name), name: name, calm: &calm{said: map[string]*saying{}, hush: hush}}
}

// calm keeps Raft from complaining about one dead peer ten times a second: a
// warning or error about the same peer passes once in calmFor, with the number
// of those left out.
type calm struct {
	hush *atomic.Bool // nil: never
	mu   sync.Mutex
	said map[string]*saying
}

func (c *calm) hushed() bool { return c.hush != nil && c.hush.Load() }

type saying struct {
	last time.Time
	left int // out since
}

const (
	calmFor  = 10 * time.Second
	hushFor  = time.Hour // while hushed
	calmMost = 1000      // sayings remembered
)

// pass says whether a line goes out now, and how many like it did not since
// the last one that went.
func (c *calm) pass(now time.Time, key string) (ok bool, left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.said[key]
	pause := calmFor
	if c.hushed() {
		pause = hushFor
	}
	switch {
	case s == nil:
		if len(c.said) >= calmMost {
			clear(c.said)
		}
		c.said[key] = &saying{last: now}
		return true, 0
	case now.Sub(s.last) < pause:
		s.left++
		return false, 0
	}
	left = s.left
	s.last, s.left = now, 0
	return true, left
}

// sayingKey is what makes two lines the same: the message and whom it is about.
func sayingKey(msg string, args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "server-id", "from":
			return fmt.Sprint(msg, args[i+1])
		}
	}
	return msg
}

var slogLevels = map[hclog.Level]slog.Level{
	hclog.Trace: slog.LevelDebug - 4,
	hclog.Debug: slog.LevelDebug,
	hclog.Info:  slog.LevelInfo,
	hclog.Warn:  slog.LevelWarn,
	hclog.Error: slog.LevelError,
}

func (h *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	l, ok := slogLevels[level]
	if !ok {
		l = slog.LevelInfo
	}
	if !h.log.Enabled(context.Background(), l) {
		return
	}
	left := 0
	if l >= slog.LevelWarn || h.calm.hushed() {
		var ok bool
		if ok, left = h.calm.pass(time.Now(), sayingKey(msg, args)); !ok {
			return
		}
	}
	out := make([]any, len(args), len(args)+2)
	for i, a := range args {
		// hclog.Fmt is a lazy Sprintf: {format, args...}.
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		out[i] = a
	}
	if left > 0 {
		out = append(out, "like_it_before", left)
	}
	h.log.Log(context.Background(), l, msg, out...)
}

func (h *hcLogger) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hcLogger) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hcLogger) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hcLogger) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hcLogger) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hcLogger) enabled(l slog.Level) bool { return h.log.Enabled(context.Background(), l) }
func (h *hcLogger) IsTrace() bool             { return h.enabled(slogLevels[hclog.Trace]) }
func (h *hcLogger) IsDebug() bool             { return h.enabled(slog.LevelDebug) }
func (h *hcLogger) IsInfo() bool              { return h.enabled(slog.LevelInfo) }
func (h *hcLogger) IsWarn() bool              { return h.enabled(slog.LevelWarn) }
func (h *hcLogger) IsError() bool             { return h.enabled(slog.LevelError) }

func (h *hcLogger) ImpliedArgs() []any { return h.args }
func (h *hcLogger) Name() string       { return h.name }

func (h *hcLogger) With(args ...any) hclog.Logger {
	return &hcLogger{log: h.log.With(args...), name: h.name, args: append(h.args[:len(h.args):len(h.args)], args...), calm: h.calm}
}
func (h *hcLogger) Named(name string) hclog.Logger { return h.ResetNamed(h.name + "." + name) }
func (h *hcLogger) ResetNamed(name string) hclog.Logger {
	return &hcLogger{h.log, name, h.args, h.calm}
}

// SetLevel does nothing: slog's handler decides.
func (h *hcLogger) SetLevel(hclog.Level)  {}
func (h *hcLogger) GetLevel() hclog.Level { return hclog.NoLevel }

func (h *hcLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(lineLogger{h.log}, "", 0)
}
func (h *hcLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineLogger{h.log} }

// lineLogger turns lines like memberlist's "[WARN] memberlist: text" into
// records. Gossip is a hint, so even its errors are no more than warnings.
type lineLogger struct{ log *slog.Logger }

func (w lineLogger) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		level, text := slog.LevelInfo, strings.TrimSpace(string(line))
		if rest, ok := strings.CutPrefix(text, "["); ok {
			word, after, found := strings.Cut(rest, "] ")
			if found {
				text = strings.TrimPrefix(after, "memberlist: ")
				level = lineLevel(word)
			}
		}
		w.log.Log(context.Background(), level, text)
	}
	return len(p), nil
}

func lineLevel(word string) slog.Level {
	switch word {
	case "DEBUG":
		return slog.LevelDebug
	case "INFO":
		return slog.LevelInfo
	default:
		return slog.LevelWarn
	}
}
