package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// lockEnv tells a process that was executed in place of the daemon which file
// descriptor holds the daemon's lock.
const lockEnv = "LBCLUSTER_LOCK_FD"

// errAlive: the lock is held, so a daemon lives.
var errAlive = errors.New("another lbcluster daemon runs on this machine")

// lockFile is held by the daemon for its life, across its own re-execution: the
// kernel lets go of it with the process, so that whoever gets it knows that the
// daemon before is dead and has no gate open that it still writes to.
func (c NodeConfig) lockFile() string { return filepath.Join(filepath.Dir(c.Socket), "daemon.lock") }

// daemonLock is the lock as held.
type daemonLock struct{ f *os.File }

// takeLock takes the daemon's lock, without waiting: errAlive if a daemon has it.
func takeLock(path string) (*daemonLock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the daemon's lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the daemon's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked", errAlive, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &daemonLock{f}, nil
}

// lockRetry is how often the lock is tried while a fence may hold it.
const lockRetry = 20 * time.Millisecond

// awaitLock is takeLock that waits for so long, since lbcluster fence holds the
// lock for a moment. A lock that was handed on over an execution is taken over.
func awaitLock(ctx context.Context, path string, limit time.Duration) (*daemonLock, error) {
	if l := inheritedLock(path); l != nil {
		return l, nil
	}
	for end := time.Now().Add(limit); ; {
		l, err := takeLock(path)
		if err == nil || !errors.Is(err, errAlive) || time.Now().After(end) || !pause(ctx, lockRetry) {
			return l, err
		}
	}
}

// inheritedLock is the lock that lockEnv names, if it is the file at path; nil:
// there is none.
func inheritedLock(path string) *daemonLock {
	word := os.Getenv(lockEnv)
	os.Unsetenv(lockEnv) // it is for this process alone
	fd, err := strconv.Atoi(word)
	if err != nil || fd < 3 {
		return nil
	}
	var held, named unix.Stat_t
	if unix.Fstat(fd, &held) != nil || unix.Stat(path, &named) != nil || held.Ino != named.Ino || held.Dev != named.Dev {
		return nil
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // it is not ours after all
	}
	unix.CloseOnExec(fd)
	return &daemonLock{os.NewFile(uintptr(fd), path)}
}

// release lets go of the lock. The file stays: a lock on a file that was
// removed and made anew would be two locks.
func (l *daemonLock) release() { l.f.Close() }

// handOn keeps the lock over an execution and returns the environment word that
// tells the next image of it; undo takes that back.
func (l *daemonLock) handOn() (word string, undo func(), err error) {
	fd := l.f.Fd()
	if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
		return "", nil, fmt.Errorf("keep the daemon's lock: %w", err)
	}
	return fmt.Sprintf("%s=%d", lockEnv, fd), func() { unix.CloseOnExec(int(fd)) }, nil
}
