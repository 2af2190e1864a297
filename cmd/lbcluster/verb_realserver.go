package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster"
	"lbcluster/fsm"
	"lbcluster/realserver"
)

// realServerUnit is the unit of lbcluster realserver run.
const realServerUnit = "lbcluster-realserver.service"

func (a *app) realServerCommand() *cobra.Command {
	var dirs realServerDirs
	cmd := &cobra.Command{
		Use:   "realserver",
		Short: "Make this machine a real server: VIPs on lo, silent to ARP",
		Long: `Make this machine a real server of direct routing: its VIPs are on lo, and it
neither answers ARP for them nor asks with them. Directors need none of this:
where a director is a real server too, its daemon does it.`,
		Example: `  lbcluster realserver install --cluster 10.0.0.11 --token-file /root/reader.token
  lbcluster realserver status`,
		GroupID: groupOperate,
		Args:    cobra.NoArgs,
		RunE:    subcommandMissing,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&dirs.state, "state-dir", "/var/lib/lbcluster-realserver", "`FOLDER` that keeps what is to be on lo, and the reader's key")
	f.StringVar(&dirs.run, "run-dir", "/run/lbcluster-realserver", "`FOLDER` that keeps what was changed until the next boot")
	cmd.AddCommand(a.realServerInstall(&dirs), a.realServerUninstall(&dirs), a.realServerStatus(&dirs), a.realServerRun(&dirs))
	return cmd
}

func (a *app) realServerInstall(dirs *realServerDirs) *cobra.Command {
	var vips []string
	var addr, token, file, name string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put VIPs on lo, and keep them there",
		Long: `Put this machine's VIPs on lo, silent to ARP, and keep them there.

With --cluster the cluster's table says which: those of all virtual servers of
which an address of this machine is a real server, by direct routing or a tunnel,
now and later. The token, from "lbcluster token --role reader" on a member, gets
this machine a certificate that reads VIPs and can do nothing else. When no member
answers, what is on lo stays. With --vip they are fixed.

Where systemd runs, the unit lbcluster-realserver is enabled and started. Doing it
again replaces what was installed before.`,
		Example: `  lbcluster realserver install --cluster 10.0.0.11 --token-file /root/reader.token
  lbcluster realserver install --vip 172.25.88.100 --vip 2001:db8::100`,
		Args: cobra.NoArgs,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			if err := a.refuseDirector(); err != nil {
				return err
			}
			c := realServerConfig{}
			var err error
			if addr == "" {
				c.VIPs, err = parseVIPs(vips)
			} else {
				c, err = a.enrolReader(cmd.Context(), addr, token, file, name)
			}
			if err != nil {
				return err
			}
			return a.installRealServer(cmd.Context(), *dirs, c)
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&vips, "vip", nil, "a VIP, `ADDRESS`, repeatable")
	f.StringVar(&addr, "cluster", "", "a member's `ADDRESS`: IP or IP:port")
	f.StringVar(&token, "token", "", "a token with the role reader (others on this machine can see it in ps; rather use --token-file)")
	f.StringVar(&file, "token-file", "", "`FILE` that holds the token, - for standard input")
	f.StringVar(&name, "name", "", "this machine's name in the cluster's history (default: the host name)")
	cmd.MarkFlagsOneRequired("vip", "cluster")
	cmd.MarkFlagsMutuallyExclusive("vip", "cluster")
	cmd.MarkFlagsMutuallyExclusive("token", "token-file")
	return cmd
}

// refuseDirector refuses where the daemon does the same.
func (a *app) refuseDirector() error {
	raw, err := readNodeFile(a.config)
	if err != nil {
		return err
	}
	id, ok, err := cluster.EnrolledAs(or(raw.DataDir, defaultDataDir))
	if err != nil || !ok || id.Role != fsm.Director {
		return err
	}
	return &hinted{fmt.Errorf("this machine is director %s of a cluster: its daemon puts the VIPs on lo that it serves itself", id.Name),
		"name one of its addresses as a real server in the file that you apply; nothing is to be installed"}
}

func parseVIPs(texts []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimSuffix(text, "/32"), "/128"))
		switch {
		case err != nil || a.Zone() != "":
			return nil, fmt.Errorf("%w: --vip %s is no IP address", fsm.ErrInvalid, text)
		case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast():
			return nil, fmt.Errorf("%w: --vip %s: this cannot be a VIP", fsm.ErrInvalid, text)
		}
		out = append(out, a.Unmap())
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// enrolReader gets this machine a reader's certificate.
func (a *app) enrolReader(ctx context.Context, addr, token, file, name string) (realServerConfig, error) {
	var c realServerConfig
	if token == "" && file == "" {
		return c, &hinted{fmt.Errorf("%w: --cluster needs a token", fsm.ErrInvalid), "on a member: lbcluster token --role reader"}
	}
	secret, err := a.readToken(token, file)
	if err != nil {
		return c, err
	}
	if _, err := netip.ParseAddr(addr); err == nil {
		addr = net.JoinHostPort(addr, strconv.Itoa(defaultPort))
	}
	if name == "" {
		full, _ := os.Hostname()
		short, _, _ := strings.Cut(full, ".")
		name = cmp.Or(short, "realserver")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	id, members, err := cluster.EnrolReader(ctx, addr, secret, name)
	if err != nil {
		return c, fmt.Errorf("get a reader's certificate at %s: %w", addr, err)
	}
	return realServerConfig{Reader: &id, Known: cluster.ReaderAnswer{Members: members}}, nil
}

// installRealServer writes the configuration down, does it once, so that whatever is
// wrong shows at once, and has the unit go on.
func (a *app) installRealServer(ctx context.Context, dirs realServerDirs, c realServerConfig) error {
	if err := dirs.install(c); err != nil {
		return err
	}
	rs := newRealServer(dirs, a.logger())
	if err := rs.round(ctx); err != nil {
		return fmt.Errorf("installed, but not everything is well yet (see lbcluster realserver status): %w", err)
	}
	started, err := startUnit(ctx, "enable", "--now", realServerUnit)
	if err != nil {
		return err
	}
	r, err := dirs.report(ctx)
	if err != nil {
		return err
	}
	if !started { // which is said below
		r.Problems = slices.DeleteFunc(r.Problems, func(p string) bool { return p == notRunning })
	}
	return a.print(r, func() string {
		text := renderRealServer(r)
		if !started {
			text += "No systemd runs here: keep \"lbcluster realserver run\" running.\n"
		}
		return text
	})
}

// startUnit has systemctl act on a unit; false: no systemd runs here.
func startUnit(ctx context.Context, args ...string) (bool, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false, nil
	}
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return false, fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return true, nil
}

func (a *app) realServerUninstall(dirs *realServerDirs) *cobra.Command {
	return &cobra.Command{
		Use:   "uninstall",
		Short: "Take back exactly what install did",
		Long: `Take back exactly what install did: the VIPs that it put on lo go, then the ARP
settings are what they were before, unless somebody changed them since.`,
		Example: `  lbcluster realserver uninstall`,
		Args:    cobra.NoArgs,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(dirs.config()); err == nil {
				if _, err := startUnit(cmd.Context(), "disable", "--now", realServerUnit); err != nil {
					return err
				}
			}
			done, err := dirs.uninstall()
			if err != nil {
				return err
			}
			return a.print(texts(done), func() string {
				if len(done) == 0 {
					return "There was nothing to take back.\n"
				}
				return strings.Join(texts(done), "\n") + "\n"
			})
		}),
	}
}

func texts(ops []realserver.Op) []string {
	out := []string{}
	for _, op := range ops {
		out = append(out, op.String())
	}
	return out
}

// errRealServer: status found something wrong, and has said what.
var errRealServer = errors.New("this real server is not as it should be")

func (a *app) realServerStatus(dirs *realServerDirs) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what is on lo, what should be, and what is wrong",
		Long: `Show what is on lo, what should be, and what is wrong. With --cluster installed
the members are asked now. The exit status is 1 if anything is wrong.`,
		Example: `  lbcluster realserver status`,
		Args:    cobra.NoArgs,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			r, err := dirs.report(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.print(r, func() string { return renderRealServer(r) }); err != nil {
				return err
			}
			if len(r.Problems) > 0 {
				return errRealServer
			}
			return nil
		}),
	}
}

func renderRealServer(r realServerReport) string {
	var b strings.Builder
	switch {
	case !r.Installed:
		b.WriteString("Not installed as a real server: lbcluster realserver install\n")
	case r.Cluster == "":
		b.WriteString("Real server with fixed VIPs.\n")
	default:
		fmt.Fprintf(&b, "Real server of cluster %s with the address%s %s.\n", r.Cluster, plural(len(r.Own), "es"), joined(r.Own))
	}
	if len(r.VIPs) > 0 {
		t := newTable("VIP", "ON LO", "PUT THERE BY")
		for _, v := range r.VIPs {
			by := "-"
			switch {
			case v.Ours:
				by = "lbcluster"
			case v.OnLoopback:
				by = "somebody else"
			}
			t.row(v.VIP.String(), map[bool]string{true: "yes", false: "NO"}[v.OnLoopback], by)
		}
		b.WriteString(t.String())
	} else if r.Installed {
		b.WriteString("No VIP belongs here: no virtual server of the table has one of these addresses as a real server.\n")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "WRONG: %s\n", p)
	}
	return b.String()
}

func plural(n int, ending string) string {
	if n == 1 {
		return ""
	}
	return ending
}

func (a *app) realServerRun(dirs *realServerDirs) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Keep lo as it should be (what the unit runs)",
		Long: `Keep lo as install said: follow the table, repair what others change. It runs
until it is stopped or uninstalled; a stop leaves everything as it is.`,
		Example: `  lbcluster realserver run`,
		Args:    cobra.NoArgs,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			return newRealServer(*dirs, a.logger()).run(cmd.Context())
		}),
	}
}
