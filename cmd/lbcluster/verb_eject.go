package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// ejectedFile is where eject writes unless told otherwise: beside keepalived's
// own, which stays the operator's.
const ejectedFile = "/etc/keepalived/keepalived.conf.lbcluster"

// ejectedMark is the first line of what eject writes, by which it knows its own.
const ejectedMark = "# Written by lbcluster eject"

// peerLately is how lately a VRRP peer must have been heard to be counted on.
const peerLately = 10 * time.Second

type ejectFlags struct {
	file       string
	priority   uint8
	force, yes bool
}

func (a *app) ejectCommand() *cobra.Command {
	var f ejectFlags
	cmd := &cobra.Command{
		Use:   "eject",
		Short: "Give this machine back to keepalived",
		Long: `Take lbcluster off this director: write its keepalived.conf, hand over what it
owns, leave the cluster, and remove the VIPs and the gate from its kernel. IPVS
stays as it is, and keepalived takes the services over when you start it. How to
do that is said at the end.

The file has this machine's interfaces and, for each virtual router, state BACKUP
and a priority by its place among the directors; --priority N is its priority
instead. The daemon goes on running, in no cluster.

Where a VIP would be without an owner until keepalived is up, because no other
director could take it and no VRRP peer is heard, nothing is done unless you say
--force. With --force the machine also goes if the cluster cannot agree to it.`,
		Example: `  lbcluster eject
  lbcluster eject --file /etc/keepalived/keepalived.conf --priority 90`,
		Args:    cobra.NoArgs,
		GroupID: groupCluster,
		RunE:    a.verb(func(cmd *cobra.Command, _ []string) error { return a.eject(cmd.Context(), f) }),
	}
	cmd.Flags().StringVar(&f.file, "file", ejectedFile, "the `FILE` to write")
	cmd.Flags().Uint8Var(&f.priority, "priority", 0, "keepalived's priority here for all virtual routers, 1 to 255")
	cmd.Flags().BoolVar(&f.force, "force", false, "go even if a VIP is dark then, or the cluster does not agree")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

// ejected is the answer with -o json.
type ejected struct {
	api.EjectReply
	File string   `json:"file"`
	Dark []string `json:"dark"` // why a VIP may be dark until keepalived serves
}

func (a *app) eject(ctx context.Context, f ejectFlags) error {
	t, err := a.client().Table(ctx, 0)
	if err != nil {
		return fmt.Errorf("ask for the table: %w", err)
	}
	report, err := a.client().Status(ctx)
	if err != nil {
		return fmt.Errorf("ask how the cluster is: %w", err)
	}
	self, ok := t.Member(report.Self)
	if !ok || self.Role != fsm.Director {
		return &hinted{fmt.Errorf("%w: this machine is no director: it has nothing that keepalived could serve", fsm.ErrInvalid), "lbcluster leave takes it out of the cluster"}
	}
	dark := darkWithout(report, t, self)
	for _, why := range dark {
		a.say("%s", why)
	}
	if len(dark) > 0 && !f.force {
		return &hinted{
			fmt.Errorf("%w: this would leave a VIP dark; nothing was done", fsm.ErrDenied),
			"put that right first; or have keepalived ready to start, and say --force: from the command to keepalived's first advert nobody answers for the VIP",
		}
	}
	text, err := a.ejectedConf(ctx, t, self, f)
	if err != nil {
		return err
	}
	if err := a.ask(f.yes, fmt.Sprintf("Take lbcluster off %s, and write %s?", self.Name, f.file)); err != nil {
		return err
	}
	if err := writeEjected(f.file, text); err != nil {
		return fmt.Errorf("nothing was done: %w", err)
	}
	reply, err := a.client().Eject(ctx, api.EjectRequest{Force: f.force})
	if err != nil {
		return fmt.Errorf("eject (%s is written): %w", f.file, err)
	}
	out := ejected{reply, f.file, append([]string{}, dark...)}
	return a.print(out, func() string { return renderEjected(out, self) })
}

// ejectedConf is this machine's keepalived.conf.
func (a *app) ejectedConf(ctx context.Context, t *fsm.Table, self fsm.Member, f ejectFlags) ([]byte, error) {
	cfg, err := configOf(t, "")
	if err != nil {
		return nil, err
	}
	node, err := a.nodeOf(ctx, t, cfg, exportFlags{node: self.Name, priority: f.priority})
	if err != nil {
		return nil, err
	}
	for name := range node.States {
		node.States[name] = "BACKUP" // whoever is MASTER now is not disturbed
	}
	text, err := conf.WriteKeepalivedFor(cfg, node)
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf("%s on %s, from revision %d\n\n", ejectedMark, self.Name, t.Revision)
	return append([]byte(head), text...), nil
}

// darkWithout says why VIPs would be without an owner once a director is gone
// and before keepalived runs there. It is pure.
func darkWithout(report api.StatusReport, t *fsm.Table, self fsm.Member) []string {
	var dark []string
	if len(t.Members) == 1 {
		dark = append(dark, "this is the only member: with it the cluster ends, and its configuration lives on in the file alone")
	}
	if s := report.Survival; s.Answering < s.Majority {
		dark = append(dark, fmt.Sprintf("only %d of %d voters answer, %d are needed to let this member go", s.Answering, s.Voters, s.Majority))
	}
	for _, r := range report.Routers {
		if r.Owner != self.ID && r.Owner != "" {
			continue // another has it
		}
		if able(report, r, self.ID) || peerHeard(r) {
			continue
		}
		vips := make([]string, len(r.Addresses))
		for i, p := range r.Addresses {
			vips[i] = p.Addr().String()
		}
		dark = append(dark, fmt.Sprintf("%s (%s): no other director could hold it now, and no VRRP peer is heard", r.Name, strings.Join(vips, ", ")))
	}
	return dark
}

// able reports whether another director could hold a router.
func able(report api.StatusReport, r api.RouterReport, self fsm.MemberID) bool {
	for _, m := range report.Members {
		if m.ID == self || m.Role != fsm.Director || m.State != fsm.Present || m.Drained || m.Status == nil || !m.Status.Kernel.Applied {
			continue
		}
		for _, l := range m.Status.Leases {
			if l.Router == r.Unit && l.Unfit == "" {
				return true
			}
		}
	}
	return false
}

// peerHeard reports whether somebody who is no member advertises the router.
func peerHeard(r api.RouterReport) bool {
	for _, s := range r.Speakers {
		if s.Member == "" && s.AgeMS < peerLately.Milliseconds() {
			return true
		}
	}
	return false
}

// writeEjected writes a file of its own anew, and no other's over.
func writeEjected(path string, text []byte) error {
	old, err := os.ReadFile(path)
	switch {
	case err == nil && !bytes.HasPrefix(old, []byte(ejectedMark)):
		return &hinted{fmt.Errorf("%w: %s exists, and is not lbcluster's", fsm.ErrInvalid, path), "move it away, or name another file: --file"}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	if err := writeDurably(path, string(text)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// renderEjected says what was done, and what is left to do.
func renderEjected(e ejected, self fsm.Member) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is in no cluster any more; its VIPs and the gate are removed, IPVS is as it was.\n", self.Name)
	if e.Abandoned != "" {
		fmt.Fprintf(&b, "The cluster did not agree (%s). If others are left in it: lbcluster member remove %s, on one of them.\n", e.Abandoned, self.Name)
	}
	for _, p := range e.Loopback {
		fmt.Fprintf(&b, "%s stays on lo, for this machine is a real server.\n", p)
	}
	fmt.Fprintf(&b, `Its configuration for keepalived is %s. To start it:

    keepalived -t -f %[1]s
    cp %[1]s /etc/keepalived/keepalived.conf
    systemctl disable --now lbcluster
    systemctl enable --now keepalived
`, e.File)
	return b.String()
}
