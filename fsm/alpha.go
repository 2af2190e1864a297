package fsm

import "maps"

// unchecked is the detail of a target that nobody has found up yet.
const unchecked = "alpha: not found up yet"

// doubtNew has targets that are new in the table, and say Alpha, begin as down.
func (e *edit) doubtNew() {
	doubted := map[Target]Health{}
	for _, info := range e.idx.targets {
		if info.alpha() && !e.old.index().has(info.Target) {
			doubted[info.Target] = Health{Down: true, Since: e.rev, Detail: unchecked}
		}
	}
	if len(doubted) == 0 {
		return
	}
	e.Health = cloneMap(e.Health)
	maps.Copy(e.Health, doubted)
}

func (i TargetInfo) alpha() bool {
	for _, c := range i.Checks {
		if c.Alpha {
			return true
		}
	}
	return false
}
