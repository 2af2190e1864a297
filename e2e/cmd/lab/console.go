package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"lbcluster/e2e/lab/guest"
)

// console is what the guest's serial console is connected with.
type console struct {
	in  io.Reader
	out io.Writer
}

// terminal connects this terminal with an interactive job: raw, so that every
// key, Ctrl-C too, goes to the guest. restore undoes it. Without a terminal the
// job gets what stdin has.
func terminal(job *guest.Job) (c console, restore func(), err error) {
	c, restore = console{in: os.Stdin, out: os.Stdout}, func() {}
	job.Rows, job.Cols = 24, 80
	if job.Term = os.Getenv("TERM"); job.Term == "" {
		job.Term = "dumb"
	}
	old, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return c, restore, nil
	}
	if ws, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ); err == nil && ws.Row > 0 && ws.Col > 0 {
		job.Rows, job.Cols = int(ws.Row), int(ws.Col)
	}
	raw := *old
	raw.Iflag &^= unix.BRKINT | unix.ICRNL | unix.INPCK | unix.ISTRIP | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.IEXTEN | unix.ISIG
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(0, unix.TCSETS, &raw); err != nil {
		return c, restore, err
	}
	return c, func() { _ = unix.IoctlSetTermios(0, unix.TCSETS, old) }, nil
}
