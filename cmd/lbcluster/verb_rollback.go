package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

func (a *app) rollbackCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "rollback [REV]",
		Short: "Make a former configuration the cluster's again",
		Long: `Make a set again what it was at revision REV: show what that changes, ask, and
apply it as a new revision, in the way of lbcluster apply; other sets stay as they
are. lbcluster history lists the revisions, lbcluster diff REV shows what
happened since.

Without REV, undo at once the change that waits for lbcluster confirm.`,
		Example: `  lbcluster rollback 12
  lbcluster rollback 12 --dry-run
  lbcluster rollback`,
		Args:    cobra.MaximumNArgs(1),
		GroupID: groupConfig,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.undo(cmd.Context(), f)
			}
			return a.rollback(cmd.Context(), args[0], f)
		}),
	}
	f.add(cmd)
	return cmd
}

func (a *app) rollback(ctx context.Context, word string, f changeFlags) error {
	r, err := a.revision(ctx, word)
	if err != nil {
		return err
	}
	req := api.ApplyRequest{
		Set: r.Set, Config: r.Config, Why: fmt.Sprintf("rollback to revision %d", r.Revision), ConfirmWithin: fsm.Duration(f.confirmWithin),
	}
	plan, err := a.client().Plan(ctx, req)
	if err != nil {
		return fmt.Errorf("compare revision %d with the cluster: %w", r.Revision, err)
	}
	text := renderPlan(plan, r.Set)
	if len(plan.Changes) == 0 {
		text = fmt.Sprintf("Nothing to change: set %q is what it was at revision %d.\n", r.Set, r.Revision)
	}
	return a.change(ctx, req, f, planned{Plan: plan, Notices: []remark{}}, text)
}

// undo takes back the change that waits for its confirmation.
func (a *app) undo(ctx context.Context, f changeFlags) error {
	h, err := a.client().History(ctx)
	if err != nil {
		return fmt.Errorf("ask for the history: %w", err)
	}
	if h.Pending == nil {
		return &hinted{fmt.Errorf("%w: no change waits for a confirmation: say to which revision", fsm.ErrInvalid), "lbcluster history lists the revisions"}
	}
	r, err := a.revision(ctx, fmt.Sprint(h.Pending.Revision))
	if err != nil {
		return err
	}
	former := fsm.Applied{Set: r.Set} // the set was not there
	if r.Former != nil {
		former = *r.Former
	}
	d := differenceOf(r.Applied, former)
	if f.dryRun {
		return a.print(d, d.text)
	}
	fmt.Fprint(a.errOut, d.text())
	if err := a.ask(f.yes, fmt.Sprintf("Undo revision %d, which waits for a confirmation?", h.Pending.Revision)); err != nil {
		return err
	}
	done, err := a.client().Undo(ctx, r.Revision)
	if err != nil {
		return fmt.Errorf("undo revision %d: %w", r.Revision, err)
	}
	return a.print(done, func() string {
		return fmt.Sprintf("Revision %d is undone: the table is at revision %d.\n", done.Pending.Revision, done.Revision)
	})
}

func (a *app) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm [REV]",
		Short: "Keep a change that was applied with --confirm-within",
		Long: `Keep the change that was applied, or rolled back, with --confirm-within: it is not
undone any more. REV, its revision, makes sure that it is the one you mean. Any
member will do.`,
		Example: `  lbcluster confirm
  lbcluster confirm 17`,
		Args:    cobra.MaximumNArgs(1),
		GroupID: groupConfig,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			var rev fsm.Revision
			if len(args) == 1 {
				r, err := a.revision(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				rev = r.Revision
			}
			r, err := a.client().Confirm(cmd.Context(), rev)
			if err != nil {
				return fmt.Errorf("confirm: %w", err)
			}
			return a.print(r, func() string {
				return fmt.Sprintf("Revision %d of set %s is confirmed and stays.\n", r.Pending.Revision, r.Pending.Set)
			})
		}),
	}
}
