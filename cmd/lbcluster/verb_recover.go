package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lbcluster/cluster"
	"lbcluster/cluster/lease"
	"lbcluster/fsm"
)

// recoverFlags are what a person said on the command line of recover.
type recoverFlags struct {
	data   string
	off    bool
	dryRun bool
}

func (a *app) recoverCommand() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make the one director that is left a cluster of its own",
		Long: `When a majority of the members is gone for good, make this director, whose daemon is
stopped, a cluster of its own: with the table that is on its disk, itself as the only
voter, a new epoch, a new CA and new keys. It refuses every former member on every
channel, and is refused by them. Others join it with new tokens, as on the first day.

You say with it that the others are OFF, and stay off until their lbcluster is taken
out of its old cluster (lbcluster eject --force): a majority of them that runs, also
somewhere that this machine does not reach, is a whole cluster still and owns the VIPs,
and then two machines answer for them. A member that answers here stops it.

It waits as long as anything that a member was ever promised can hold. What only the
others had, and had not reached this machine, is lost; all that is here is kept, and the
old files are set aside. For one dark night rather use lbcluster force-own.`,
		Example: `  systemctl stop lbcluster
  lbcluster recover --dry-run
  lbcluster recover
  systemctl start lbcluster`,
		Args:    cobra.NoArgs,
		GroupID: groupCluster,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadPaths(a.config, nodeFile{Socket: a.socket, DataDir: f.data})
			if err != nil {
				return &hinted{err, "correct " + a.config}
			}
			return a.recover(cmd.Context(), cfg, f)
		}),
	}
	cmd.Flags().BoolVar(&f.off, "yes-they-are-off", false, "do not ask (for scripts that have switched them off themselves)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and stop")
	cmd.Flags().StringVar(&f.data, "data-dir", "", "`FOLDER` of the daemon's data (default "+defaultDataDir+")")
	return cmd
}

// recovery is the answer of recover.
type recovery struct {
	Cluster  string       `json:"cluster"`
	Epoch    uint64       `json:"epoch"`
	Revision fsm.Revision `json:"revision"`
	Gone     []string     `json:"gone"`
	Aside    string       `json:"aside,omitempty"`
}

func (a *app) recover(ctx context.Context, cfg NodeConfig, f recoverFlags) error {
	l, err := takeLock(cfg.lockFile())
	if errors.Is(err, errAlive) {
		return &hinted{fmt.Errorf("recover: %w", err), "look at lbcluster status first; then systemctl stop lbcluster"}
	}
	if err != nil {
		return err
	}
	defer l.release()
	s, err := cluster.ReadSurvivor(cfg.DataDir)
	if errors.Is(err, cluster.ErrUnenrolled) {
		// A recovery that was interrupted, or nothing.
		return a.recovered(cfg, recovery{Gone: []string{}})
	}
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	fmt.Fprint(a.errOut, renderSurvivor(s))
	if err := a.refuseLiving(ctx, s.Others); err != nil {
		return err
	}
	will := recovery{Cluster: s.Identity.Cluster, Epoch: s.Epoch + 1, Revision: s.Table.Revision, Gone: append([]string{}, s.Names()...)}
	if f.dryRun {
		return a.print(will, func() string { return "Nothing was changed.\n" })
	}
	if err := a.swearOff(s.Names(), f.off); err != nil {
		return err
	}
	wait := promises(s.Table.Settings)
	a.say("Waiting %s: what the others were promised has run out then.", shortDuration(wait.Round(100*time.Millisecond)))
	if !pause(ctx, wait) {
		return fmt.Errorf("recover: interrupted, nothing was changed: %w", ctx.Err())
	}
	return a.recovered(cfg, will)
}

// recovered does it and says what comes next.
func (a *app) recovered(cfg NodeConfig, r recovery) error {
	done, err := cluster.Recover(cfg.DataDir, "root@"+ownName(), time.Now())
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	r.Epoch, r.Revision, r.Aside = done.Epoch, done.Revision, done.Aside
	return a.print(r, func() string {
		text := fmt.Sprintf("This director is a cluster of its own: epoch %d, revision %d.\n", r.Epoch, r.Revision)
		if r.Aside != "" {
			text += "Its old files are in " + r.Aside + ".\n"
		}
		return text + `
  systemctl start lbcluster     it serves within seconds
  lbcluster token               for each machine that is to join

On each of the former members, before it joins: lbcluster eject --force
Real servers that follow the table need a new token, too (lbcluster token --role reader).
`
	})
}

// promises is how long the longest promise holds that any voter ever made, whatever the
// profile was then, by a clock that is as wrong as one may be.
func promises(s fsm.Settings) time.Duration {
	p, err := lease.Profile("robust")
	if err != nil {
		return time.Minute // cannot happen: it is a profile's name
	}
	p.Guard = s.Guard.D()
	return time.Duration(float64(p.Embargo()) * (1 + 2*p.Eps))
}

func renderSurvivor(s *cluster.Survivor) string {
	var b strings.Builder
	last := "nothing"
	if n := len(s.Table.Events); n > 0 {
		e := s.Table.Events[n-1]
		last = fmt.Sprintf("%s UTC: %s", e.At.UTC().Format(time.DateTime), e.Text)
	}
	fmt.Fprintf(&b, "%s of cluster %s, epoch %d. Its table is at revision %d; the last event:\n  %s\n", s.Identity.Name, s.Identity.Cluster, s.Epoch, s.Table.Revision, last)
	b.WriteString("These are taken out of the cluster for ever:\n")
	for _, m := range s.Others {
		fmt.Fprintf(&b, "  %-12s %-9s %s\n", m.Name, m.Role, m.Addr)
	}
	if len(s.Others) == 0 {
		b.WriteString("  (nobody: it is alone already)\n")
	}
	return b.String()
}

// refuseLiving tries the members' port on all paths: who answers there is not off.
func (a *app) refuseLiving(ctx context.Context, others []fsm.Member) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var mu sync.Mutex
	var g errgroup.Group
	living, up := map[string]string{}, map[string]string{}
	for _, m := range others {
		addrs := []netip.AddrPort{m.Addr}
		for _, n := range m.Networks {
			addrs = append(addrs, netip.AddrPortFrom(n.Prefix.Addr(), m.Addr.Port()))
		}
		for _, addr := range addrs {
			g.Go(func() error {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					c.Close()
					living[m.Name] = addr.String()
				} else if errors.Is(err, unix.ECONNREFUSED) {
					up[m.Name] = addr.Addr().String()
				}
				return nil
			})
		}
	}
	_ = g.Wait()
	for _, name := range sorted(up) {
		a.say("note: %s's machine is on and answers at %s, though no lbcluster does: it must not start again as it is", name, up[name])
	}
	if len(living) == 0 {
		return nil
	}
	var words []string
	for _, name := range sorted(living) {
		words = append(words, fmt.Sprintf("%s at %s", name, living[name]))
	}
	return &hinted{
		fmt.Errorf("%w: these are not off: %s", fsm.ErrDenied, strings.Join(words, ", ")),
		"if a majority can be brought together again, nothing need be recovered: see lbcluster status there; else switch them off",
	}
}

func sorted(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// swearOff has the person type what he says.
func (a *app) swearOff(names []string, yes bool) error {
	if yes || len(names) == 0 {
		return nil
	}
	if !a.interactive() {
		return needsYes("--yes-they-are-off")
	}
	want := strings.Join(names, " ") + " off"
	fmt.Fprintf(a.errOut, "Only you can see whether they are off. If they run, two machines will answer for the VIPs.\nTo go on type: %s\n> ", want)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.Join(strings.Fields(line), " ") != want {
		return errDeclined
	}
	return nil
}

// ownName is this machine's name, for the history.
func ownName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
