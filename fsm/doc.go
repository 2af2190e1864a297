// Package fsm is the replicated table of lbcluster and the commands that
// change it: the vocabulary that every other package speaks.
//
// A [Table] is an immutable value. [Table.Apply] takes one [Command] and
// returns the next table, or the same table and an error that names what is
// wrong; it is deterministic and total, so that every member that has read the
// same log has the same table. [Table.Check] states the invariants.
//
// Who should hold what is part of the table: a [Unit] (a sync group, or a router
// in none) has a [Place], which Apply computes anew whenever members, units,
// pins or the number of spares change (see placing). Owners are only reported:
// leases decide. What Apply does with a command of some [CommandVersion] never
// changes: members that read it before an upgrade and after must agree, so a
// change of the placement, or of what is valid, needs a new version.
//
// Called by: package cluster (as Raft's state machine), the API, the checks,
// the data plane and the CLI, which all read tables and make commands.
//
// It never does I/O, reads no clock, starts no goroutine and draws no random
// number; times and identities come in with the command. It imports nothing
// but the standard library.
package fsm
