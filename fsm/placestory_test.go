package fsm

import (
	"fmt"
	"net/netip"
	"strings"
)

// The language of the transcripts of placement:
//
//	cluster N          found a cluster of directors dir1 ... dirN
//	cluster +N         director dirN joins
//	homes              what each director is home of, and who is a spare
//	without dirA dirB  who would hold what without these directors, as counts

func (s *story) cluster(a args) string {
	var n int
	if more, ok := strings.CutPrefix(a.word(0), "+"); ok {
		fmt.Sscan(more, &n)
		return s.joins(n)
	}
	fmt.Sscan(a.word(0), &n)
	s.table = New()
	s.apply(s.command(parseArgs(s.t, "found lab dir1 10.0.0.11:7946"), nil))
	s.apply(s.command(parseArgs(s.t, "token a uses=100"), nil))
	for i := 2; i <= n; i++ {
		s.joins(i)
	}
	return fmt.Sprintf("%d directors\n", len(s.table.Members))
}

func (s *story) joins(n int) string {
	name := fmt.Sprint("dir", n)
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + n)}), 7946)
	s.apply(s.command(parseArgs(s.t, fmt.Sprintf("enrol %s director %s token=a request=%s-%d", name, addr, name, s.table.Revision)), nil))
	return s.apply(s.command(parseArgs(s.t, "member "+name+" state=present"), nil))
}

func (s *story) homes() string {
	t := s.table
	spare := map[MemberID]bool{}
	for _, id := range t.Spares() {
		spare[id] = true
	}
	var b strings.Builder
	for _, m := range t.Members {
		var names []string
		for _, u := range t.Units() {
			if t.Home(u.ID) != m.ID {
				continue
			}
			p, _ := t.Place(u.ID)
			name := u.Name
			if p.Pin != "" {
				name += " pinned"
			}
			if p.Moved != "" {
				name += fmt.Sprintf(" (moved to %s, arrived %v)", t.name(p.Moved), p.Arrived)
			}
			names = append(names, name)
		}
		line := fmt.Sprintf("%s: %s", m.Name, strings.Join(names, ", "))
		if spare[m.ID] {
			line += "spare"
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

func (s *story) without(names []string) string {
	down := map[MemberID]bool{}
	for _, name := range names {
		down[s.id(name)] = true
	}
	var b strings.Builder
	held := holdings(s.table, down)
	for _, m := range s.table.Members {
		if down[m.ID] || !m.presentDirector() {
			continue
		}
		fmt.Fprintf(&b, "%s %d: %s\n", m.Name, len(held[m.ID]), someOf(held[m.ID], 12))
	}
	return strings.ReplaceAll(b.String(), ": \n", "\n")
}

// holdings are the units that each director holds while some are down, as the
// lease will have it: the first of the order that is there.
func holdings(t *Table, down map[MemberID]bool) map[MemberID][]string {
	held := map[MemberID][]string{}
	for _, u := range t.Units() {
		for _, id := range t.Order(u.ID) {
			if !down[id] {
				held[id] = append(held[id], u.Name)
				break
			}
		}
	}
	return held
}
