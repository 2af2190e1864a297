package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say who owns what, until when, and why the others do not",
		Long: `Say how many failures the cluster survives; who owns each virtual router, until
when, and why the others do not; what the checks agree on; how far each member
follows the table; and what a person should look at. This machine's daemon asks
all the others, and gives up on one after a second or so.`,
		Example: `  lbcluster status
  lbcluster status -o json`,
		Args:    cobra.NoArgs,
		GroupID: groupLook,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			r, err := a.client().Status(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the status: %w", err)
			}
			return a.print(r, func() string { return renderStatus(r) })
		}),
	}
}
