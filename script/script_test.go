package script

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestWords(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"/bin/x", []string{"/bin/x"}},
		{"  x   a\tb ", []string{"x", "a", "b"}},
		{`x 'a b' "c d"`, []string{"x", "a b", "c d"}},
		{`x a'b c'd`, []string{"x", "ab cd"}},
		{`x '' b`, []string{"x", "", "b"}},
		{`x \' a\ b "\""`, []string{"x", "'", "a b", `"`}},
		{`x 'a\b'`, []string{"x", `a\b`}},
		{"x $HOME `id` ; rm *", []string{"x", "$HOME", "`id`", ";", "rm", "*"}},
	} {
		if got, err := Words(c.in); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q %v, want %q", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "  ", "x 'a", `x "a`, `x \`, "''"} {
		if got, err := Words(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add(`x 'a b' "c \" d" \e`)
	f.Fuzz(func(t *testing.T, s string) {
		words, err := Words(s)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range words { // what was split comes back when each word is quoted
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		if again, err := Words(strings.Join(quoted, " ")); err != nil || !slices.Equal(again, words) {
			t.Errorf("%q: %q, again %q %v", s, words, again, err)
		}
	})
}

func run(t *testing.T, j Job) (int, error) {
	t.Helper()
	if j.Timeout == 0 {
		j.Timeout = 10 * time.Second
	}
	return Run(context.Background(), j)
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		command string
		status  int
		says    string
	}{
		{"true", 0, ""},
		{"false", 1, "exit status 1"},
		{"sh -c 'exit 7'", 7, "exit status 7"},
		{"sh -c 'kill -9 $$'", -1, "killed by killed"},
		{"/does/not/exist", -1, "no such file"},
		{"/etc/passwd", -1, "permission denied"},
		{"sh 'x", -1, "never closed"},
	} {
		status, err := run(t, Job{Command: c.command})
		if status != c.status || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d, %v; want %d, %s", c.command, status, err, c.status, c.says)
		}
	}
}

func TestArgumentsFollowTheCommandsOwn(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	_, err := run(t, Job{Command: "sh -c 'printf %s, \"$@\" >" + out + "' zero own", Args: []string{"INSTANCE", "a b"}})
	got, _ := os.ReadFile(out)
	if err != nil || string(got) != "own,INSTANCE,a b," {
		t.Errorf("%q %v", got, err)
	}
}

// A script that hangs is killed with all that it started, and so is what a
// script leaves behind when it ends.
func TestNothingIsLeftBehind(t *testing.T) {
	for _, c := range []struct {
		name, script string
		timeout      time.Duration
		want         error
	}{
		{"hangs", "sleep 300 & echo $! >PID; sleep 300", 200 * time.Millisecond, ErrTimeout},
		{"leaves a child", "sleep 300 >/dev/null 2>&1 & echo $! >PID", 10 * time.Second, nil},
		{"ignores SIGTERM", "trap '' TERM; sleep 300 & echo $! >PID; wait", 200 * time.Millisecond, ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := filepath.Join(t.TempDir(), "pid")
			_, err := run(t, Job{Command: "sh -c \"" + strings.ReplaceAll(strings.ReplaceAll(c.script, "PID", pid), "$", `\$`) + "\"", Timeout: c.timeout})
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			text, err := os.ReadFile(pid)
			if err != nil {
				t.Fatal(err)
			}
			child, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if gone(child) {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("process %d lives", child)
				}
			}
		})
	}
}

// gone: not there, or dead and not yet reaped by whoever inherited it.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestMuchOutputIsNoTrouble(t *testing.T) {
	if status, err := run(t, Job{Command: "sh -c 'head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2'"}); status != 0 || err != nil {
		t.Errorf("%d %v", status, err)
	}
}

func TestUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(out, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(out, 0o666)
	for dir := filepath.Dir(out); dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(dir, st.Mode().Perm()|0o011); err != nil {
				t.Fatal(err)
			}
		}
		if dir == os.TempDir() {
			break
		}
	}
	for name, want := range map[string]string{"nobody": "65534", "nobody:daemon": "65534 1"} {
		if _, err := run(t, Job{Command: "sh -c 'echo $(id -u) $(id -g) >" + out + "'", User: name}); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(out); !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := run(t, Job{Command: "true", User: "no-such-user-here"}); err == nil || !strings.Contains(err.Error(), "unknown user") {
		t.Errorf("%v", err)
	}
	if _, err := run(t, Job{Command: "true", User: "nobody:no-such-group-here"}); err == nil {
		t.Error("an unknown group is taken")
	}
}
