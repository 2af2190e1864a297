// Package probe holds the instruments that watch a lab's network from hosts of
// their own, and the arithmetic on what they saw.
//
// Three probers exist. The HTTP prober opens a new connection at a fixed pace
// and records who answered and how long it took. The ARP prober asks who has the
// VIP at a fixed pace and records every MAC that answers, and every gratuitous
// ARP for it. The stall recorder only measures how late its own ticks are. Each
// runs as a process of its own ("lab probe KIND", see Main) in one thread around
// epoll, because a prober that uses the machine up measures itself: under
// emulation, a hundred net.Dial a second turn outages of 300 ms into 1500.
//
// Every record carries the time on CLOCK_MONOTONIC, which all hosts of a lab
// share, and every tick its lateness, so that what happened while the machine
// itself stood still can be told apart. Records go to a file one by one; killing
// a prober loses nothing.
//
// The analysis (Gaps, Overlaps, Stalls and what builds on them) is pure: from
// records to numbers.
package probe
