package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) fenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "fence",
		Short: "Give up what a dead daemon held (systemd does this)",
		Long: `Give up what a daemon that died on this machine held: close the kernel's gate for
its VIPs, remove them, and release its leases, in this order and within a second,
so that another director takes over at once instead of at the leases' end. It
does nothing while a daemon runs, and may be repeated. IPVS goes on forwarding.`,
		Example: `  lbcluster fence`,
		Args:    cobra.NoArgs,
		GroupID: groupCluster,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadNodeConfig(a.config, nodeFile{Socket: a.socket})
			if err != nil {
				return &hinted{err, "correct " + a.config}
			}
			if err := newFencer(cfg).run(cmd.Context(), a.out); err != nil {
				return fmt.Errorf("fence: %w", err)
			}
			return nil
		}),
	}
}
