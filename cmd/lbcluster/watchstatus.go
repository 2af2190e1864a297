package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/cluster/api"
)

// What a terminal understands.
const (
	escHome      = "\x1b[H"
	escClear     = "\x1b[2J"
	escRestOfRow = "\x1b[K"
	escBelow     = "\x1b[J"
)

// watchStatus draws the status anew until ctx ends, which is its ordinary end. What
// is no terminal gets one status behind the other. A daemon that does not answer is
// asked again.
func (a *app) watchStatus(ctx context.Context, every time.Duration, ask func(context.Context) (api.StatusReport, error)) error {
	first := true
	for {
		r, err := ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		text := fmt.Sprintf("%s  every %v\n\n", time.Now().Format(time.DateTime), every)
		if err != nil {
			text += "lbcluster: " + err.Error() + "\n"
		} else {
			text += renderStatus(r)
		}
		if rows, columns, ok := screen(a.out); ok {
			text = drawn(text, rows, columns)
			if first {
				text = escClear + text
			}
		} else if !first {
			text = "\n" + text
		}
		if _, err := io.WriteString(a.out, text); err != nil {
			return err
		}
		first = false
		if !pause(ctx, every) {
			return nil
		}
	}
}

// drawn is text for a terminal of that size: from its corner on, over what stood
// there, without wrapping a line or rolling the screen.
func drawn(text string, rows, columns int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if more := len(lines) - (rows - 1); more > 0 && rows > 2 {
		lines = append(lines[:rows-2], fmt.Sprintf("… and %d lines more: lbcluster status", more+1))
	}
	var b strings.Builder
	b.WriteString(escHome)
	for _, l := range lines {
		if r := []rune(l); len(r) > columns && columns > 1 {
			l = string(r[:columns-1]) + "…"
		}
		b.WriteString(l + escRestOfRow + "\n")
	}
	b.WriteString(escBelow)
	return b.String()
}

// screen is the size of the terminal that w is; false: it is none.
func screen(w io.Writer) (rows, columns int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row == 0 || size.Col == 0 {
		return 0, 0, false
	}
	return int(size.Row), int(size.Col), true
}
