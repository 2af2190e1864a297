package fsm

import (
	"fmt"
	"strings"
)

// summary says how many changes there are and names the first: all that an event
// tells of an apply, which may have ten thousand.
type summary struct {
	total, added, changed, deleted int
	first                          []string
}

// changesTold is how many changes a summary names.
const changesTold = 5

// summarise counts what [Table.Diff] lists. cfg is canonical.
func (t *Table) summarise(set string, cfg Config) summary {
	var s summary
	d := differ{was: t.Config(set), is: cfg, hands: byHand{}, sum: &s}
	d.all()
	return s
}

// Deletions is how many of the changes that [Table.Diff] lists delete something.
func (t *Table) Deletions(set string, cfg Config) int {
	return t.summarise(set, cfg.canonical(set)).deleted
}

// count takes in one change; its path is asked for only if it is told.
func (s *summary) count(op string, path func() string) {
	s.total++
	switch op {
	case OpAdd:
		s.added++
	case OpChange:
		s.changed++
	case OpDelete:
		s.deleted++
	}
	if len(s.first) < changesTold {
		s.first = append(s.first, op+" "+path())
	}
}

// String is "1 added, 0 changed, 0 deleted: add virtual_router VI_1".
func (s summary) String() string {
	names := strings.Join(s.first, ", ")
	if more := s.total - len(s.first); more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%d added, %d changed, %d deleted: %s", s.added, s.changed, s.deleted, names)
}

// opOf is what happens to an element that is on one side only.
func opOf(had bool) string {
	if had {
		return OpDelete
	}
	return OpAdd
}
