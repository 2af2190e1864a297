package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
)

func (a *app) routerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "router",
		Short:   "List the virtual routers and their owners; move one",
		Example: `  lbcluster router list`,
		GroupID: groupOperate,
		Args:    cobra.NoArgs,
		RunE:    subcommandMissing,
	}
	cmd.AddCommand(a.routerMoveCommand(), &cobra.Command{
		Use:     "list",
		Short:   "List the virtual routers and their owners",
		Example: `  lbcluster router list -o json`,
		Args:    cobra.NoArgs,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			r, err := a.enrolledStatus(cmd)
			if err != nil {
				return err
			}
			return a.print(r.Routers, func() string { return renderRouters(r) })
		}),
	})
	return cmd
}

// enrolledStatus is the status of a cluster, not of a machine without one.
func (a *app) enrolledStatus(cmd *cobra.Command) (api.StatusReport, error) {
	r, err := a.client().Status(cmd.Context())
	if err != nil {
		return r, fmt.Errorf("ask for the status: %w", err)
	}
	if !r.Enrolled {
		return r, &hinted{api.ErrNotEnrolled, "lbcluster status says what to do"}
	}
	return r, nil
}

func renderRouters(r api.StatusReport) string {
	t := newTable("NAME", "VRID", "SET", "ADDRESSES", "OWNER", "HELD FOR", "HOME", "WHY NOT THERE")
	for _, v := range r.Routers {
		owner, held := or(v.OwnerName, "nobody"), ""
		if !v.HeldSince.IsZero() {
			held = ago(r.At.Sub(v.HeldSince))
		}
		name := v.Name
		if v.Group != "" {
			name += " (" + v.Group + ")"
		}
		home := v.HomeName
		if v.Pinned {
			home += ", pinned"
		}
		t.row(name, v.VRID, v.Set, joinPrefixes(v.Addresses), owner, held, home, v.Away)
	}
	return t.String()
}
