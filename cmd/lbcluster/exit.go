package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// Exit statuses; exitCodesTopic explains them.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitConflict  = 3
	exitNoDaemon  = 4
	exitNoCluster = 5
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit status of a verb means",
		Long: `What the exit status of a verb means

  0  it is done
  1  it failed: the message says why
  2  the command line or the file given is wrong; nothing was changed
  3  somebody else changed the cluster meanwhile, a change waits for lbcluster
     confirm, or it needs a yes (--yes, and --prune --yes for deletions);
     nothing was changed
  4  the daemon on this machine does not answer: systemctl start lbcluster
  5  this machine is not enrolled in a cluster, or the cluster has no majority

lbcluster status --check has the exit status of monitoring plugins instead: 0 OK,
1 warning, 2 critical, 3 unknown.`,
	}
}

// failure is what a verb returned, told apart from errors in the command line.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// errInput marks a file that is wrong; the faults have been shown.
var errInput = errors.New("the file is not valid; nothing was changed")

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// needsYes says that nobody is there to be asked.
func needsYes(flags string) error {
	p := &api.Problem{Code: api.CodeNeedsConfirmation, Title: "this needs a yes, and standard input is no terminal"}
	p.Hint = "repeat it with " + flags
	return p
}

// errDeclined: a person said no.
var errDeclined error = &api.Problem{Code: api.CodeNeedsConfirmation, Title: "not confirmed, nothing was changed"}

// exitCode maps an error to the exit status.
func exitCode(err error) int {
	var f *failure
	var p *api.Problem
	var v verdict
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &v):
		return int(v)
	case !errors.As(err, &f):
		return exitUsage
	case errors.Is(err, api.ErrUnreachable):
		return exitNoDaemon
	case errors.Is(err, api.ErrNotEnrolled), errors.Is(err, api.ErrNoQuorum):
		return exitNoCluster
	case errors.Is(err, fsm.ErrConflict):
		return exitConflict
	case errors.Is(err, errInput), errors.Is(err, errFlags), errors.Is(err, fsm.ErrInvalid):
		return exitUsage
	case errors.As(err, &p) && (p.Code == api.CodeNeedsConfirmation || p.Code == api.CodeUnconfirmed):
		return exitConflict
	}
	return exitFailed
}

// printError writes an error and what to do about it.
func printError(w io.Writer, err error) {
	var v verdict
	if errors.As(err, &v) {
		return // its line is on standard output
	}
	fmt.Fprintf(w, "lbcluster: %v\n", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// hintFor is the next thing to do.
func hintFor(err error) string {
	var f *failure
	var h *hinted
	var p *api.Problem
	switch {
	case !errors.As(err, &f):
		return "lbcluster help lists the verbs, lbcluster VERB --help explains one"
	case errors.As(err, &h):
		return h.hint
	case errors.Is(err, api.ErrUnreachable):
		return "is lbcluster running here, and may you use its socket? as root: systemctl start lbcluster"
	case errors.Is(err, context.Canceled):
		return "interrupted; a change that was under way may still have been made: lbcluster status"
	case errors.As(err, &p):
		return p.Hint
	}
	return ""
}
