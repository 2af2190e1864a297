package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

func (a *app) exportCommand() *cobra.Command {
	var format, set string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the cluster's configuration as a file",
		Long: `Write what the cluster has on standard output. yaml and keepalived can be
applied again, and say what the file said, without drains and weights set by
hand; ipvsadm is what every director's kernel shall have now, checks and drains
included, as rules for ipvsadm --restore.`,
		Example: `  lbcluster export --format yaml > cluster.yaml
  lbcluster export --format ipvsadm | ipvsadm --restore`,
		Args:    cobra.NoArgs,
		GroupID: groupConfig,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			t, err := a.client().Table(cmd.Context(), 0)
			if err != nil {
				return fmt.Errorf("ask for the table: %w", err)
			}
			text, err := export(t, format, set)
			if err != nil {
				return err
			}
			return a.print(exported{format, t.Revision, string(text)}, func() string { return string(text) })
		}),
	}
	cmd.Flags().StringVar(&format, "format", "yaml", "yaml, keepalived or ipvsadm")
	cmd.Flags().StringVar(&set, "set", "", "only what this set owns (default: all; not for ipvsadm)")
	return cmd
}

// exported is the answer with -o json.
type exported struct {
	Format   string       `json:"format"`
	Revision fsm.Revision `json:"revision"`
	Text     string       `json:"text"`
}

func export(t *fsm.Table, format, set string) ([]byte, error) {
	if format == "ipvsadm" {
		return conf.WriteIPVSAdm(t.Effective()), nil
	}
	write := map[string]func(fsm.Config) ([]byte, error){"yaml": conf.WriteYAML, "keepalived": conf.WriteKeepalived}[format]
	if write == nil {
		return nil, &hinted{fmt.Errorf("%w: format %q is not known", fsm.ErrInvalid, format), "yaml, keepalived and ipvsadm are"}
	}
	cfg, err := configOf(t, set)
	if err != nil {
		return nil, err
	}
	return write(cfg)
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
