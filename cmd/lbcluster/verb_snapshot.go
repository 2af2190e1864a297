package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save what the cluster is to do as a file, and restore it",
		Long: `Save what people decided as one file: all sets, the settings, drains and weights set
by hand, pins. Members, votes, leases and the history are not in it, so that it can be
restored in this cluster or in another one. It is JSON with a checksum.

It has the passwords in it that the configuration has: keep it as that.`,
		Example: `  lbcluster snapshot save /root/lb.snap`,
		GroupID: groupConfig,
		Args:    cobra.NoArgs,
		RunE:    subcommandMissing,
	}
	cmd.AddCommand(a.snapshotSaveCommand(), a.snapshotInspectCommand(), a.snapshotRestoreCommand())
	return cmd
}

func (a *app) snapshotSaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "save FILE",
		Short: "Write a snapshot to FILE",
		Long: `Write a snapshot to FILE, readable by its owner alone; - is standard output. Any member
will do. FILE is replaced as a whole, or not at all.`,
		Example: `  lbcluster snapshot save /root/lb.snap
  lbcluster snapshot save - | ssh backup 'cat > lb.snap'`,
		Args: cobra.ExactArgs(1),
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			got, err := a.client().Snapshot(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for a snapshot: %w", err)
			}
			var file bytes.Buffer
			if err := json.Indent(&file, got, "", " "); err != nil {
				return fmt.Errorf("read the daemon's answer: %w", err)
			}
			file.WriteByte('\n')
			s, agreed, err := fsm.ReadSaved(file.Bytes())
			if err != nil {
				return fmt.Errorf("read the daemon's answer: %w", err)
			}
			if args[0] == "-" {
				_, err := a.out.Write(file.Bytes())
				return err
			}
			if err := writeDurably(args[0], file.String()); err != nil {
				return fmt.Errorf("save the snapshot: %w", err)
			}
			return a.print(inspected(args[0], s, agreed), func() string {
				return fmt.Sprintf("Saved revision %d of cluster %s to %s.\n", s.Revision, s.Cluster, args[0])
			})
		}),
	}
}

// snapshotInfo is what inspect tells.
type snapshotInfo struct {
	File     string         `json:"file"`
	Cluster  string         `json:"cluster"`
	Revision fsm.Revision   `json:"revision"`
	At       time.Time      `json:"at"`
	By       string         `json:"by"`
	SHA256   string         `json:"sha256"`
	Sets     []snapshotSet  `json:"sets"`
	ByHand   []fsm.Override `json:"by_hand"`
	Settings fsm.Settings   `json:"settings"`
}

type snapshotSet struct {
	Name           string `json:"name"`
	VirtualRouters int    `json:"virtual_routers"`
	VirtualServers int    `json:"virtual_servers"`
}

func inspected(name string, s fsm.Saved, a fsm.Agreement) snapshotInfo {
	info := snapshotInfo{
		File: name, Cluster: s.Cluster, Revision: s.Revision, At: s.At, By: s.By, SHA256: s.SHA256,
		Sets: []snapshotSet{}, ByHand: append([]fsm.Override{}, a.Overrides...), Settings: a.Settings,
	}
	for _, set := range a.Sets {
		info.Sets = append(info.Sets, snapshotSet{set.Name, len(set.Config.Routers), len(set.Config.Services)})
	}
	return info
}

func (i snapshotInfo) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is whole: revision %d of cluster %s\n  saved    %s UTC by %s\n  SHA-256  %s\n", i.File, i.Revision, i.Cluster, i.At.Format(time.DateTime), i.By, i.SHA256)
	for _, s := range i.Sets {
		fmt.Fprintf(&b, "  set %s: %s, %s\n", s.Name, count(s.VirtualRouters, "virtual router"), count(s.VirtualServers, "virtual server"))
	}
	if len(i.Sets) == 0 {
		b.WriteString("  no set: nothing was applied\n")
	}
	for _, o := range i.ByHand {
		fmt.Fprintf(&b, "  by hand: %s: %s\n", o.Server, o)
	}
	return b.String()
}

func (a *app) snapshotInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Check a snapshot and say what is in it, without a cluster",
		Long:    `Read FILE as restore would, without asking the daemon, and say what is in it. The exit status is 2 if it is damaged, was edited, or is of a newer lbcluster.`,
		Example: `  lbcluster snapshot inspect /root/lb.snap`,
		Args:    cobra.ExactArgs(1),
		RunE: a.verb(func(_ *cobra.Command, args []string) error {
			_, s, agreed, err := a.readSnapshot(args[0])
			if err != nil {
				return err
			}
			info := inspected(args[0], s, agreed)
			return a.print(info, info.text)
		}),
	}
}

// readSnapshot reads a file; what is wrong with it is an error in the input.
func (a *app) readSnapshot(name string) ([]byte, fsm.Saved, fsm.Agreement, error) {
	b, err := a.readFile(name)
	if err != nil {
		return nil, fsm.Saved{}, fsm.Agreement{}, fmt.Errorf("read the snapshot: %w: %w", fsm.ErrInvalid, err)
	}
	s, agreed, err := fsm.ReadSaved(b)
	if err != nil {
		return nil, s, agreed, fmt.Errorf("%s cannot be used: %w: %w", name, errInput, err)
	}
	return b, s, agreed, nil
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the cluster agree on what a snapshot has",
		Long: `Show what FILE would change, ask, and change it on all members at once, or not at all:
sets that it does not have are deleted, the settings and what was set by hand become
what they were. It is one revision of the history, which rollback can take back set
by set. Leases go on; a virtual router keeps its owner if it is in FILE too.

A pin is restored if a director has the name that it had then, a drain if the real
server is there; one that ends by itself begins anew. FILE is refused, and nothing is
changed, if it is damaged, was edited, or a newer lbcluster wrote it.`,
		Example: `  lbcluster snapshot restore /root/lb.snap
  lbcluster snapshot restore /root/lb.snap --dry-run
  lbcluster snapshot restore /root/lb.snap --yes --prune`,
		Args: cobra.ExactArgs(1),
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			return a.restore(cmd.Context(), args[0], f)
		}),
	}
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would change, and stop")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask (deletions need --prune too)")
	cmd.Flags().BoolVar(&f.prune, "prune", false, "with --yes: delete what is not in the snapshot")
	return cmd
}

func (a *app) restore(ctx context.Context, name string, f changeFlags) error {
	if _, err := os.Stat(name); name == "-" || err != nil && !errors.Is(err, os.ErrNotExist) {
		return &hinted{fmt.Errorf("%w: %s is no file: restore asks at the terminal, so it does not read from it", fsm.ErrInvalid, name), ""}
	}
	file, s, _, err := a.readSnapshot(name)
	if err != nil {
		return err
	}
	plan, err := a.client().PlanSnapshot(ctx, file)
	if err != nil {
		return fmt.Errorf("compare %s with the cluster: %w", name, err)
	}
	text := renderRestore(name, s, plan)
	if f.dryRun {
		return a.print(plan, func() string { return text })
	}
	fmt.Fprint(a.errOut, text)
	if len(plan.Changes) == 0 {
		return a.print(api.ApplyReply{Plan: plan, Result: fsm.Result{Revision: plan.Revision}}, func() string { return "" })
	}
	if err := a.agree(plan, f); err != nil {
		return err
	}
	r, err := a.commitSnapshot(ctx, file, plan)
	if errors.Is(err, fsm.ErrConflict) {
		return &hinted{fmt.Errorf("nothing was changed: %w", err),
			"lbcluster events shows who changed what; restore again to see the difference anew"}
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return a.print(r, func() string {
		return fmt.Sprintf("Restored: the table is at revision %d on a majority of the members.\n", r.Revision)
	})
}

// commitSnapshot is what commit is for an apply: votes make new revisions all the time.
func (a *app) commitSnapshot(ctx context.Context, file []byte, plan api.Plan) (r api.ApplyReply, err error) {
	agreed := plan.Changes
	for range commitTries {
		r, err = a.client().RestoreSnapshot(ctx, file, plan.Revision, plan.Deletes > 0)
		if !errors.Is(err, fsm.ErrConflict) {
			return r, err
		}
		if _, err := a.client().Table(ctx, plan.Revision+1); err != nil {
			return r, fmt.Errorf("look at the cluster again: %w", err)
		}
		next, perr := a.client().PlanSnapshot(ctx, file)
		if perr != nil {
			return r, fmt.Errorf("compare with the cluster again: %w", perr)
		}
		if !slices.Equal(next.Changes, agreed) {
			return r, err
		}
		plan = next
	}
	return r, err
}

func renderRestore(name string, s fsm.Saved, p api.Plan) string {
	var b strings.Builder
	if len(p.Changes) == 0 {
		return fmt.Sprintf("Nothing to change: the cluster is as %s has it (revision %d then, %d now).\n", name, s.Revision, p.Revision)
	}
	fmt.Fprintf(&b, "%s, of revision %d (%s UTC, cluster %s), compared with revision %d:\n", name, s.Revision, s.At.Format(time.DateTime), s.Cluster, p.Revision)
	for _, c := range p.Changes {
		b.WriteString(renderChange(c))
	}
	return b.String()
}
