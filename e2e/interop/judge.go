package interop

import (
	"fmt"
	"time"
)

// Slack is what an emulated machine may be late by.
const Slack = 4 * time.Second

// longestBoth is how long the two may have an address both when the one must
// yield to the other: until it hears an advert, which it answers by giving up;
// one may be lost on a busy machine.
const longestBoth = 2 * time.Second

// longestTwice is how long two directors may have an address configured: the one
// that hands it over takes it off when the other has it. Its gate is shut by then;
// who answers is the matter of other tests.
const longestTwice = time.Second

// patience is how long the holders may take to be right: a Master_Down_Interval,
// a lease before it (the owner's must end), the start of a daemon and its voter.
func patience(e Event) time.Duration {
	const down, lease = 4 * time.Second, time.Second
	switch e {
	case ClusterStarts, DirectorReturns:
		return 4*down + Slack
	}
	return down + lease + Slack
}

// Judge says what is wrong with what was seen of a cell in a step, before which
// it was as before says.
func Judge(before Pair, s Step, seen Seen) (wrong []string) {
	after := before.After(s.Event)
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if seen.Holders != after.Holders {
		say("held by %v, two keepalived would have it held by %v", seen.Holders, after.Holders)
	}
	if limit := patience(s.Event); seen.After > limit {
		say("that took %v, at most %v are expected", ms(seen.After), limit)
	}
	if seen.Twice > longestTwice {
		say("two directors had it for %v", ms(seen.Twice))
	}
	if !(before.Cluster && before.Peer) && !(after.Cluster && after.Peer) && seen.Both > longestBoth {
		say("cluster and peer had it both for %v", ms(seen.Both))
	}
	if before.Holders == (Holders{Cluster: true}) && before.Holders == after.Holders && seen.Taken > 0 {
		say("the peer took it %d times in between", seen.Taken)
	}
	return wrong
}
