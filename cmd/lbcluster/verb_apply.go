package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

const filesHelp = `FILE is a keepalived.conf (its includes are followed) or YAML, told apart by the
name's ending or the content; - is standard input.`

func (a *app) checkCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check -f FILE",
		Short: "Check a configuration file without a cluster",
		Long: `Read FILE as apply would and say all that is wrong with it, in one run, without
asking the daemon. The exit status is 0 if it could be applied, else 2.

` + filesHelp,
		Example: `  lbcluster check -f /etc/keepalived/keepalived.conf`,
		Args:    cobra.NoArgs,
		GroupID: groupConfig,
		RunE: a.verb(func(*cobra.Command, []string) error {
			in, err := a.readInput(file)
			if err != nil {
				return err
			}
			if err := a.print(in.checked(), func() string { return renderInput(file, in) }); err != nil {
				return err
			}
			if len(in.Problems) > 0 {
				return badFile(file, len(in.Problems))
			}
			return nil
		}),
	}
	fileFlag(cmd, &file)
	return cmd
}

func fileFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "file", "f", "", "the `FILE` to read")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // the flag was made one line above
	}
}

// badFile counts what has been shown.
func badFile(name string, n int) error {
	count := fmt.Sprintf("%d problems", n)
	if n == 1 {
		count = "1 problem"
	}
	return &hinted{fmt.Errorf("%s: %s: %w", name, count, errInput), "correct the file; lbcluster check -f FILE checks it without a cluster"}
}

// applyFlags are what a person said on the command line.
type applyFlags struct {
	file, set          string
	dryRun, yes, prune bool
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make a configuration file the cluster's, in one atomic change",
		Long: `Show what FILE would change, ask, and change it on all members at once, or not
at all. What was applied under the same --set before and is not in FILE any
more is deleted, after a yes of its own: at the prompt, or --prune --yes. What
other sets own, and drains and weights set by hand, stay.

If somebody changes the cluster between the question and the answer so that the
difference is another one, nothing is done and the exit status is 3.

` + filesHelp,
		Example: `  lbcluster apply -f /etc/keepalived/keepalived.conf
  lbcluster apply -f web.yaml --set web --dry-run
  lbcluster apply -f web.yaml --set web --prune --yes`,
		Args:    cobra.NoArgs,
		GroupID: groupConfig,
		RunE:    a.verb(func(cmd *cobra.Command, _ []string) error { return a.apply(cmd.Context(), f) }),
	}
	fileFlag(cmd, &f.file)
	cmd.Flags().StringVar(&f.set, "set", "default", "the name under which the file's content is owned")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would change, and stop")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask (deletions need --prune too)")
	cmd.Flags().BoolVar(&f.prune, "prune", false, "with --yes: delete what the file no longer has")
	return cmd
}

// planned is the answer of a dry run with -o json.
type planned struct {
	api.Plan
	Notices []remark `json:"notices"`
}

// apply reads, plans, asks and applies.
func (a *app) apply(ctx context.Context, f applyFlags) error {
	in, err := a.readInput(f.file)
	if err != nil {
		return err
	}
	if len(in.Problems) > 0 {
		fmt.Fprint(a.errOut, renderInput(f.file, in))
		return badFile(f.file, len(in.Problems))
	}
	req := api.ApplyRequest{Set: f.set, Config: in.result.Config}
	plan, err := a.client().Plan(ctx, req)
	if refused := in.located(err); len(refused.Problems) > 0 {
		fmt.Fprint(a.errOut, renderInput(f.file, refused))
		return &hinted{fmt.Errorf("%s does not fit the cluster: %w", f.file, errInput), "correct what is named and repeat the command"}
	}
	if err != nil {
		return fmt.Errorf("compare %s with the cluster: %w", f.file, err)
	}
	if f.dryRun {
		return a.print(planned{plan, remarks(in.Notices)}, func() string { return renderNotices(in.Notices) + renderPlan(plan, f.set) })
	}
	fmt.Fprint(a.errOut, renderNotices(in.Notices)+renderPlan(plan, f.set))
	if len(plan.Changes) == 0 {
		same := api.ApplyReply{Plan: plan, Result: fsm.Result{Revision: plan.Revision}}
		return a.print(same, func() string { return "" })
	}
	if err := a.agree(plan, f); err != nil {
		return err
	}
	return a.commit(ctx, req, plan)
}

// agree gets the yes: from the flags, or from a person.
func (a *app) agree(plan api.Plan, f applyFlags) error {
	if f.yes && (plan.Deletes == 0 || f.prune) {
		return nil
	}
	if !a.interactive() {
		if plan.Deletes > 0 {
			return needsYes("--prune --yes: it deletes what the file no longer has")
		}
		return needsYes("--yes")
	}
	question := "Apply this?"
	if plan.Deletes > 0 {
		question = fmt.Sprintf("This deletes %s. Apply it?", count(plan.Deletes, "thing"))
	}
	ok, err := a.confirm(question)
	if err == nil && !ok {
		err = errDeclined
	}
	return err
}

// commitTries bounds how often what was agreed to is planned anew on a table
// that goes on changing elsewhere.
const commitTries = 10

// commit applies what was agreed to, on the revision it was planned on. Votes
// and other sets make new revisions all the time: while the difference is still
// the very one that was agreed to, it is applied on the newer revision.
func (a *app) commit(ctx context.Context, req api.ApplyRequest, plan api.Plan) error {
	req.Prune = plan.Deletes > 0
	var r api.ApplyReply
	var err error
	agreed := plan.Changes
	for range commitTries {
		req.IfRevision = plan.Revision
		if r, err = a.client().Apply(ctx, req); !errors.Is(err, fsm.ErrConflict) {
			break
		}
		// This member may be behind the one that refused.
		if _, err := a.client().Table(ctx, plan.Revision+1); err != nil {
			return fmt.Errorf("apply: look at the cluster again: %w", err)
		}
		next, err := a.client().Plan(ctx, req)
		if err != nil {
			return fmt.Errorf("apply: compare with the cluster again: %w", err)
		}
		if !slices.Equal(next.Changes, agreed) {
			break
		}
		plan = next
	}
	if errors.Is(err, fsm.ErrConflict) {
		return &hinted{fmt.Errorf("nothing was changed: %w", err),
			"lbcluster events shows who changed what; run the same apply again to see the difference anew"}
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return a.print(r, func() string {
		return fmt.Sprintf("Applied: the table is at revision %d on a majority of the members.\n", r.Revision)
	})
}
