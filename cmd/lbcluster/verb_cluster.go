package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

func (a *app) initCommand() *cobra.Command {
	var req api.InitRequest
	var guard time.Duration
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Found a cluster with this machine as its first director",
		Long: `Found a cluster: this machine makes the certificate authority, becomes the
first director, and prints the command with which others join.

The profile is the lease's timing: how long a VIP may be without an owner after
its owner died. default: under 1 s. fast: about 0.25 s, for quiet networks and
machines of their own. robust: about 3 s, for busy shared machines.

The guard is how long a member may be paused from outside, as hypervisors do to
virtual machines, without a second owner: failover takes as much longer. Where
--guard is not given it is 0s on hardware and 2s on a virtual machine.`,
		Example: `  lbcluster init
  lbcluster init --guard 0s
  lbcluster init --profile robust`,
		Args:    cobra.NoArgs,
		GroupID: groupCluster,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("guard") {
				g := fsm.Duration(guard)
				req.Guard = &g
			}
			r, err := a.client().Init(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("found a cluster: %w", err)
			}
			return a.print(r, func() string { return renderInit(r) })
		}),
	}
	cmd.Flags().StringVar(&req.Profile, "profile", "default", strings.Join(fsm.Profiles, ", "))
	cmd.Flags().DurationVar(&guard, "guard", 0, "the longest tolerated pause of a machine, 0s to "+fsm.MaxGuard.String()+" (default: as this machine needs)")
	return cmd
}

func renderInit(r api.InitReply) string {
	return fmt.Sprintf(`Cluster %s founded; this machine is director %s.
%s

On each of the other machines, with lbcluster running there:

  lbcluster join %s --token %s

(%s, --witness for a machine that only votes). More tokens: lbcluster token
One machine alone survives no failure: add two directors, or a director and a witness.
`, r.Cluster, r.ID, r.GuardWhy, r.Addr, r.Token, lasts(r.Uses, r.TTL.D()))
}

// lasts says how long a token can be used.
func lasts(uses int, ttl time.Duration) string {
	times := fmt.Sprintf("%d times", uses)
	if uses == 1 {
		times = "once"
	}
	return fmt.Sprintf("the token works %s within %s", times, shortDuration(ttl))
}

func (a *app) joinCommand() *cobra.Command {
	var token, file string
	var witness, force bool
	cmd := &cobra.Command{
		Use:   "join ADDR",
		Short: "Enrol this machine in a running cluster",
		Long: `Enrol this machine in the cluster that a member at ADDR (IP or IP:port) belongs
to. The token comes from lbcluster init or lbcluster token on a member; it
also proves the cluster to this machine. A witness only votes: it holds no VIP,
forwards nothing and may run anywhere, even on a real server, that is near enough:
its round trips to the cluster are measured, and it is refused if the cluster's
profile cannot bear them.`,
		Example: `  lbcluster join 10.0.0.11 --token-file /root/join.token
  lbcluster join 10.0.0.11:7500 --token T --witness`,
		Args:    cobra.ExactArgs(1),
		GroupID: groupCluster,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			secret, err := a.readToken(token, file)
			if err != nil {
				return err
			}
			req := api.JoinRequest{Addr: args[0], Token: secret, Role: fsm.Director, Force: force}
			if witness {
				req.Role = fsm.Witness
			}
			r, err := a.client().Join(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("join the cluster at %s: %w", args[0], err)
			}
			return a.print(r, func() string {
				return fmt.Sprintf("Joined cluster %s; this machine is %s %s.\nlbcluster status shows when it has caught up.\n", r.Cluster, req.Role, r.ID)
			})
		}),
	}
	cmd.Flags().StringVar(&token, "token", "", "the join token (others on this machine can see it in ps; rather use --token-file)")
	cmd.Flags().StringVar(&file, "token-file", "", "`FILE` that holds the join token, - for standard input")
	cmd.Flags().BoolVar(&witness, "witness", false, "join as a witness")
	cmd.Flags().BoolVar(&force, "force", false, "join as a witness although the way to the cluster is too slow for its profile")
	cmd.MarkFlagsMutuallyExclusive("token", "token-file")
	cmd.MarkFlagsOneRequired("token", "token-file")
	return cmd
}

// readToken takes the token from the flag or the file.
func (a *app) readToken(token, file string) (string, error) {
	if file == "" {
		return strings.TrimSpace(token), nil
	}
	b, err := a.readFile(file)
	if err != nil {
		return "", fmt.Errorf("read the token: %w: %w", fsm.ErrInvalid, err)
	}
	if t := strings.TrimSpace(string(b)); t != "" {
		return t, nil
	}
	return "", fmt.Errorf("%w: %s holds no token", fsm.ErrInvalid, file)
}

func (a *app) leaveCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Hand over and take this machine out of its cluster",
		Long: `Hand over what this machine owns and take it out of its cluster. What lbcluster
put into its kernel (IPVS services, addresses, the gate) is removed, its identity
is forgotten, and to come back it needs a new token. On a terminal it asks first.`,
		Example: `  lbcluster leave`,
		Args:    cobra.NoArgs,
		GroupID: groupCluster,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			if err := a.ask(yes, "Take this machine out of its cluster?"); err != nil {
				return err
			}
			if err := a.client().Leave(cmd.Context()); err != nil {
				return fmt.Errorf("leave the cluster: %w", err)
			}
			return a.print(struct{}{}, func() string { return "This machine has left its cluster.\n" })
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// ask gets a yes from the person at the terminal; where there is none, giving
// the command was the yes.
func (a *app) ask(yes bool, question string) error {
	if yes || !a.interactive() {
		return nil
	}
	ok, err := a.confirm(question)
	if err == nil && !ok {
		err = errDeclined
	}
	return err
}

func (a *app) tokenCommand() *cobra.Command {
	var ttl time.Duration
	var uses int
	var role string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a join token",
		Long: `Make a join token. It is shown once; the cluster keeps only its hash. Treat it
as a password until it is used up or expires.`,
		Example: `  lbcluster token
  lbcluster token --role witness --ttl 10m
  lbcluster token --uses 4 -o json`,
		Args:    cobra.NoArgs,
		GroupID: groupCluster,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			if ttl <= 0 || uses < 1 {
				return fmt.Errorf("%w: --ttl and --uses must be above zero", fsm.ErrInvalid)
			}
			req := api.TokenRequest{TTL: fsm.Duration(ttl), Uses: uses, Role: fsm.Role(role)}
			r, err := a.client().Token(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("make a token: %w", err)
			}
			return a.print(r, func() string {
				if req.Role == fsm.Reader {
					return fmt.Sprintf("%s\n\nOn the real server (%s):\n\n  lbcluster realserver install --cluster %s --token %s\n", r.Token, lasts(uses, ttl), r.Addr, r.Token)
				}
				return fmt.Sprintf("%s\n\nOn the machine that is to join (%s):\n\n  lbcluster join %s --token %s\n", r.Token, lasts(uses, ttl), r.Addr, r.Token)
			})
		}),
	}
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it can be used")
	cmd.Flags().IntVar(&uses, "uses", 1, "how many machines can use it")
	cmd.Flags().StringVar(&role, "role", "", "only for this role: director, witness, or reader for real servers (default: any)")
	return cmd
}

// readFile reads a file, or standard input for "-", up to maxInput bytes.
func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		return readLimited(a.in, "standard input")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, name)
}
