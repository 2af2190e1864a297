package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// moved is what router move did.
type moved struct {
	Unit     string       `json:"unit"`
	From     string       `json:"from,omitempty"` // who had it; empty: nobody
	To       string       `json:"to,omitempty"`   // empty: only the pin changed
	Done     bool         `json:"done"`
	TookMS   int64        `json:"took_ms,omitempty"`
	Revision fsm.Revision `json:"revision"`
	Why      string       `json:"why,omitempty"` // what it waits for
}

func (a *app) routerMoveCommand() *cobra.Command {
	var home, pin, unpin bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "move ROUTER [DIRECTOR]",
		Short: "Move a virtual router, with its sync group, to a director",
		Long: `Hand a virtual router over to a director that is ready to take it, without a
gap, and wait until it has it. Routers of one vrrp_sync_group move together.

The router's home stays what it was, and it goes back there as fail-back says,
or with --home. --pin makes the director its home for good.`,
		Example: `  lbcluster router move VI_1 dir2
  lbcluster router move VI_1 --home
  lbcluster router move VI_1 dir2 --pin
  lbcluster router move VI_1 --unpin`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeMove,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			t, err := a.client().Table(cmd.Context(), 0)
			if err != nil {
				return fmt.Errorf("ask for the table: %w", err)
			}
			u, ok := t.UnitByName(args[0])
			if !ok {
				return &hinted{fmt.Errorf("%w: no virtual router or sync group %q", fsm.ErrNotFound, args[0]), "lbcluster router list"}
			}
			req := fsm.Move{Unit: u.ID, Pin: pin, Unpin: unpin}
			switch {
			case len(args) == 2 && home:
				return fmt.Errorf("%w: give a director or --home, not both", fsm.ErrInvalid)
			case len(args) == 2:
				m, err := findMember(t.Members, args[1])
				if err != nil {
					return err
				}
				req.To = m.ID
			case home:
				req.To = t.Home(u.ID)
				if unpin { // the home that it will have is not known yet
					req.To = ""
				}
			case !pin && !unpin:
				return fmt.Errorf("%w: say where to: a director, or --home", fsm.ErrInvalid)
			}
			return a.move(cmd.Context(), t, u, req, wait)
		}),
	}
	cmd.Flags().BoolVar(&home, "home", false, "back to its home")
	cmd.Flags().BoolVar(&pin, "pin", false, "make the director (without one: the present home) its home for good")
	cmd.Flags().BoolVar(&unpin, "unpin", false, "let the cluster choose its home again")
	cmd.MarkFlagsMutuallyExclusive("pin", "unpin")
	waitFlag(cmd, &wait, 10*time.Second)
	return cmd
}

func waitFlag(cmd *cobra.Command, wait *time.Duration, otherwise time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", otherwise, "how long to wait until it has happened; 0: not at all")
}

// completeMove offers units, then directors.
func (a *app) completeMove(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var words []string
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) == 1 {
		return a.completeDirector(cmd, nil, "")
	}
	if t, err := a.client().Table(cmd.Context(), 0); err == nil {
		for _, u := range t.Units() {
			words = append(words, u.Name)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeDirector offers the names of the directors for the first argument.
func (a *app) completeDirector(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var words []string
	if members, err := a.client().Members(cmd.Context()); err == nil && len(args) == 0 {
		for _, m := range members {
			if m.Role == fsm.Director {
				words = append(words, m.Name)
			}
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// move gives the order and follows it.
func (a *app) move(ctx context.Context, t *fsm.Table, u fsm.Unit, req fsm.Move, wait time.Duration) error {
	began := time.Now()
	r, err := a.client().Move(ctx, req)
	if errors.Is(err, api.ErrNoQuorum) && ctx.Err() == nil {
		// The leader may have been lost while it was asked: the same order given
		// twice is one order.
		r, err = a.client().Move(ctx, req)
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", u.Name, err)
	}
	done := moved{Unit: u.Name, From: ownerName(t, u.ID), Revision: r.Revision}
	if req.To == "" && !req.Pin {
		done.Done = true
		return a.print(done, func() string { return u.Name + " is pinned no more: the cluster chooses its home.\n" })
	}
	to := req.To
	if to == "" {
		to = t.Home(u.ID)
	}
	done.To = memberName(t, to)
	if wait > 0 {
		_, done.Done, err = a.await(ctx, wait, func(t *fsm.Table) bool { return t.Owners[u.ID] == to })
		if err != nil {
			return err
		}
	}
	done.TookMS = time.Since(began).Milliseconds()
	if !done.Done && wait > 0 {
		done.Why = a.whyStill(ctx, u, to)
	}
	if err := a.print(done, func() string { return done.text(wait) }); err != nil || done.Done || wait == 0 {
		return err
	}
	return &hinted{
		fmt.Errorf("%s is not at %s after %v", u.Name, done.To, wait),
		fmt.Sprintf("the order stands; lbcluster why %s tells what happens; lbcluster router move %s --home takes it back", u.Name, u.Name),
	}
}

func (m moved) text(wait time.Duration) string {
	from := or(m.From, "nobody")
	switch {
	case m.Done && m.From == m.To:
		return fmt.Sprintf("%s is at %s already.\n", m.Unit, m.To)
	case m.Done:
		return fmt.Sprintf("%s moved from %s to %s; %d ms after the order it was there.\n", m.Unit, from, m.To, m.TookMS)
	case wait == 0:
		return fmt.Sprintf("%s is to go from %s to %s.\n", m.Unit, from, m.To)
	}
	return fmt.Sprintf("%s is still at %s: %s.\n", m.Unit, from, or(m.Why, "nobody says why"))
}

// whyStill asks the members why a unit is not where it should be.
func (a *app) whyStill(ctx context.Context, u fsm.Unit, to fsm.MemberID) string {
	r, err := a.client().Status(ctx)
	if err != nil {
		return err.Error()
	}
	for _, v := range r.Routers {
		if v.Unit != u.ID {
			continue
		}
		var parts []string
		if v.Away != "" {
			parts = append(parts, v.Away)
		}
		for _, s := range v.StandBy {
			if s.Member == to {
				parts = append(parts, s.Name+": "+s.Why)
			}
		}
		return strings.Join(parts, "; ")
	}
	return ""
}

// await follows the table until is is true of it, for a while; it returns the
// newest table and whether it was.
func (a *app) await(ctx context.Context, wait time.Duration, is func(*fsm.Table) bool) (*fsm.Table, bool, error) {
	end := time.Now().Add(wait)
	for {
		t, err := a.client().Table(ctx, 0)
		if err != nil {
			return nil, false, fmt.Errorf("ask for the table: %w", err)
		}
		left := time.Until(end)
		if is(t) || left <= 0 {
			return t, is(t), nil
		}
		// Any change of the table has an event.
		if _, err := a.client().Events(ctx, api.EventsRequest{After: t.Revision, Wait: left}); err != nil {
			return nil, false, fmt.Errorf("wait for news: %w", err)
		}
	}
}

func memberName(t *fsm.Table, id fsm.MemberID) string {
	if m, ok := t.Member(id); ok {
		return m.Name
	}
	return string(id)
}

// ownerName is who was last reported to own a unit; empty: nobody.
func ownerName(t *fsm.Table, unit uint64) string {
	if id, ok := t.Owners[unit]; ok {
		return memberName(t, id)
	}
	return ""
}

// owned are the names of the units that a member is reported to own.
func owned(t *fsm.Table, id fsm.MemberID) []string {
	var names []string
	for _, u := range t.Units() {
		if owner, ok := t.Owners[u.ID]; ok && owner == id {
			names = append(names, u.Name)
		}
	}
	slices.Sort(names)
	return names
}
