package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// defaultUser is what a script that names no user runs as, if this machine has
// such a user; else it runs as the daemon does. keepalived's rule.
const defaultUser = "keepalived_script"

// ErrTimeout: the script took longer than it may and was killed.
var ErrTimeout = errors.New("it took too long and was killed")

// Job is one execution.
type Job struct {
	Command string
	Args    []string // after the command's own words
	User    string   // "user" or "user:group"; empty: the default
	Timeout time.Duration
}

// grace is how long the pipes of a killed group are waited for.
const grace = 100 * time.Millisecond

// Run executes a job and waits for it. The status is its exit status, -1 when
// there is none; the error says why it did not end by itself with status 0, and
// wraps ErrTimeout when it was killed for its time.
func Run(ctx context.Context, j Job) (status int, err error) {
	words, err := Words(j.Command)
	if err != nil {
		return -1, err
	}
	cred, err := Credential(j.User)
	if err != nil {
		return -1, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, j.Timeout, ErrTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], j.Args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}
	cmd.WaitDelay = grace
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	if cmd.Process != nil {
		// What it left in its group goes with it; the group lives on while any
		// of it does, so this hits nobody else.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	return outcome(ctx, words[0], cmd, err)
}

func outcome(ctx context.Context, name string, cmd *exec.Cmd, err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		return -1, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), fmt.Errorf("%s: exit status %d", name, exit.ExitCode())
	case errors.As(err, &exit):
		return -1, fmt.Errorf("%s: killed by %v", name, exit.Sys().(syscall.WaitStatus).Signal())
	}
	return -1, fmt.Errorf("run %s: %w", name, err)
}

// Credential is who a script runs as ("user", "user:group", empty: the default); nil:
// whoever runs us.
func Credential(name string) (*syscall.Credential, error) {
	wanted := name
	if name == "" {
		name = defaultUser
	}
	name, group, _ := strings.Cut(name, ":")
	u, err := user.Lookup(name)
	if err != nil {
		if wanted == "" {
			return nil, nil
		}
		return nil, fmt.Errorf("script user: %w", err)
	}
	gid := u.Gid
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("script group: %w", err)
		}
		gid = g.Gid
	}
	if u.Uid == strconv.Itoa(os.Getuid()) && gid == strconv.Itoa(os.Getgid()) {
		return nil, nil // already: asking would need a right that we may not have
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("script user %s: %w", name, err)
	}
	id, err := strconv.ParseUint(gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("script user %s: %w", name, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(id)}, nil
}
