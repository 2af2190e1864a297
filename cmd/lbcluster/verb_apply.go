package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

const filesHelp = `FILE is a keepalived.conf (its includes are followed) or YAML, told apart by the
name's ending or the content; - is standard input.

With -f more than once, each FILE is of one node of a pair that ran keepalived,
and they are merged. All differences are shown with both places. Priority, state,
router_id and interface may differ: the first two say at which node a virtual
router was at home. Of what else differs, --take says which counts: a file, or one
place as it is shown (lb2.conf:14), for that element.`

func (a *app) checkCommand() *cobra.Command {
	var files fileFlags
	cmd := &cobra.Command{
		Use:   "check -f FILE [-f FILE --take FILE|FILE:LINE...]",
		Short: "Check a configuration file without a cluster",
		Long: `Read FILE as apply would and say all that is wrong with it, in one run, without
asking the daemon. The exit status is 0 if it could be applied, else 2.

` + filesHelp,
		Example: `  lbcluster check -f /etc/keepalived/keepalived.conf
  lbcluster check -f lb1.conf -f lb2.conf`,
		Args:    cobra.NoArgs,
		GroupID: groupConfig,
		RunE: a.verb(func(*cobra.Command, []string) error {
			in, err := a.readInputs(files)
			if err != nil {
				return err
			}
			if err := a.print(in.checked(), func() string { return renderInput(files.String(), in) }); err != nil {
				return err
			}
			return in.wrong(files.String())
		}),
	}
	files.add(cmd)
	return cmd
}

// badFile counts what has been shown.
func badFile(name string, n int) error {
	count := fmt.Sprintf("%d problems", n)
	if n == 1 {
		count = "1 problem"
	}
	return &hinted{fmt.Errorf("%s: %s: %w", name, count, errInput), "correct the file; lbcluster check -f FILE checks it without a cluster"}
}

// changeFlags are those of every verb that changes the configuration.
type changeFlags struct {
	dryRun, yes, prune bool
	confirmWithin      time.Duration
}

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would change, and stop")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask (deletions need --prune too)")
	cmd.Flags().BoolVar(&f.prune, "prune", false, "with --yes: delete what is no longer there")
	cmd.Flags().DurationVar(&f.confirmWithin, "confirm-within", 0, "undo the change after this `TIME`, 10s to 24h, unless lbcluster confirm comes before")
}

// applyFlags are what a person said on the command line of apply.
type applyFlags struct {
	changeFlags
	files fileFlags
	set   string
	adopt bool
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply -f FILE [-f FILE --take FILE|FILE:LINE...]",
		Short: "Make a configuration file the cluster's, in one atomic change",
		Long: `Show what FILE would change, ask, and change it on all members at once, or not
at all. What was applied under the same --set before and is not in FILE any
more is deleted, after a yes of its own: at the prompt, or --prune --yes. What
other sets own, and drains and weights set by hand, stay.

If somebody changes the cluster between the question and the answer so that the
difference is another one, nothing is done and the exit status is 3.

With --confirm-within the change is undone after that time unless lbcluster
confirm comes before, also if this member is gone by then: for a change that may
cut you off. Nothing else can be applied meanwhile.

With --adopt, what every director's IPVS table has under the same keys (that
keepalived made and left) is compared first. A service that is the same is taken
over as it stands; what can change without touching a connection is shown; and if
a server would go, or be reached in another way, nothing is done. Without --adopt
such services are changed in place.

` + filesHelp + `

A virtual router that is new is pinned to the director at which it was at home,
if the file can be told to be a director's: its router_id, its name or its folder
is the director's name, or you say -f NAME=FILE.`,
		Example: `  lbcluster apply -f /etc/keepalived/keepalived.conf
  lbcluster apply -f lb1.conf -f lb2.conf --take lb1.conf --adopt
  lbcluster apply -f web.yaml --set web --dry-run
  lbcluster apply -f web.yaml --set web --prune --yes --confirm-within 5m`,
		Args:    cobra.NoArgs,
		GroupID: groupConfig,
		RunE:    a.verb(func(cmd *cobra.Command, _ []string) error { return a.apply(cmd.Context(), f) }),
	}
	f.files.add(cmd)
	f.changeFlags.add(cmd)
	cmd.Flags().BoolVar(&f.adopt, "adopt", false, "take over what keepalived left in IPVS, only if that touches no connection")
	cmd.Flags().StringVar(&f.set, "set", "default", "the name under which the file's content is owned")
	return cmd
}

// planned is the answer of a dry run with -o json.
type planned struct {
	api.Plan
	Notices     []remark          `json:"notices"`
	Differences []conf.Difference `json:"differences,omitempty"`
	Homes       []homed           `json:"homes,omitempty"`
	Adoption    []adoption        `json:"adoption,omitempty"`
}

// apply reads, plans, asks and applies.
func (a *app) apply(ctx context.Context, f applyFlags) error {
	in, err := a.readInputs(f.files)
	if err != nil {
		return err
	}
	name := f.files.String()
	if err := in.wrong(name); err != nil {
		fmt.Fprint(a.errOut, renderInput(name, in))
		return err
	}
	req := api.ApplyRequest{
		Set: f.set, Config: in.result.Config, Why: f.files.why(), ConfirmWithin: fsm.Duration(f.confirmWithin),
	}
	homes, err := a.homesOf(ctx, in)
	if err != nil {
		return err
	}
	req.Homes = homesByUnit(homes)
	plan, err := a.client().Plan(ctx, req)
	if refused := in.located(err); len(refused.Problems) > 0 {
		fmt.Fprint(a.errOut, renderInput(name, refused))
		return &hinted{fmt.Errorf("%s does not fit the cluster: %w", name, errInput), "correct what is named and repeat the command"}
	}
	if err != nil {
		return fmt.Errorf("compare %s with the cluster: %w", name, err)
	}
	shown := planned{Plan: plan, Notices: remarks(in.Notices), Differences: in.differences, Homes: homes}
	text := renderNotices(in.Notices) + renderDifferences(in.differences) + renderPlan(plan, f.set) + renderHomes(homes)
	if f.adopt {
		if shown.Adoption, err = a.adoption(ctx, req); err != nil {
			return err
		}
		text += renderAdoption(shown.Adoption)
		if n := broken(shown.Adoption); n > 0 {
			fmt.Fprint(a.errOut, text)
			return cannotAdopt(n)
		}
	}
	return a.change(ctx, req, f.changeFlags, shown, text)
}

// change shows a plan, asks, and carries it out.
func (a *app) change(ctx context.Context, req api.ApplyRequest, f changeFlags, p planned, text string) error {
	if f.dryRun {
		return a.print(p, func() string { return text })
	}
	fmt.Fprint(a.errOut, text)
	if len(p.Changes) == 0 {
		same := api.ApplyReply{Plan: p.Plan, Result: fsm.Result{Revision: p.Revision}}
		return a.print(same, func() string { return "" })
	}
	if err := a.agree(p.Plan, f); err != nil {
		return err
	}
	return a.commit(ctx, req, p.Plan)
}

// agree gets the yes: from the flags, or from a person.
func (a *app) agree(plan api.Plan, f changeFlags) error {
	if f.yes && (plan.Deletes == 0 || f.prune) {
		return nil
	}
	if !a.interactive() {
		if plan.Deletes > 0 {
			return needsYes("--prune --yes: it deletes what is no longer there")
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
	req.Prune, req.Brief = plan.Deletes > 0, true
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
	r.Plan = plan
	return a.print(r, func() string {
		text := fmt.Sprintf("Applied: the table is at revision %d on a majority of the members.\n", r.Revision)
		if req.ConfirmWithin > 0 {
			text += fmt.Sprintf("It is undone in %s unless you say: lbcluster confirm\n", shortDuration(req.ConfirmWithin.D()))
		}
		return text
	})
}
