package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) fenceCommand() *cobra.Command {
	var data string
	var clear bool
	cmd := &cobra.Command{
		Use:   "fence",
		Short: "Give up what a dead daemon held (systemd does this)",
		Long: `Give up what a daemon that died on this machine held: close the kernel's gate for
its VIPs, remove them, and release its leases, in this order and within a second,
so that another director takes over at once instead of at the leases' end. It
does nothing while a daemon runs, and may be repeated. IPVS goes on forwarding.

With --clear everything that lbcluster put into this machine's kernel goes after
that: IPVS services, rules, sysctls, the gate. Removing the package does this. The
machine stays a member: if it is not to come back, lbcluster leave comes first.`,
		Example: `  lbcluster fence
  lbcluster fence --clear`,
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
			if clear {
				return a.clearDead(cfg)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&clear, "clear", false, "then take everything of lbcluster out of the kernel")
	cmd.Flags().StringVar(&data, "data-dir", "", "`FOLDER` of the daemon's data (default "+defaultDataDir+")")
	return cmd
}

// clearDead takes everything out of the kernel of a machine whose daemon is dead.
func (a *app) clearDead(cfg NodeConfig) error {
	l, err := takeLock(cfg.lockFile())
	if errors.Is(err, errAlive) {
		return &hinted{fmt.Errorf("clear the kernel: %w", err), "systemctl stop lbcluster first; or lbcluster leave, which clears it too"}
	}
	if err != nil {
		return err
	}
	defer l.release()
	if err := clearKernel(cfg); err != nil {
		return fmt.Errorf("clear the kernel: %w", err)
	}
	fmt.Fprintln(a.out, "Nothing of lbcluster is left in this machine's kernel.")
	return nil
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
