package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"lbcluster/fsm"
)

func (a *app) memberCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "member",
		Short:   "List members, or remove one that is gone",
		Example: `  lbcluster member list`,
		GroupID: groupCluster,
		Args:    cobra.NoArgs,
		RunE:    subcommandMissing,
	}
	cmd.AddCommand(a.memberListCommand(), a.memberRemoveCommand())
	return cmd
}

// subcommandMissing answers a noun without a verb.
func subcommandMissing(cmd *cobra.Command, _ []string) error {
	return fmt.Errorf("%s: say what to do: %s --help", cmd.CommandPath(), cmd.CommandPath())
}

func (a *app) memberListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the members",
		Example: `  lbcluster member list -o json`,
		Args:    cobra.NoArgs,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			members, err := a.client().Members(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the members: %w", err)
			}
			return a.print(members, func() string { return renderMembers(members) })
		}),
	}
}

func renderMembers(members []fsm.Member) string {
	t := newTable("ID", "NAME", "ROLE", "STATE", "ADDRESS")
	for _, m := range members {
		state := string(m.State)
		if m.Silent {
			state += ", silent"
		}
		if m.Drained {
			state += ", drained"
		}
		t.row(m.ID, m.Name, m.Role, state, m.Addr)
	}
	return t.String()
}

func (a *app) memberRemoveCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove ID|NAME",
		Short: "Remove a member that will not come back",
		Long: `Remove a member that will not come back: its votes and its vote in the quorum
go. A member that runs is better taken out with lbcluster leave, said on it. The
machine needs a new token to join again, and gets a new id.`,
		Example: `  lbcluster member remove dir3
  lbcluster member remove m3 --yes`,
		Args: cobra.ExactArgs(1),
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			members, err := a.client().Members(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the members: %w", err)
			}
			m, err := findMember(members, args[0])
			if err != nil {
				return err
			}
			if err := a.ask(yes, fmt.Sprintf("Remove %s %s (%s) for good?", m.Role, m.Name, m.ID)); err != nil {
				return err
			}
			if err := a.client().RemoveMember(cmd.Context(), m.ID); err != nil {
				return fmt.Errorf("remove %s: %w", m.Name, err)
			}
			return a.print(m, func() string { return fmt.Sprintf("%s (%s) is no member any more.\n", m.Name, m.ID) })
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// findMember goes by id first, then by name.
func findMember(members []fsm.Member, word string) (fsm.Member, error) {
	for _, m := range members {
		if string(m.ID) == word {
			return m, nil
		}
	}
	for _, m := range members {
		if m.Name == word {
			return m, nil
		}
	}
	return fsm.Member{}, &hinted{fmt.Errorf("%w: no member has the id or name %q", fsm.ErrNotFound, word), "lbcluster member list"}
}
