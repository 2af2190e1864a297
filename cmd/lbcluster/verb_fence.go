package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) fenceCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
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
			cfg, err := loadPaths(a.config, nodeFile{Socket: a.socket, DataDir: data})
			if err != nil {
				return &hinted{err, "correct " + a.config}
			}
			if err := newFencer(cfg).run(cmd.Context(), a.out); err != nil {
				return fmt.Errorf("fence: %w", err)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&data, "data-dir", "", "`FOLDER` of the daemon's data (default "+defaultDataDir+")")
	return cmd
}

// loadPaths reads where things are on this machine, and nothing that needs a
// network: fence must work when that is what failed.
func loadPaths(path string, flags nodeFile) (NodeConfig, error) {
	file, err := readNodeFile(path)
	if err != nil {
		return NodeConfig{}, err
	}
	file = file.merge(flags)
	file.Name, file.Addr = "fence", "127.0.0.1"
	return file.resolve(nodeEnv{})
}
