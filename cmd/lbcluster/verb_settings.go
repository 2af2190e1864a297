package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/fsm"
)

// setting is one setting of the cluster, as a person names it.
type setting struct {
	name, meaning string
	show          func(fsm.Settings) string
	read          func(*fsm.SetSettings, string) error
}

var settings = []setting{
	{
		"profile", "timing of the lease: " + strings.Join(fsm.Profiles, ", "),
		func(s fsm.Settings) string { return s.Profile },
		func(c *fsm.SetSettings, v string) error { c.Profile = v; return nil },
	},
	{
		"guard", "how long a virtual machine may be paused unnoticed, 0s to " + fsm.MaxGuard.String() + "; failover takes as much longer",
		func(s fsm.Settings) string { return s.Guard.String() },
		func(c *fsm.SetSettings, v string) (err error) { c.Guard, err = readDelay(v); return err },
	},
	{
		"spares", "directors that are kept without a home (N+1), 0 to " + strconv.Itoa(fsm.MaxSpares),
		func(s fsm.Settings) string { return strconv.Itoa(s.Spares) },
		func(c *fsm.SetSettings, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil {
				return fmt.Errorf("%q is no number", v)
			}
			c.Spares = &n
			return nil
		},
	},
	{
		"fail-back", "whether a virtual router goes home by itself: manual, auto",
		func(s fsm.Settings) string { return string(cmp.Or(s.FailBack, fsm.FailBackManual)) },
		func(c *fsm.SetSettings, v string) error { c.FailBack = fsm.FailBack(v); return nil },
	},
	{
		"fail-back-after", "how long the home must have been well before that, 1s to 24h",
		func(s fsm.Settings) string { _, after := s.FailsBack(); return after.String() },
		func(c *fsm.SetSettings, v string) (err error) { c.FailBackAfter, err = readDelay(v); return err },
	},
	{
		"health", "when a real server is down: majority (of the directors' opinions), any-down (one is enough)",
		func(s fsm.Settings) string { return string(cmp.Or(s.Health, fsm.HealthMajority)) },
		func(c *fsm.SetSettings, v string) error { c.Health = fsm.HealthPolicy(v); return nil },
	},
	{
		"server-scripts", "where notify_up, quorum_down and their like run, and lines of servers go: once (on one director), each (on each)",
		func(s fsm.Settings) string { return string(cmp.Or(s.Scripts, fsm.ScriptsOnce)) },
		func(c *fsm.SetSettings, v string) error { c.Scripts = fsm.ScriptsPolicy(v); return nil },
	},
	{
		"webhooks", "URLs that get all events as JSON, separated by commas; empty: none",
		func(s fsm.Settings) string { return s.Webhooks },
		func(c *fsm.SetSettings, v string) error { c.Webhooks = &v; return nil },
	},
	{
		"flap-damping", "whether a real server that comes and goes is held down, longer each time: off, on",
		func(s fsm.Settings) string { return string(cmp.Or(s.FlapDamping, fsm.DampingOff)) },
		func(c *fsm.SetSettings, v string) error { c.FlapDamping = fsm.Damping(v); return nil },
	},
	{
		"snapshot-every", "how often each director writes a snapshot into its data folder, 1m to 744h; 0s: never",
		func(s fsm.Settings) string { every, _ := s.Snapshots(); return every.String() },
		func(c *fsm.SetSettings, v string) (err error) { c.SnapshotEvery, err = readDelay(v); return err },
	},
	{
		"snapshots-kept", "how many of them it keeps, 1 to 1000",
		func(s fsm.Settings) string { _, kept := s.Snapshots(); return strconv.Itoa(kept) },
		func(c *fsm.SetSettings, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is no number of snapshots", v)
			}
			c.SnapshotsKept = &n
			return nil
		},
	},
}

func readDelay(v string) (*fsm.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		return nil, fmt.Errorf("%q is no duration like 2s or 500ms", v)
	}
	return (*fsm.Duration)(&d), nil
}

func (a *app) settingsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "settings",
		Short:   "Show or change the cluster's settings",
		Example: `  lbcluster settings show`,
		GroupID: groupOperate,
		Args:    cobra.NoArgs,
		RunE:    subcommandMissing,
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "show",
		Short:   "Show the cluster's settings",
		Example: `  lbcluster settings show -o json`,
		Args:    cobra.NoArgs,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			s, err := a.client().Settings(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the settings: %w", err)
			}
			return a.print(s, func() string { return renderSettings(s) })
		}),
	}, a.settingsSetCommand())
	return cmd
}

func renderSettings(s fsm.Settings) string {
	t := newTable("SETTING", "VALUE", "MEANING")
	for _, x := range settings {
		t.row(x.name, x.show(s), x.meaning)
	}
	return t.String()
}

func (a *app) settingsSetCommand() *cobra.Command {
	var long strings.Builder
	long.WriteString("Change the settings that are named, for all members; the others stay. A member\nfollows another guard at its next start or reload (systemctl reload lbcluster);\nuntil then status names it.\n\n")
	for _, x := range settings {
		fmt.Fprintf(&long, "  %-16s %s\n", x.name, x.meaning)
	}
	return &cobra.Command{
		Use:   "set NAME=VALUE...",
		Short: "Change settings of the cluster",
		Long:  strings.TrimRight(long.String(), "\n"),
		Example: `  lbcluster settings set spares=1
  lbcluster settings set fail-back=auto fail-back-after=5m`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			words := make([]string, len(settings))
			for i, x := range settings {
				words[i] = x.name + "="
			}
			return words, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
		},
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			req, err := readSettings(args)
			if err != nil {
				return err
			}
			r, err := a.client().ChangeSettings(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("change the settings: %w", err)
			}
			s, err := a.client().Settings(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the settings: %w", err)
			}
			return a.print(s, func() string {
				if !r.Changed {
					return "Nothing to change: it is so already.\n" + renderSettings(s)
				}
				return renderSettings(s)
			})
		}),
	}
}

// readSettings reads "name=value" words.
func readSettings(args []string) (fsm.SetSettings, error) {
	var req fsm.SetSettings
	seen := map[string]bool{}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || value == "" {
			return req, fmt.Errorf("%w: %q: write NAME=VALUE", fsm.ErrInvalid, arg)
		}
		if seen[name] {
			return req, fmt.Errorf("%w: %s is there twice", fsm.ErrInvalid, name)
		}
		seen[name] = true
		known := false
		for _, x := range settings {
			if x.name != name {
				continue
			}
			known = true
			if err := x.read(&req, value); err != nil {
				return req, fmt.Errorf("%w: %s: %w", fsm.ErrInvalid, name, err)
			}
		}
		if !known {
			return req, &hinted{fmt.Errorf("%w: there is no setting %q", fsm.ErrInvalid, name), "lbcluster settings show"}
		}
	}
	return req, nil
}
