package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// exportFlags are what a person said on the command line of export.
type exportFlags struct {
	format, set, node string
	priority          uint8
}

func (a *app) exportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the cluster's configuration as a file",
		Long: `Write what the cluster has on standard output. yaml and keepalived can be
applied again, and say what the file said, without drains and weights set by
hand; ipvsadm is what every director's kernel shall have now, checks and drains
included, as rules for ipvsadm --restore.

--for NODE writes the keepalived.conf of one machine: router_id NODE, the
interfaces that hold the VIPs there, state MASTER and the configured priority for
the virtual routers that are at home there, BACKUP and less for the others, in the
order in which the directors follow. unicast_src_ip, or mcast_src_ip if any is
configured, is its own address, and unicast_peer lists the other directors too.
--priority N is its priority instead, for all. Give the files of all nodes to
apply -f together, and they are one configuration again, but for the packets of
firewall marks, which keepalived.conf cannot say: --for leaves them out with a
comment. What keepalived does not take is said on standard error.`,
		Example: `  lbcluster export --format yaml > cluster.yaml
  lbcluster export --format keepalived --for dir2 > dir2.conf
  lbcluster export --format keepalived --for lb9 --priority 50
  lbcluster export --format ipvsadm | ipvsadm --restore`,
		Args:    cobra.NoArgs,
		GroupID: groupConfig,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			t, err := a.client().Table(cmd.Context(), 0)
			if err != nil {
				return fmt.Errorf("ask for the table: %w", err)
			}
			text, err := a.export(cmd.Context(), t, f)
			if err != nil {
				return err
			}
			return a.print(exported{f.format, t.Revision, string(text)}, func() string { return string(text) })
		}),
	}
	cmd.Flags().StringVar(&f.format, "format", "yaml", "yaml, keepalived or ipvsadm")
	cmd.Flags().StringVar(&f.set, "set", "", "only what this set owns (default: all; not for ipvsadm)")
	cmd.Flags().StringVar(&f.node, "for", "", "the `NODE` whose keepalived.conf is written")
	cmd.Flags().Uint8Var(&f.priority, "priority", 0, "with --for: its priority for all virtual routers, 1 to 255")
	return cmd
}

// exported is the answer with -o json.
type exported struct {
	Format   string       `json:"format"`
	Revision fsm.Revision `json:"revision"`
	Text     string       `json:"text"`
}

func (a *app) export(ctx context.Context, t *fsm.Table, f exportFlags) ([]byte, error) {
	if (f.node != "" || f.priority != 0) && f.format != "keepalived" {
		return nil, &hinted{fmt.Errorf("%w: --for and --priority go with --format keepalived", fsm.ErrInvalid), ""}
	}
	if f.format == "ipvsadm" {
		return conf.WriteIPVSAdm(t.Effective()), nil
	}
	cfg, err := configOf(t, f.set)
	switch {
	case f.format != "yaml" && f.format != "keepalived":
		return nil, &hinted{fmt.Errorf("%w: format %q is not known", fsm.ErrInvalid, f.format), "yaml, keepalived and ipvsadm are"}
	case err != nil:
		return nil, err
	case f.format == "yaml":
		return conf.WriteYAML(cfg)
	case f.node == "" && f.priority != 0:
		return nil, &hinted{fmt.Errorf("%w: --priority is one node's: which?", fsm.ErrInvalid), "--for NODE says it"}
	}
	var node conf.Node
	if f.node != "" {
		if node, err = a.nodeOf(ctx, t, cfg, f); err != nil {
			return nil, err
		}
	}
	text, err := conf.WriteKeepalivedFor(cfg, node)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Routers {
		if dev := node.Interfaces[cfg.Routers[i].Name]; dev != "" {
			cfg.Routers[i].Interface = dev
		}
	}
	for _, limit := range conf.KeepalivedLimits(cfg) {
		a.say("note: %s", limit)
	}
	return text, nil
}

// nodeOf finds what is a node's own: its place among the directors, and its
// interfaces, if it answers.
func (a *app) nodeOf(ctx context.Context, t *fsm.Table, cfg fsm.Config, f exportFlags) (conf.Node, error) {
	n := conf.Node{Name: f.node, Priorities: map[string]uint8{}, States: map[string]string{}, Interfaces: map[string]string{}}
	m, err := findMember(t.Members, f.node)
	if err != nil && f.priority == 0 {
		return n, &hinted{fmt.Errorf("%w, so its priority cannot be told from its place", err), "--priority N gives it one, 1 to 255"}
	}
	if err == nil {
		n.Name = m.Name
	}
	for _, r := range cfg.Routers {
		u, _ := t.UnitOf(r.ID)
		place, _ := t.Place(u.ID)
		n.Priorities[r.Name], n.States[r.Name] = cmp.Or(f.priority, placedPriority(r.Priority, place.Order, m.ID)), "BACKUP"
		if t.Home(u.ID) == m.ID && m.ID != "" {
			n.States[r.Name] = "MASTER"
		}
	}
	if m.ID == "" {
		a.strangerSpeaks(&n, t, cfg)
		return n, nil
	}
	report, err := a.client().Status(ctx)
	if err != nil {
		return n, fmt.Errorf("ask for %s's interfaces: %w", m.Name, err)
	}
	for name, dev := range interfacesOf(report, t, m.ID) {
		n.Interfaces[name] = dev
	}
	a.speaking(&n, report, t, m, cfg)
	if len(n.Interfaces) == 0 && len(cfg.Routers) > 0 {
		a.say("note: %s does not tell its interfaces: they are as in the configuration", m.Name)
	}
	return n, nil
}

// placedPriority is what keepalived needs to have the directors follow in the
// order of a placement: the configured priority at home, 10 less for each place
// after it, or 1 less where that would come to nothing.
func placedPriority(home uint8, order []fsm.MemberID, id fsm.MemberID) uint8 {
	step := 10
	if int(home) <= step*(len(order)-1) {
		step = 1
	}
	for i, o := range order {
		if o == id {
			return uint8(max(int(home)-i*step, 1))
		}
	}
	return uint8(max(int(home)-len(order)*step, 1))
}

// interfacesOf are the interfaces that hold a member's routers there, by router.
func interfacesOf(report api.StatusReport, t *fsm.Table, id fsm.MemberID) map[string]string {
	out := map[string]string{}
	for _, m := range report.Members {
		if m.ID != id || m.Status == nil {
			continue
		}
		for _, at := range m.Status.Addresses {
			r, ok := t.Router(at.Router)
			if ok && at.Interface != "" && out[r.Name] == "" {
				out[r.Name] = at.Interface
			}
		}
	}
	return out
}

// configOf is one set's content, or that of all with the globals of the first
// that has any: they are the machine's, not the set's, in keepalived's files.
func configOf(t *fsm.Table, set string) (fsm.Config, error) {
	var all fsm.Config
	for _, s := range t.Sets {
		c := t.Config(s.Name)
		if s.Name == set {
			return c, nil
		}
		all.Routers = append(all.Routers, c.Routers...)
		all.Groups = append(all.Groups, c.Groups...)
		all.Services = append(all.Services, c.Services...)
		if all.Globals.RouterID == "" {
			all.Globals = c.Globals
		}
	}
	if set != "" {
		return all, &hinted{fmt.Errorf("%w: no set %q", fsm.ErrNotFound, set), "lbcluster status -o json names the sets"}
	}
	return all, nil
}
