package fsm

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// New is the empty table: what a member has before its log begins. The first
// command must be Found.
func New() *Table {
	t := &Table{NextMember: 1, NextRouter: 1}
	t.complete()
	return t
}

// complete gives t empty lists instead of nil, so that equal tables are equal
// in memory and in JSON, and the index.
func (t *Table) complete() {
	orEmpty(&t.Members)
	orEmpty(&t.Sets)
	orEmpty(&t.Routers)
	orEmpty(&t.Services)
	orEmpty(&t.Overrides)
	orEmpty(&t.Tokens)
	orEmpty(&t.Events)
	orEmptyMap(&t.Votes)
	orEmptyMap(&t.Health)
	orEmptyMap(&t.Owners)
	t.idx = t.index()
	if len(t.Places) == 0 && t.scratch == nil {
		t.scratch = t.placing(nil, false).run()
	}
}

func orEmpty[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}

func orEmptyMap[K comparable, V any](m *map[K]V) {
	if *m == nil {
		*m = map[K]V{}
	}
}

// Apply makes the table that follows t when c is done. It is deterministic and
// never panics. A command that fails or changes nothing returns t itself; one
// that changes something raises the revision by one and adds to Events. The
// error wraps ErrConflict, ErrInvalid, ErrNotFound, ErrDenied or
// ErrUnknownCommand.
func (t *Table) Apply(c Command) (*Table, Result, error) {
	e, err := t.edit(c)
	if err == nil {
		err = e.run()
	}
	if err == nil && (len(e.news) > 0 || e.recount()) {
		e.place()
	}
	if err == nil && len(e.news) > 0 {
		e.pools()
	}
	if err == nil && (len(e.news) > 0 || e.quiet) {
		e.settleNotices()
	}
	if err != nil {
		return t, Result{Revision: t.Revision}, err
	}
	if len(e.news) == 0 && !e.quiet {
		return t, Result{Revision: t.Revision, Member: e.member}, nil
	}
	next := e.finish()
	return next, Result{Revision: next.Revision, Member: e.member, Changed: true}, nil
}

// edit is a table in the making. Its Table starts as a shallow copy: a list or
// map must be copied before it is changed, for it is shared with the old table.
type edit struct {
	Table
	old    *Table
	cmd    Command
	rev    Revision // that the new table will have
	news   []Event  // none: nothing was changed, but
	quiet  bool     // something was that is no event
	fresh  []Notice // without their numbers yet
	member MemberID // for the Result
}

func (t *Table) edit(c Command) (*edit, error) {
	c, err := c.normal()
	if err != nil {
		return nil, err
	}
	if err := c.readable(); err != nil {
		return nil, err
	}
	if c.IfRevision != 0 && c.IfRevision != t.Revision {
		return nil, fmt.Errorf("%w: the table is at revision %d, not %d: look at what changed and try again",
			ErrConflict, t.Revision, c.IfRevision)
	}
	if t.Cluster == "" && c.Found == nil {
		return nil, invalid("there is no cluster yet: found one first (lbcluster init)")
	}
	e := &edit{Table: *t, old: t, cmd: c, rev: t.Revision + 1}
	e.complete()
	e.units = nil // routers and groups may change
	return e, nil
}

// run does the one body of the command; readable has made sure of it.
func (e *edit) run() error {
	switch c := e.cmd; {
	case c.Found != nil:
		return e.found(*c.Found)
	case c.Enrol != nil:
		return e.enrol(*c.Enrol)
	case c.Member != nil:
		return e.setMember(*c.Member)
	case c.Remove != nil:
		return e.remove(c.Remove.ID)
	case c.AddToken != nil:
		return e.addToken(*c.AddToken)
	case c.Apply != nil:
		return e.applySet(*c.Apply)
	case c.Votes != nil:
		return e.castVotes(*c.Votes)
	case c.Override != nil:
		return e.setOverride(*c.Override)
	case c.Settings != nil:
		return e.settings(*c.Settings)
	case c.Ownership != nil:
		return e.ownership(*c.Ownership)
	case c.Move != nil:
		return e.move(*c.Move)
	case c.Confirm != nil:
		return e.confirm(*c.Confirm)
	case c.Undo != nil:
		return e.undo(*c.Undo)
	case c.Ramp != nil:
		return e.ramp(*c.Ramp)
	case c.Tell != nil:
		return e.tell(*c.Tell)
	case c.Reinstate != nil:
		return e.reinstate(*c.Reinstate)
	}
	return fmt.Errorf("%w: it has no body", ErrUnknownCommand)
}

// event tells what was changed. Every change tells at least one, unless it is quiet:
// a command without events is one that changed nothing.
func (e *edit) event(kind, format string, args ...any) {
	e.news = append(e.news, Event{
		Revision: e.rev, At: e.cmd.At, By: e.cmd.By, Kind: kind, Text: fmt.Sprintf(format, args...),
	})
}

func (e *edit) finish() *Table {
	next := e.Table
	next.Revision = e.rev
	if !e.cmd.saysReads() {
		next.Used = max(next.Used, e.cmd.Version)
	}
	// No command tells more than a few dozen (see eventsPerCommand).
	tooMany := min(max(0, len(next.Events)+len(e.news)-EventsKept), len(next.Events))
	next.Events = slices.Concat(next.Events[tooMany:], e.news)
	next.scratch = nil
	next.complete()
	if next.units = e.old.units; !same(next.Routers, e.old.Routers) || !same(next.Groups, e.old.Groups) || next.units == nil {
		next.indexUnits()
	}
	return &next
}

// same reports whether two lists are one in memory: a list that changes is copied first.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// normal is c as the log would bring it back: UTC, no monotonic clock, clean
// text, so that applying a literal and replaying its encoding are the same.
func (c Command) normal() (Command, error) {
	if c.Version == 0 {
		c.Version = CommandVersion
	}
	c.By = clean(c.By, maxBy)
	if !normalTime(&c.At) {
		return c, invalid("the command's time is outside the years 1 to 9999")
	}
	if c.AddToken != nil {
		token := *c.AddToken
		if !normalTime(&token.Expires) {
			return c, invalid("the token's expiry is outside the years 1 to 9999")
		}
		c.AddToken = &token
	}
	if c.Override != nil {
		o := *c.Override
		if !normalTime(&o.Since) && !o.Since.IsZero() {
			return c, invalid("the drain's beginning is outside the years 1 to 9999")
		}
		c.Override = &o
	}
	return c, nil
}

// normalTime brings t to UTC; false for a year that JSON can't write.
func normalTime(t *time.Time) bool {
	*t = t.Round(0).UTC()
	return t.Year() >= 1 && t.Year() <= 9999
}

// readable refuses a command of a newer version, and one without exactly one body.
func (c Command) readable() error {
	if c.Version < 1 || c.Version > CommandVersion {
		return fmt.Errorf("%w: it has version %d, this program reads up to %d: upgrade lbcluster on this machine",
			ErrUnknownCommand, c.Version, CommandVersion)
	}
	bodies := 0
	for _, there := range []bool{
		c.Found != nil, c.Enrol != nil, c.Member != nil, c.Remove != nil, c.AddToken != nil,
		c.Apply != nil, c.Votes != nil, c.Override != nil, c.Settings != nil, c.Ownership != nil,
		c.Move != nil, c.Confirm != nil, c.Undo != nil, c.Ramp != nil, c.Tell != nil, c.Reinstate != nil,
	} {
		if there {
			bodies++
		}
	}
	if bodies != 1 {
		return fmt.Errorf("%w: it has %d bodies instead of one", ErrUnknownCommand, bodies)
	}
	return nil
}

// cloneMap copies m, with room for one more; never nil.
func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m)+1)
	maps.Copy(c, m)
	return c
}
