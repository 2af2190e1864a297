package lease

import (
	"fmt"
	"slices"

	"lbcluster/fsm"
)

// quorum is whose Grants make a lease: a majority in each of the sets, which
// are the configuration known to be committed and every later one that this
// member has appended (R14). It is frozen when a round or a probe starts.
type quorum struct {
	sets []fsm.VoterSet // committed first; never changed once in use
	// absent are voters that an operator declared dead: all others must grant
	// then, not a majority (see force.go). Empty: nobody.
	absent []fsm.MemberID
}

// joint makes the quorum of what is known of the configurations. What is
// appended counts only if it is later than what is committed.
func joint(committed fsm.VoterSet, appended []fsm.VoterSet) quorum {
	q := quorum{sets: []fsm.VoterSet{committed}}
	for _, a := range appended {
		if committed.Tag.Less(a.Tag) && len(a.Voters) > 0 {
			q.sets = append(q.sets, a)
		}
	}
	return q
}

// known reports whether there is a configuration at all.
func (q quorum) known() bool { return len(q.sets) > 0 && len(q.sets[0].Voters) > 0 }

// tag is the latest configuration's: a voter that has appended a later one
// refuses (R15).
func (q quorum) tag() (t fsm.ConfigTag) {
	for _, s := range q.sets {
		if t.Less(s.Tag) {
			t = s.Tag
		}
	}
	return t
}

// voters are all that are asked, each once.
func (q quorum) voters() (out []fsm.MemberID) {
	for _, s := range q.sets {
		for _, v := range s.Voters {
			if !slices.Contains(q.absent, v) {
				out = with(out, v)
			}
		}
	}
	return out
}

// won reports whether these voters, a set of ids, make a quorum.
func (q quorum) won(votes []fsm.MemberID) bool {
	return q.known() && !slices.ContainsFunc(q.sets, func(s fsm.VoterSet) bool {
		return len(both(without(s.Voters, q.absent), votes)) < q.needed(s)
	})
}

// lost reports whether no quorum is possible once these have refused.
func (q quorum) lost(denials []fsm.MemberID) bool {
	return slices.ContainsFunc(q.sets, func(s fsm.VoterSet) bool {
		return len(without(without(s.Voters, q.absent), denials)) < q.needed(s)
	})
}

// needed is how many of a set must grant: at least one whoever is absent.
func (q quorum) needed(s fsm.VoterSet) int {
	if len(q.absent) > 0 {
		return max(1, len(without(s.Voters, q.absent)))
	}
	return majority(len(s.Voters))
}

// wanted says how many Grants it takes, for people.
func (q quorum) wanted() string {
	if len(q.sets) == 1 {
		return fmt.Sprint(q.needed(q.sets[0]))
	}
	return fmt.Sprintf("a majority of each of %d configurations", len(q.sets))
}
