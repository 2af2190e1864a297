package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
	"lbcluster/script"
)

// ledger records what was run, in order.
type ledger struct {
	mu    sync.Mutex
	lines []string
	takes map[string]time.Duration // by command
}

func (l *ledger) run(ctx context.Context, j script.Job) (int, error) {
	l.mu.Lock()
	l.lines = append(l.lines, strings.TrimSpace(j.Command+" "+strings.Join(j.Args, " ")+" "+map[bool]string{true: "as " + j.User}[j.User != ""]))
	takes := l.takes[j.Command]
	l.mu.Unlock()
	select {
	case <-time.After(min(takes, j.Timeout)):
	case <-ctx.Done():
		return -1, context.Cause(ctx)
	}
	if takes > j.Timeout {
		return -1, script.ErrTimeout
	}
	if strings.HasPrefix(j.Command, "bad") {
		return 1, errors.New("exit status 1")
	}
	return 0, nil
}

func (l *ledger) want(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.lines, want) {
		t.Errorf("ran\n  %s\nwant\n  %s", strings.Join(l.lines, "\n  "), strings.Join(want, "\n  "))
	}
}

func play(t *testing.T, l *ledger, story func(r *Runner, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := New(NewPipes(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
		r.run = l.run
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		stop := sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		story(r, stop)
		stop()
	})
}

func all(name string) fsm.Notify {
	s := func(word string) *fsm.Script { return &fsm.Script{Command: name + "-" + word} }
	return fsm.Notify{Master: s("master"), Backup: s("backup"), Fault: s("fault"), Stop: s("stop"), Any: &fsm.Script{Command: name + "-any x", User: "u"}}
}

func TestKeepalivedsContract(t *testing.T) {
	l := &ledger{}
	play(t, l, func(r *Runner, stop func()) {
		s := Subject{Name: "VI_1", Priority: 100, Scripts: all("s")}
		r.Set(s, Backup)
		r.Set(s, Backup)
		s.Priority = 80
		r.Set(s, Master)
		r.Set(s, Fault)
		r.Set(Subject{Group: true, Name: "VI_1", Priority: 0, Scripts: fsm.Notify{Any: &fsm.Script{Command: "group"}}}, Fault)
		r.Set(Subject{Name: "silent"}, Master)
		time.Sleep(time.Second)
		r.Set(s, Stop)
		stop()
		slices.SortStableFunc(l.lines, func(a, b string) int { // the group's own queue runs beside
			return strings.Compare(strings.SplitN(b, "-", 2)[0], strings.SplitN(a, "-", 2)[0])
		})
		l.want(t, "s-backup", "s-any x INSTANCE VI_1 BACKUP 100 as u", "s-master", "s-any x INSTANCE VI_1 MASTER 80 as u",
			"s-fault", "s-any x INSTANCE VI_1 FAULT 80 as u", "s-stop", "s-any x INSTANCE VI_1 STOP 80 as u",
			"group GROUP VI_1 FAULT 0")
	})
}

// A script that hangs is given up, its router's next state follows, and no other
// router waits.
func TestHangingScriptHoldsOnlyItsOwn(t *testing.T) {
	l := &ledger{takes: map[string]time.Duration{"slow-master": time.Hour}}
	play(t, l, func(r *Runner, stop func()) {
		r.Set(Subject{Name: "slow", Scripts: fsm.Notify{Master: &fsm.Script{Command: "slow-master"}, Backup: &fsm.Script{Command: "slow-backup"}}}, Master)
		r.Set(Subject{Name: "slow", Scripts: fsm.Notify{Master: &fsm.Script{Command: "slow-master"}, Backup: &fsm.Script{Command: "slow-backup"}}}, Backup)
		time.Sleep(time.Second)
		r.Set(Subject{Name: "quick", Scripts: fsm.Notify{Master: &fsm.Script{Command: "bad-quick"}}}, Master)
		time.Sleep(time.Second)
		l.want(t, "slow-master", "bad-quick")
		time.Sleep(Limit)
		l.want(t, "slow-master", "bad-quick", "slow-backup")
	})
}

func TestEndWaitsForTheLastWordButNotLong(t *testing.T) {
	l := &ledger{takes: map[string]time.Duration{"a": time.Second, "b": time.Hour}}
	play(t, l, func(r *Runner, stop func()) {
		r.Set(Subject{Name: "A", Scripts: fsm.Notify{Stop: &fsm.Script{Command: "a"}}}, Stop)
		r.Set(Subject{Name: "B", Scripts: fsm.Notify{Stop: &fsm.Script{Command: "b"}}}, Stop)
		began := time.Now()
		stop()
		if d := time.Since(began); d != farewell {
			t.Errorf("ended after %v", d)
		}
		slices.Sort(l.lines)
		l.want(t, "a", "b")
		r.Set(Subject{Name: "A", Scripts: fsm.Notify{Master: &fsm.Script{Command: "a"}}}, Master)
		time.Sleep(time.Minute)
		l.want(t, "a", "b")
	})
}

func TestQueueIsBounded(t *testing.T) {
	l := &ledger{takes: map[string]time.Duration{"x": time.Second}}
	play(t, l, func(r *Runner, stop func()) {
		s := Subject{Name: "A", Scripts: fsm.Notify{Any: &fsm.Script{Command: "x"}}}
		for range 500 {
			r.Set(s, Master)
			r.Set(s, Backup)
		}
		time.Sleep(5 * time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(l.lines); n < queued || n > queued+2 || !strings.Contains(l.lines[n-1], "BACKUP") {
			t.Errorf("%d runs, the last %s", n, l.lines[n-1])
		}
	})
}

func TestStateAndPriority(t *testing.T) {
	for _, c := range []struct {
		owned, fault bool
		want         State
	}{{true, false, Master}, {true, true, Master}, {false, true, Fault}, {false, false, Backup}} {
		if got := StateOf(c.owned, c.fault); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
	for _, c := range []struct {
		base  uint8
		score int
		want  int
	}{{100, 0, 100}, {100, -20, 80}, {100, 500, 254}, {5, -20, 1}, {255, -20, 255}} {
		if got := Priority(c.base, c.score); got != c.want {
			t.Error(fmt.Sprint(c, got))
		}
	}
}
