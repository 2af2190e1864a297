package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/cluster/lease"
	"lbcluster/journal"
)

// tryLimit bounds the trial of a new image.
const tryLimit = 10 * time.Second

// awaitReload waits for SIGHUP, and then for an image that can run: a binary
// that can't, or that rejects its configuration, is an error in the log and
// changes nothing. It returns false when
// ctx ends.
func (d *theDaemon) awaitReload(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-d.hup:
		}
		err := tryImage(ctx, d.cfg)
		if err == nil {
			return true
		}
		why := err.Error()
		d.refused.Store(&why)
		d.log.Error("not reloaded: what is installed cannot run, or not with its configuration; this daemon goes on", "err", err)
	}
}

// image is the program on disk, which may be newer than the one that runs. It
// goes by the name that this one was started by: /proc/self/exe would follow the
// old file to wherever an upgrade put it.
func image() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return "", fmt.Errorf("find the program: %w", err)
	}
	return path, nil
}

// tryImage runs the program on disk once, as it would be executed but for
// --check: a fault in lbcluster.yaml would end the next image at its start, and
// with it all that is owned.
func tryImage(ctx context.Context, cfg NodeConfig) error {
	path, err := image()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	args := append(slices.Clone(os.Args[1:]), "--check")
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), samePaths+"="+cfg.paths())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("try %s: %w: %.500s", path, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// samePaths is the variable by which a daemon tells the image that it tries
// where it keeps what the next one must find.
const samePaths = "LBCLUSTER_SAME_PATHS"

// paths are those that a reload cannot change.
func (c NodeConfig) paths() string {
	return "data_dir " + c.DataDir + ", socket " + c.Socket + ", bpf_pin_dir " + c.BPFPinDir
}

// checkPaths refuses other paths than those of the daemon that asks.
func (c NodeConfig) checkPaths() error {
	if want := os.Getenv(samePaths); want != "" && want != c.paths() {
		return fmt.Errorf("a reload cannot change paths (the daemon has %s; the configuration says %s): restart instead", want, c.paths())
	}
	return nil
}

// executeAgain replaces this process by the program on disk, with the same
// arguments, process id and lock. It returns only if that fails.
func executeAgain(lock *daemonLock) error {
	path, err := image()
	if err != nil {
		return err
	}
	word, undo, err := lock.handOn()
	if err != nil {
		return err
	}
	defer undo()
	// An ignored signal stays so across the execution: one that comes before the
	// next image waits for it does not end the daemon.
	signal.Ignore(unix.SIGHUP)
	return fmt.Errorf("execute %s: %w", path, unix.Exec(path, os.Args, append(os.Environ(), word)))
}

// stretchWait bounds the wait for a majority's longer promise.
const stretchWait = time.Second

// stretchLease has all that is owned renewed for as long as voters promise, so
// that it outlasts the end of this image and the start of the next. Without a
// majority that would not be renewed anyway.
func (d *theDaemon) stretchLease(ctx context.Context) {
	m := d.part.Load()
	if m == nil {
		return
	}
	m.lease.Stretch()
	for end := time.Now().Add(stretchWait); time.Now().Before(end) && pause(ctx, beat); {
		if stretched(m.lease.Status(), m.lease.Params()) {
			return
		}
	}
}

// stretched reports whether more is left of each lease that is held than a
// renewal usually gives.
func stretched(s lease.Status, p lease.Params) bool {
	for _, r := range s.Routers {
		if r.Own && p.TTL < p.TTLMax && r.Remaining <= p.TTL {
			return false
		}
	}
	return true
}

// noteEnd records how this process ends.
func (d *theDaemon) noteEnd(ctx context.Context) {
	if !errors.Is(context.Cause(ctx), lease.ErrKeep) {
		d.note(journal.Entry{Kind: journal.Stopped})
	}
}
