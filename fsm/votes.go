package fsm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// eventsPerCommand bounds how many health changes (or dropped overrides) of one
// command get an event each; the rest are counted in one event, so that a
// storm leaves older history.
const eventsPerCommand = 20

func (e *edit) castVotes(v CastVotes) error {
	m, ok := e.Member(v.Member)
	if !ok {
		return invalid("votes of %s: it is no member", v.Member)
	}
	if !m.presentDirector() {
		return invalid("votes of %s: only a present director votes, it is a %s %s", m.Name, m.State, m.Role)
	}
	changed := e.changedVotes(v)
	if len(changed) == 0 {
		return nil
	}
	targets := slices.Sorted(maps.Keys(changed))
	e.Votes = cloneMap(e.Votes)
	for _, target := range targets {
		votes := cloneMap(e.Votes[target])
		votes[m.ID] = changed[target]
		e.Votes[target] = votes
	}
	e.tellVotes(m, targets, changed)
	e.judge(targets)
	return nil
}

// changedVotes are v's opinions on current targets that differ from the table.
func (e *edit) changedVotes(v CastVotes) map[Target]Vote {
	last := make(map[Target]Vote, len(v.Opinions))
	for _, o := range v.Opinions {
		if e.idx.has(o.Target) {
			vote := o.clean()
			if !e.idx.targets[e.idx.byTarget[o.Target]].dynamic() {
				vote.Weighs = Weighing{}
			}
			last[o.Target] = vote
		}
	}
	return keep(last, func(target Target, vote Vote) bool {
		old, had := e.Votes[target][v.Member]
		return !had || old != vote
	})
}

// clean is v as it may stand in the table.
func (v Vote) clean() Vote {
	v.Detail = clean(v.Detail, maxDetail)
	if !v.Up || !v.Weighs.valid() {
		v.Weighs = Weighing{}
	}
	return v
}

func (e *edit) tellVotes(m Member, targets []Target, votes map[Target]Vote) {
	texts := make([]string, len(targets))
	for i, target := range targets {
		texts[i] = e.server(target) + " " + votes[target].String()
	}
	e.event("vote", "%s finds %s", m.Name, someOf(texts, 5))
}

// String is "up" or "down (connection refused)".
func (v Vote) String() string {
	s := "down"
	if v.Up {
		s = "up"
	}
	if v.Detail != "" {
		s += " (" + v.Detail + ")"
	}
	if v.Weighs != (Weighing{}) {
		s += " (" + v.Weighs.String() + ")"
	}
	return s
}

// server names the real server of a current target.
func (e *edit) server(target Target) string {
	return e.idx.targets[e.idx.byTarget[target]].Server.String()
}

// dropVotes forgets all that a member said.
func (e *edit) dropVotes(id MemberID) {
	votes := make(map[Target]map[MemberID]Vote, len(e.Votes))
	for target, all := range e.Votes {
		if _, ok := all[id]; ok {
			all = keep(all, func(voter MemberID, _ Vote) bool { return voter != id })
		}
		if len(all) > 0 {
			votes[target] = all
		}
	}
	e.Votes = votes
}

// tally is what those who may vote say of one target.
type tally struct {
	up, down []string   // names of the members, by id
	details  []string   // of the downs, each once
	weighs   []Weighing // of the ups, each
}

// tally counts the votes of the voters on a target.
func (t *Table) tally(target Target, voters []Member) tally {
	var sum tally
	votes := t.Votes[target]
	for _, m := range voters {
		vote, ok := votes[m.ID]
		switch {
		case !ok:
		case vote.Up:
			sum.up = append(sum.up, m.Name)
			sum.weighs = append(sum.weighs, vote.Weighs)
		default:
			sum.down = append(sum.down, m.Name)
			if vote.Detail != "" && !slices.Contains(sum.details, vote.Detail) {
				sum.details = append(sum.details, vote.Detail)
			}
		}
	}
	return sum
}

// voters are the members whose votes count: present directors, not silent.
func (t *Table) voters() []Member {
	return slices.DeleteFunc(slices.Clone(t.Members), func(m Member) bool {
		return !m.presentDirector() || m.Silent
	})
}

// agreed is the state that follows: see HealthPolicy.
func (s tally) agreed(wasDown bool, policy HealthPolicy) (down bool) {
	switch {
	case policy == HealthAnyDown && len(s.down) > 0, len(s.down) > len(s.up):
		return true
	case len(s.up) > len(s.down):
		return false
	}
	return wasDown
}

// says is "dir1, dir2 of 3 say so (connection refused)".
func (s tally) says(down bool) string {
	names, detail := s.up, ""
	if down {
		names = s.down
		if d := s.detail(); d != "" {
			detail = " (" + d + ")"
		}
	}
	verb := "say"
	if len(names) == 1 {
		verb = "says"
	}
	return fmt.Sprintf("%s of %d %s so%s", strings.Join(names, ", "), len(s.up)+len(s.down), verb, detail)
}

func (s tally) detail() string { return clean(strings.Join(s.details, "; "), maxDetail) }

// judgeAll judges every target that has votes: after a change of who may vote.
func (e *edit) judgeAll() { e.judge(slices.Sorted(maps.Keys(e.Votes))) }

// judge brings agreed health in line with the votes on targets.
func (e *edit) judge(targets []Target) {
	voters := e.voters()
	var turned []Target
	slow := e.SlowStarts()
	var sentences, reweighed []string
	fresh := map[Target]Health{}
	for _, target := range targets {
		sum := e.tally(target, voters)
		was := e.Health[target].Down
		down := sum.agreed(was, e.Settings.Health)
		weighs := Weighing{}
		if !down {
			weighs = sum.weighed(e.Health[target].Weighs)
		}
		if down == was {
			if old := e.Health[target].Weighs; weighs != old {
				h := e.Health[target]
				h.Weighs, h.Since = weighs, cmp.Or(h.Since, e.rev)
				fresh[target] = h
				reweighed = append(reweighed, fmt.Sprintf("%s %s (was %s)", e.server(target), orFile(weighs), orFile(old)))
			}
			continue
		}
		h := Health{Down: down, Since: e.rev, Weighs: weighs}
		word := "up"
		if down {
			word, h.Detail = "down", sum.detail()
		} else if slow && e.SlowStart(target) > 0 {
			h.Step = 1
		}
		fresh[target] = h
		turned = append(turned, target)
		sentences = append(sentences, fmt.Sprintf("real server %s is %s: %s", e.server(target), word, sum.says(down)))
	}
	if len(fresh) == 0 {
		return
	}
	e.Health = cloneMap(e.Health)
	maps.Copy(e.Health, fresh)
	e.tellHealth(turned, sentences)
	texts := make(map[Target]string, len(turned))
	for i, target := range turned {
		texts[target] = sentences[i]
	}
	e.noticeServers(texts)
	if len(reweighed) > 0 {
		e.event("health", "weights by checks: %s", someOf(reweighed, 5))
	}
}

func (e *edit) tellHealth(turned []Target, sentences []string) {
	for i := range min(len(turned), eventsPerCommand) {
		e.event("health", "%s", sentences[i])
	}
	downs, ups := 0, 0
	for _, target := range turned[min(len(turned), eventsPerCommand):] {
		if e.Health[target].Down {
			downs++
		} else {
			ups++
		}
	}
	if downs+ups > 0 {
		e.event("health", "and of further real servers %d are down and %d up", downs, ups)
	}
}
