package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// hcLogger lets Raft, which speaks hclog, log through slog.
type hcLogger struct {
	log  *slog.Logger
	name string
	args []any
}

func newHCLogger(l *slog.Logger, name string) hclog.Logger {
	return &hcLogger{log: l.With("part", name), name: name}
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
	out := make([]any, len(args))
	for i, a := range args {
		// hclog.Fmt is a lazy Sprintf: {format, args...}.
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		out[i] = a
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
	return &hcLogger{log: h.log.With(args...), name: h.name, args: append(h.args[:len(h.args):len(h.args)], args...)}
}
func (h *hcLogger) Named(name string) hclog.Logger      { return h.ResetNamed(h.name + "." + name) }
func (h *hcLogger) ResetNamed(name string) hclog.Logger { return &hcLogger{h.log, name, h.args} }

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
