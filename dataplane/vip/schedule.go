package vip

import "time"

// first are the times of the first announcements after an address was added:
// quick repeats, because a switch or a neighbour may miss any one of them.
var first = []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// AnnounceEvery is the pace after the first announcements, for as long as the
// address is held: it mends a neighbour that learned something else.
const AnnounceEvery = 30 * time.Second

// AnnounceAt is when announcement n (0, 1, ...) is due, counted from the moment
// the address was added: 0, 0.1, 0.5, 1 and 2 s, then every AnnounceEvery.
func AnnounceAt(n int) time.Duration {
	if n < len(first) {
		return first[max(n, 0)]
	}
	return first[len(first)-1] + time.Duration(n-len(first)+1)*AnnounceEvery
}
