package guest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// runJob starts the job's second stage as a child, so that process 1 is free to
// collect every orphan, and returns the child's exit status.
func runJob(job *Job) (int, error) {
	attr := &syscall.ProcAttr{
		Env:   os.Environ(),
		Dir:   "/root",
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	switch {
	case job.Native && job.Interactive:
		attr.Sys.Setsid = false // the terminal is the session's that we are in
	case !job.Native:
		tty, err := openConsole(job)
		if err != nil {
			return 1, err
		}
		attr.Files = []uintptr{tty, tty, tty}
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	pid, err := syscall.ForkExec(ProgramBin, []string{ProgramBin, "guest-job"}, attr)
	if err != nil {
		return 1, fmt.Errorf("starting the job: %w", err)
	}
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 1, fmt.Errorf("waiting for the job: %w", err)
		}
		if got == pid && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		if got == pid {
			return ws.ExitStatus(), nil
		}
	}
}

// openConsole opens the serial console: as a terminal of the caller's size for
// an interactive job, else so that output passes unchanged.
func openConsole(job *Job) (uintptr, error) {
	fd, err := unix.Open("/dev/ttyS0", unix.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("console: %w", err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return 0, fmt.Errorf("console: %w", err)
	}
	if job.Interactive {
		ws := &unix.Winsize{Row: uint16(job.Rows), Col: uint16(job.Cols)}
		if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws); err != nil {
			return 0, fmt.Errorf("console: %w", err)
		}
		os.Setenv("TERM", job.Term)
	} else {
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO
	}
	return uintptr(fd), unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// writeResults writes the results folder as a tar archive to the disk.
func writeResults(disk string) error {
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = filepath.WalkDir(Results, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return addFile(w, p)
	})
	return errors.Join(err, w.Close(), f.Close())
}

// addFile reads the file whole: a log that grows meanwhile must not spoil the
// archive.
func addFile(w *tar.Writer, p string) error {
	b, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(Results, p)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: rel, Mode: 0o644, Size: int64(len(b)), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
