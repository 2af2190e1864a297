package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"lbcluster/cluster"
)

func (a *app) runCommand() *cobra.Command {
	var flags nodeFile
	var check bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon (systemd does this)",
		Long: `Run the daemon. It waits, unenrolled, until lbcluster init or lbcluster join is
said on this machine; afterwards it carries on where it was. Stopping it lets
go of its VIPs and leaves IPVS as it is.

With --check it reads its configuration and the copy of the table in its data folder,
says what is wrong, or too new for it, and starts nothing. A reload begins with that.`,
		Example: `  lbcluster run
  lbcluster run --name dir1 --addr 10.0.0.11
  lbcluster run --check`,
		Args:    cobra.NoArgs,
		GroupID: groupCluster,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			flags.Socket = a.socket
			cfg, err := loadNodeConfig(a.config, flags)
			if err != nil {
				return &hinted{err, "correct " + a.config + " or the flags"}
			}
			if check {
				return errors.Join(cfg.checkPaths(), cluster.Readable(cfg.DataDir))
			}
			return runDaemon(cmd.Context(), cfg)
		}),
	}
	cmd.Flags().StringVar(&flags.Name, "name", "", "this member's `NAME` (default: the host name)")
	cmd.Flags().StringVar(&flags.Addr, "addr", "", "`IP[:PORT]` where the other members reach this one (default: the only IPv4 address, port 7500)")
	cmd.Flags().BoolVar(&check, "check", false, "only read the configuration and the table's copy, and say what is wrong with them")
	cmd.Flags().StringVar(&flags.DataDir, "data-dir", "", "`FOLDER` for identity, log and snapshots (default "+defaultDataDir+")")
	return cmd
}

// loadNodeConfig reads the file, lays the flags over it and fills defaults in.
func loadNodeConfig(path string, flags nodeFile) (NodeConfig, error) {
	file, err := readNodeFile(path)
	if err != nil {
		return NodeConfig{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	addrs, err := localAddrs()
	if err != nil {
		return NodeConfig{}, err
	}
	file = file.merge(flags)
	if addr, ok := cluster.EnrolledAddr(or(file.DataDir, defaultDataDir)); ok && file.Addr == "" {
		file.Addr = addr.String()
	}
	return file.resolve(nodeEnv{hostname: host, addrs: addrs})
}
