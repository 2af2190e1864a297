// Package handover decides whether the owner of a unit should hand it to
// another director, to whom, and why.
//
// The daemon's wiring calls [History.Decide] a few times a second for each unit
// and passes the answer to the lease, which carries it out as a planned
// handover. The decision is a pure machine over [Facts]: the table, what this
// member says of itself and what the others say of themselves.
//
// # The reasons, in order
//
//   - the owner is drained, leaves, or stands for the unit no more
//   - an operator moved the unit to another director
//   - the owner is cut off on the network of the unit's addresses, while others
//     hear each other there
//   - another director is fitter: its table is not behind where the owner's is, it
//     sees the real servers that are agreed up where the owner does not
//     (fsm.Table.Blind), or its trackers' score is higher
//   - the unit's home has been well for long enough, and fail-back is automatic
//
// What is planned (the first two and the last) waits for a director that has heard
// of the others' connections; what is urgent does not.
//
// # Why a VIP does not flap
//
// A unit goes only to a director that reported lately that it is ready, is not
// cut off and is not less fit than the owner: a fall of the own fitness must
// last for [Grace], and what counts of another's is the worst of the last
// [Dwell]. So of two members that know the same, at most one wants to hand over
// to the other, and if all are alike nobody moves. A new owner keeps a unit for
// Dwell, but for the first three reasons.
//
// With two members on a network, neither can tell which of them is cut off:
// nobody moves for that reason alone. The link's own state is fitness, which the
// lease knows of by itself.
//
// It never asks, sends or waits, and decides nothing about a unit that this
// member does not own.
package handover
