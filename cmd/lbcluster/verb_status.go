package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
)

func (a *app) statusCommand() *cobra.Command {
	var check, watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say who owns what, until when, and why the others do not",
		Long: `Say how many failures the cluster survives; who owns each virtual router, until
when, and why the others do not; what the checks agree on; how far each member
follows the table; and what a person should look at. This machine's daemon asks
all the others, and gives up on one after a second or so.

With --check one line for monitoring, and its exit status: 0 all is well; 1 warning:
redundancy or truth is lost; 2 critical: traffic is or may be lost; 3 unknown: no
daemon answers, or this machine is in no cluster. With --watch it is drawn anew every
two seconds until interrupted.`,
		Example: `  lbcluster status
  lbcluster status --watch
  lbcluster status --check
  lbcluster status -o json`,
		Args:    cobra.NoArgs,
		GroupID: groupLook,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			ask := func(ctx context.Context) (api.StatusReport, error) { return a.client().Status(ctx) }
			switch {
			case check && watch:
				return fmt.Errorf("%w: --check and --watch exclude each other", errFlags)
			case watch && a.json():
				return fmt.Errorf("%w: --watch draws for people; programs read GET /v1/watch", errFlags)
			case watch && every < time.Second/2:
				return fmt.Errorf("%w: --every %v: half a second is the least", errFlags, every)
			case check:
				return a.checkStatus(cmd.Context(), ask)
			case watch:
				return a.watchStatus(cmd.Context(), every, ask)
			}
			r, err := ask(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the status: %w", err)
			}
			return a.print(r, func() string { return renderStatus(r) })
		}),
	}
	cmd.Flags().BoolVar(&check, "check", false, "one line and an exit status for monitoring")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "draw it anew until interrupted")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "with --watch: how `often`")
	return cmd
}

// errFlags: flags that do not go together.
var errFlags = errors.New("wrong flags")

// verdict is what monitoring wants to know: its exit status, which is not printed.
type verdict int

// Verdicts, as monitoring plugins have them.
const (
	verdictOK verdict = iota
	verdictWarning
	verdictCritical
	verdictUnknown
)

// Error makes it an error, for exitCode.
func (v verdict) Error() string { return v.String() }

func (v verdict) String() string {
	return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[v]
}

// checkStatus prints one line and returns its verdict as the error.
func (a *app) checkStatus(ctx context.Context, ask func(context.Context) (api.StatusReport, error)) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	r, err := ask(ctx)
	v, line := judgeStatus(r, err)
	if a.json() {
		if err := a.print(map[string]any{"status": int(v), "state": v.String(), "text": line}, nil); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "LBCLUSTER %s - %s\n", v, line)
	}
	if v == verdictOK {
		return nil
	}
	return v
}

// checkLimit is below the 10 s after which monitoring gives up.
const checkLimit = 8 * time.Second
