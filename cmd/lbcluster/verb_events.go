package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// pollWait is how long one question of events -f stays open.
const pollWait = 30 * time.Second

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what changed, when, and by whom",
		Long: `Show the history of the table: what changed, when (by the clock of the machine
that asked for it) and by whom; oldest first. With -f, go on as things happen.
With -o json there is one JSON value on each line.`,
		Example: `  lbcluster events
  lbcluster events --since 10m -f`,
		Args:    cobra.NoArgs,
		GroupID: groupLook,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			req := api.EventsRequest{}
			if since > 0 {
				req.Since = time.Now().Add(-since)
			}
			return a.events(cmd.Context(), req, follow)
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().DurationVar(&since, "since", 0, "only what is younger, such as 10m")
	return cmd
}

// events shows the history, and with follow what comes; an interrupt is its
// ordinary end.
func (a *app) events(ctx context.Context, req api.EventsRequest, follow bool) error {
	for {
		r, err := a.client().Events(ctx, req)
		if follow && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ask for the history: %w", err)
		}
		if err := a.printEvents(r.Events); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		req.After, req.Wait = r.Revision, pollWait
	}
}

func (a *app) printEvents(events []fsm.Event) error {
	if !a.json() {
		_, err := fmt.Fprint(a.out, renderEvents(events))
		return err
	}
	enc := json.NewEncoder(a.out)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

func renderEvents(events []fsm.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s  %6d  %-9s %s  (%s)\n", e.At.Local().Format("2006-01-02 15:04:05.000"), uint64(e.Revision), e.Kind, e.Text, e.By)
	}
	return b.String()
}
