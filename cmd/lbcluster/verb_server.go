package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

func (a *app) serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "List real servers; drain, disable, enable or weigh one",
		Long: `What is set here by hand survives apply, and shows in its difference. SERVER is a
real server's IP:port, or its IP where it has one port only.`,
		Example: `  lbcluster server list
  lbcluster server drain 172.25.88.2:80`,
		GroupID: groupOperate,
		Args:    cobra.NoArgs,
		RunE:    subcommandMissing,
	}
	cmd.AddCommand(a.serverListCommand(), a.serverWeightCommand(),
		a.serverStateCommand("drain", fsm.Drained, "Give a real server no new connections",
			"Set the weight to 0 on all directors: connections there finish, none is new\n(clients within their persistence time still come). server list says how many are\nleft, and since when it is drained.", "drained: weight 0, its connections finish"),
		a.serverStateCommand("disable", fsm.Disabled, "Take a real server out of all tables at once",
			"Remove the server from all directors' tables; its connections break.", "disabled: it is in no director's table"),
		a.serverStateCommand("enable", fsm.Enabled, "Undo drain or disable",
			"Go back to what the checks and the weight say.", "enabled: checks and weight decide again"),
	)
	return cmd
}

func (a *app) serverListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the real servers of every virtual server",
		Example: `  lbcluster server list -o json`,
		Args:    cobra.NoArgs,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			r, err := a.enrolledStatus(cmd)
			if err != nil {
				return err
			}
			return a.print(r.Services, func() string { return renderServers(r.Services) })
		}),
	}
}

func renderServers(services []api.ServiceReport) string {
	t := newTable("VIRTUAL SERVER", "REAL SERVER", "HEALTH", "ADMIN", "WEIGHT", "WHY")
	for _, s := range services {
		for _, rs := range s.Servers {
			t.row(s.Key, serverName(s, rs), health(rs), admin(rs.Admin), weight(rs), rs.Why)
		}
	}
	return t.String() + renderPools(services) + renderOpen(services)
}

func (a *app) serverStateCommand(name string, state fsm.AdminState, short, long, done string) *cobra.Command {
	var service string
	var within time.Duration
	cmd := &cobra.Command{
		Use:   name + " SERVER",
		Short: short,
		Long:  long,
		Example: fmt.Sprintf(`  lbcluster server %s 172.25.88.2:80
  lbcluster server %s 172.25.88.2 --service tcp/172.25.88.100:80`, name, name),
		Args: cobra.ExactArgs(1),
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			req := api.OverrideRequest{State: &state, Within: fsm.Duration(within)}
			if within != 0 {
				done += fmt.Sprintf("; in %s it is disabled, whatever is left", shortDuration(within))
			}
			return a.override(cmd.Context(), args[0], service, req, done)
		}),
	}
	serviceFlag(cmd, &service)
	if state == fsm.Drained {
		cmd.Flags().DurationVar(&within, "within", 0, "disable it after this `TIME`, 1s to 744h, so that the connections it has left end")
		cmd.Example += fmt.Sprintf("\n  lbcluster server %s 172.25.88.2:80 --within 10m", name)
	}
	return cmd
}

func (a *app) serverWeightCommand() *cobra.Command {
	var service string
	cmd := &cobra.Command{
		Use:   "weight SERVER N|file",
		Short: "Set a real server's weight by hand, or go back to the file's",
		Long:  `Set the weight, 0 to 65535, on all directors; "file" goes back to what the file says.`,
		Example: `  lbcluster server weight 172.25.88.2:80 10
  lbcluster server weight 172.25.88.2:80 file`,
		Args: cobra.ExactArgs(2),
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			if args[1] == "file" {
				return a.override(cmd.Context(), args[0], service, api.OverrideRequest{ResetWeight: true}, "back at the file's weight")
			}
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 || n > 65535 {
				return fmt.Errorf("%w: weight %q is neither 0 to 65535 nor file", fsm.ErrInvalid, args[1])
			}
			return a.override(cmd.Context(), args[0], service, api.OverrideRequest{Weight: &n}, fmt.Sprintf("weight %d, set by hand", n))
		}),
	}
	serviceFlag(cmd, &service)
	return cmd
}

func serviceFlag(cmd *cobra.Command, service *string) {
	cmd.Flags().StringVar(service, "service", "", "only in this virtual server, as status names it: `tcp/IP:PORT` or fwmark/N (default: in all)")
}

// override finds the server and changes what is wanted of it.
func (a *app) override(ctx context.Context, word, service string, req api.OverrideRequest, done string) error {
	var err error
	if req.Server, err = netip.ParseAddrPort(word); err != nil || service != "" {
		if req, err = a.named(ctx, word, service, req); err != nil {
			return err
		}
	}
	r, err := a.client().Override(ctx, req)
	if errors.Is(err, fsm.ErrNotFound) {
		return &hinted{fmt.Errorf("%w: no real server %q", fsm.ErrNotFound, word), "lbcluster server list"}
	}
	if err != nil {
		return fmt.Errorf("change %s: %w", req.Server, err)
	}
	return a.print(r, func() string { return fmt.Sprintf("%s is %s (revision %d).\n", req.Server, done, r.Revision) })
}

// named finds in the table what the words mean. Where they say it all by themselves
// nobody asks for the table, which may be large.
func (a *app) named(ctx context.Context, word, service string, req api.OverrideRequest) (api.OverrideRequest, error) {
	t, err := a.client().Table(ctx, 0)
	if err != nil {
		return req, fmt.Errorf("ask for the table: %w", err)
	}
	if req.Service, err = findService(t, service); err != nil {
		return req, err
	}
	req.Server, err = findServer(t, req.Service, word)
	return req, err
}

// findService reads "tcp/IP:PORT"; empty is the zero key: all of them.
func findService(t *fsm.Table, word string) (fsm.ServiceKey, error) {
	if word == "" {
		return fsm.ServiceKey{}, nil
	}
	var names []string
	for _, s := range t.Services {
		if s.ServiceKey.String() == word {
			return s.ServiceKey, nil
		}
		names = append(names, s.ServiceKey.String())
	}
	return fsm.ServiceKey{}, &hinted{fmt.Errorf("%w: no virtual server %q", fsm.ErrNotFound, word), "there are: " + or(strings.Join(names, " "), "none")}
}

var errManyPorts = errors.New("this address has several ports: give IP:port")

// findServer reads IP:port, or the IP of a server that has one port only.
func findServer(t *fsm.Table, key fsm.ServiceKey, word string) (netip.AddrPort, error) {
	found := map[netip.AddrPort]bool{}
	var last netip.AddrPort
	for _, s := range t.Services {
		if key != (fsm.ServiceKey{}) && s.ServiceKey != key {
			continue
		}
		for _, r := range s.RealServers {
			if r.AddrPort().String() == word || r.Addr.String() == word {
				last = r.AddrPort()
				found[last] = true
			}
		}
	}
	switch len(found) {
	case 0:
		return last, &hinted{fmt.Errorf("%w: no real server %q", fsm.ErrNotFound, word), "lbcluster server list"}
	case 1:
		return last, nil
	}
	return netip.AddrPort{}, &hinted{fmt.Errorf("%s: %w", word, errManyPorts), "lbcluster server list"}
}
