// Package notify tells operators' programs that the state of a virtual router,
// or of a sync group, has changed on this director. Scripts written for
// keepalived work as they are.
//
// The contract is keepalived's (man keepalived.conf(5), vrrp_sync_group): on a
// change to MASTER, BACKUP, FAULT or STOP the script of that state is run with
// its own arguments only, and after it the one of "notify" with four more:
// INSTANCE or GROUP, the name, the state, the priority. Where keepalived starts
// scripts and forgets them, so that they can overtake each other, here those of
// one router run one after the other, in the order of the changes; one that
// takes longer than [Limit] is killed. Routers do not wait for each other.
//
// States: MASTER while this director owns the router, FAULT while it cannot, else
// BACKUP, which is told at the start too; STOP when the daemon ends. A state is
// told on the director whose state it is and nowhere else.
//
// Real servers and pools have programs, too, and lines of all changes go into named
// pipes ([Pipes], [Servers]), in keepalived's formats. Whose turn it is to tell of
// servers, package tell decides.
//
// Called by: the daemon of a director. A script that fails is logged and not run
// again; nothing waits for scripts, least of all the lease.
package notify
