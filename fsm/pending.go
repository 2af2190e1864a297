package fsm

import (
	"fmt"
	"slices"
	"time"
)

// Pending is a change that is taken back unless somebody confirms it. It is in
// the table, so that whoever leads then can do it: the member, or the operator's
// connection, that made the change may be what it cut off.
type Pending struct {
	Set      string    `json:"set"`
	Revision Revision  `json:"revision"` // that the change made
	At       time.Time `json:"at"`       // the proposer's clock
	By       string    `json:"by"`
	Within   Duration  `json:"within"`
	Before   Config    `json:"before"` // what the set was; empty: it was not there
	// Overrides are those that ended with what the change deleted; they come
	// back with it.
	Overrides []Override `json:"overrides,omitempty"`
}

// Until is when the change is taken back, by the clock of who made it.
func (p Pending) Until() time.Time { return p.At.Add(p.Within.D()) }

// How long a change can wait for its confirmation.
const (
	leastConfirm = Duration(10 * time.Second)
	mostConfirm  = Duration(24 * time.Hour)
)

// Unconfirmed says why nothing can be applied now; nil: something can.
func (t *Table) Unconfirmed() error {
	p := t.Pending
	if p == nil {
		return nil
	}
	return fmt.Errorf("%w: revision %d (set %s, by %s) waits until %s UTC to be confirmed: lbcluster confirm keeps it, lbcluster rollback takes it back",
		ErrConflict, p.Revision, p.Set, p.By, p.Until().Format(time.TimeOnly))
}

// await makes the change that was just made one that must be confirmed.
func (e *edit) await(a ApplySet) {
	if a.ConfirmWithin == 0 {
		return
	}
	before := e.old.Config(a.Set).canonical(a.Set)
	orEmpty(&before.Routers)
	orEmpty(&before.Services)
	p := &Pending{Set: a.Set, Revision: e.rev, At: e.cmd.At, By: e.cmd.By, Within: a.ConfirmWithin, Before: before}
	for _, o := range e.old.Overrides {
		if !slices.ContainsFunc(e.Overrides, func(k Override) bool { return compareOverrides(k, o) == 0 }) {
			p.Overrides = append(p.Overrides, o)
		}
	}
	e.Pending = p
	e.event("confirm", "revision %d of set %s is undone unless it is confirmed within %v", e.rev, a.Set, a.ConfirmWithin)
}

// waiting is the pending change that a command means.
func (e *edit) waiting(rev Revision) (Pending, error) {
	switch p := e.Pending; {
	case p == nil:
		return Pending{}, notFound("no change waits for a confirmation (it was confirmed or undone already)")
	case p.Revision != rev:
		return Pending{}, fmt.Errorf("%w: the change that waits for a confirmation is revision %d, not %d", ErrConflict, p.Revision, rev)
	default:
		return *p, nil
	}
}

func (e *edit) confirm(c Confirm) error {
	p, err := e.waiting(c.Revision)
	if err != nil {
		return err
	}
	e.Pending = nil
	e.event("confirm", "revision %d of set %s is confirmed", p.Revision, p.Set)
	return nil
}

// undo takes the change back. What cannot be taken back any more (a machine has
// joined at an address that was a VIP) stays: trying for ever would help nobody.
func (e *edit) undo(u Undo) error {
	p, err := e.waiting(u.Revision)
	if err != nil {
		return err
	}
	e.Pending = nil
	if problems := e.old.ValidateSet(p.Set, p.Before); len(problems) > 0 {
		e.event("confirm", "revision %d of set %s was not confirmed, but cannot be undone and stays: %s", p.Revision, p.Set, problems[0])
		return nil
	}
	why := fmt.Sprintf("revision %d is undone", p.Revision)
	if u.Late {
		why = fmt.Sprintf("revision %d was not confirmed within %v and is undone", p.Revision, p.Within)
	}
	before := p.Before.canonical(p.Set)
	e.replace(p.Set, before, e.old.summarise(p.Set, before), why)
	e.bringBack(p.Overrides)
	return nil
}

// bringBack puts back what was set by hand of servers that are there again.
func (e *edit) bringBack(overrides []Override) {
	if len(overrides) == 0 {
		return
	}
	servers := allServers(e.Services)
	all := slices.Clone(e.Overrides)
	for _, o := range overrides {
		again := servers[overrideKey{o.Service, o.Server}]
		since := slices.ContainsFunc(all, func(k Override) bool { return compareOverrides(k, o) == 0 })
		if again && !since {
			all = append(all, o)
			e.event("override", "%s: %s again (%s)", o.where(), o, o.By)
		}
	}
	slices.SortFunc(all, compareOverrides)
	e.Overrides = all
}

// configures reports whether c replaces the content of sets.
func (c Command) configures() bool { return c.Apply != nil || c.Undo != nil || c.Reinstate != nil }
