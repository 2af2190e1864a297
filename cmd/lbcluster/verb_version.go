package main

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
)

// version is set by the linker (-X main.version=...).
var version = "dev"

// buildVersion is version, with the commit where the build recorded it.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || version != "dev" {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + "-" + s.Value[:12]
		}
	}
	return version
}

// versions is the verb's answer.
type versions struct {
	Client string `json:"client"`
	Daemon string `json:"daemon,omitempty"` // empty: it does not answer
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this program and of the running daemon",
		Example: `  lbcluster version`,
		Args:    cobra.NoArgs,
		GroupID: groupLook,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			v := versions{Client: buildVersion()}
			r, err := a.client().Version(cmd.Context())
			if err != nil && !errors.Is(err, api.ErrUnreachable) {
				return fmt.Errorf("ask the daemon: %w", err)
			}
			v.Daemon = r.Version
			return a.print(v, func() string {
				daemon := v.Daemon
				if daemon == "" {
					daemon = "does not answer"
				}
				return fmt.Sprintf("lbcluster %s\ndaemon    %s\n", v.Client, daemon)
			})
		}),
	}
}
