package fsm

import (
	"fmt"
	"strings"
)

// Members of several versions of lbcluster make one cluster while it is upgraded.
// A command that one of them cannot read would stop it, so every member says what
// it reads ([Member.Reads]), all propose what the slowest of them reads
// ([Table.Speaks]), and what needs more is refused until it is upgraded, too
// ([Command.Needs]). A program that reads less than the table has used already
// ([Table.Used]) does not get in.

// saidSince is the version of commands since which members say what they read.
const saidSince = 3

// reads is the newest version of commands that m's lbcluster reads.
func (m Member) reads() int {
	if m.Reads == 0 {
		return saidSince - 1
	}
	return m.Reads
}

// Speaks is the newest version of commands that every member reads, as far as this
// program knows it itself.
func (t *Table) Speaks() int {
	v := CommandVersion
	for _, m := range t.Members {
		v = min(v, m.reads())
	}
	return v
}

// Behind names the members that read less than this program writes; empty: none.
func (t *Table) Behind() string {
	var names []string
	for _, m := range t.Members {
		if m.reads() < CommandVersion {
			names = append(names, m.Name)
		}
	}
	return strings.Join(names, ", ")
}

// NotYet refuses a command that needs more than every member reads; nil: it does not.
func (t *Table) NotYet(c Command) error {
	if need := c.Needs(); need > t.Speaks() {
		return invalid("this has to wait: it needs version %d of the table's commands, and lbcluster on %s is older: upgrade it there first", need, t.Behind())
	}
	return nil
}

// Needs is the oldest version of commands that can say c. A member's word on what it
// reads needs no more than the first version that had it, whatever the others read.
func (c Command) Needs() int {
	if c.isV3() {
		return 3
	}
	return 2
}

func (c Command) isV3() bool {
	switch {
	case c.Ramp != nil, c.Confirm != nil, c.Undo != nil, c.Tell != nil, c.Reinstate != nil:
		return true
	case c.AddToken != nil:
		return c.AddToken.Role == Reader
	case c.Enrol != nil:
		return c.Enrol.Role == Reader
	case c.Settings != nil:
		return c.Settings.Health != "" || c.Settings.Scripts != "" || c.Settings.Webhooks != nil || c.Settings.FlapDamping != "" || c.Settings.SnapshotEvery != nil || c.Settings.SnapshotsKept != nil
	case c.Override != nil:
		return c.Override.Within != 0 || c.Override.Over || !c.Override.Since.IsZero()
	case c.Apply != nil:
		return c.Apply.Why != "" || len(c.Apply.Homes) > 0 || c.Apply.ConfirmWithin != 0 || c.Apply.Config.v3() != ""
	}
	return false
}

// saysReads reports whether c is a member's word on what it reads, which does not
// wait for the others.
func (c Command) saysReads() bool { return c.Member != nil && c.Member.Reads != 0 }

// MayWrite refuses a command of a version that not every member reads: whoever made
// it did not know.
func (t *Table) MayWrite(c Command) error {
	if t.Cluster == "" || c.Version <= t.Speaks() || c.saysReads() {
		return nil
	}
	return invalid("this has version %d of the table's commands, and lbcluster on %s is older", c.Version, t.Behind())
}

// mayRead refuses a program that would not understand what is in the table.
func (e *edit) mayRead(name string, reads int) error {
	if reads < e.Used {
		return fmt.Errorf("%w: lbcluster on %s is too old: it reads version %d of the table's commands, and the cluster uses %d: upgrade it first",
			ErrInvalid, name, reads, e.Used)
	}
	return nil
}
