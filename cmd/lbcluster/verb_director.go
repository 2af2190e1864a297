package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

func (a *app) directorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "director",
		Short:   "Drain a director, or make it fit again",
		Example: `  lbcluster director drain dir1`,
		GroupID: groupOperate,
		Args:    cobra.NoArgs,
		RunE:    subcommandMissing,
	}
	cmd.AddCommand(a.directorDrainCommand(), a.directorFitCommand())
	return cmd
}

// drained is what director drain or fit did.
type drained struct {
	Director string            `json:"director"`
	Drained  bool              `json:"drained"`
	Left     []string          `json:"left"`           // units that it still owns
	Went     map[string]string `json:"went,omitempty"` // unit to new owner
	Revision fsm.Revision      `json:"revision"`
}

func (a *app) directorDrainCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "drain DIRECTOR",
		Short: "Have a director hand over what it owns, and take nothing",
		Long: `Hand everything that a director owns over to others that are ready, without a
gap, and wait until it owns nothing: before maintenance. It goes on checking and
voting, and stands for nothing until lbcluster director fit. Its homes stay its.`,
		Example:           `  lbcluster director drain dir1`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDirector,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			return a.drain(cmd.Context(), args[0], wait)
		}),
	}
	waitFlag(cmd, &wait, 30*time.Second)
	return cmd
}

func (a *app) drain(ctx context.Context, word string, wait time.Duration) error {
	t, err := a.client().Table(ctx, 0)
	if err != nil {
		return fmt.Errorf("ask for the table: %w", err)
	}
	m, err := findMember(t.Members, word)
	if err != nil {
		return err
	}
	had, yes := owned(t, m.ID), true
	r, err := a.client().ChangeMember(ctx, m.ID, api.MemberRequest{Drained: &yes})
	if err != nil {
		return fmt.Errorf("drain %s: %w", m.Name, err)
	}
	now, _, err := a.await(ctx, wait, func(t *fsm.Table) bool { return handedOver(t, m.ID, had) })
	if err != nil {
		return err
	}
	d := drained{Director: m.Name, Drained: true, Left: []string{}, Went: map[string]string{}, Revision: r.Revision}
	d.Left = append(d.Left, owned(now, m.ID)...)
	for _, name := range had {
		if u, ok := now.UnitByName(name); ok && now.Owners[u.ID] != m.ID {
			d.Went[name] = or(ownerName(now, u.ID), "nobody")
		}
	}
	if err := a.print(d, func() string { return d.text(had) }); err != nil || len(d.Left) == 0 || wait == 0 {
		return err
	}
	return &hinted{
		fmt.Errorf("%s still owns %s after %v", m.Name, strings.Join(d.Left, ", "), wait),
		"it hands over as soon as another director is ready: lbcluster status says what they lack",
	}
}

// handedOver reports whether a director owns nothing, and what it had has owners.
func handedOver(t *fsm.Table, id fsm.MemberID, had []string) bool {
	for _, name := range had {
		if u, ok := t.UnitByName(name); ok && ownerName(t, u.ID) == "" {
			return false
		}
	}
	return len(owned(t, id)) == 0
}

func (d drained) text(had []string) string {
	text := fmt.Sprintf("%s is drained: it takes nothing until lbcluster director fit %s.\n", d.Director, d.Director)
	for _, name := range had {
		if to, ok := d.Went[name]; ok {
			text += fmt.Sprintf("  %s went to %s\n", name, to)
		}
	}
	return text
}

func (a *app) directorFitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "fit DIRECTOR",
		Short: "Let a drained director stand for virtual routers again",
		Long: `Let a drained director stand for virtual routers again. What is at home there
comes back as fail-back says: by itself, or with lbcluster router move --home.`,
		Example:           `  lbcluster director fit dir1`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDirector,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			t, err := a.client().Table(cmd.Context(), 0)
			if err != nil {
				return fmt.Errorf("ask for the table: %w", err)
			}
			m, err := findMember(t.Members, args[0])
			if err != nil {
				return err
			}
			no := false
			r, err := a.client().ChangeMember(cmd.Context(), m.ID, api.MemberRequest{Drained: &no})
			if err != nil {
				return fmt.Errorf("make %s fit: %w", m.Name, err)
			}
			d := drained{Director: m.Name, Left: append([]string{}, owned(t, m.ID)...), Revision: r.Revision}
			return a.print(d, func() string { return fitText(t, m) })
		}),
	}
}

// fitText says what becomes of the homes of a director that is fit again.
func fitText(t *fsm.Table, m fsm.Member) string {
	var away []string
	for _, u := range t.Units() {
		if t.Home(u.ID) == m.ID && t.Owners[u.ID] != m.ID {
			away = append(away, u.Name)
		}
	}
	text := m.Name + " is fit: it stands for virtual routers.\n"
	auto, after := t.Settings.FailsBack()
	switch {
	case len(away) == 0:
	case auto:
		text += fmt.Sprintf("%s: at home there, back once it has been well for %v.\n", strings.Join(away, ", "), after)
	default:
		text += fmt.Sprintf("%s: at home there, but fail-back is manual: lbcluster router move %s --home\n", strings.Join(away, ", "), away[0])
	}
	return text
}
