// Package dataplane makes this director's kernel match the replicated table
// and what the lease says: IPVS services, virtual addresses, announcements.
// Apart from the gate's deadline slots it is the only writer to the kernel.
//
//	table ──> Want ──> Diff(kernel, want) ──> operations ──> IPVS       (one loop)
//	lease ──> Acquired / Lost ──> one machine a router ──> address,
//	          advert, gratuitous ARP                                    (another)
//
// The lease is for a unit: a sync group with all its routers, or one router. Its
// Acquired and Lost go to the machines of all its routers; address, adverts and
// status work router by router; Lost is answered when the addresses of all are
// off. A unit that lacks a link or an interface here is unfit on this host alone
// (Config.OnRouterFit).
//
// The two loops of a [Plane] are apart so that a failover never waits for a
// long table. Both compare what is with what should be, again on each change,
// each netlink event and every few seconds; nothing is remembered as done.
// Drift made by others is repaired and counted. Every error is retried with a
// growing pause, shown in [Status], and never ends the process.
//
// Whose a service is: one whose key is in the table is ours, also if
// keepalived or ipvsadm made it, and is repaired in place without a flush; one
// that was ours and left the table is removed; all others are left alone and
// reported. A small record (Config.StateFile, kept in a folder like /run that
// a reboot empties) tells the next process what was ours. Starting, stopping,
// crashing and restarting therefore remove nothing.
//
// A router's order is fixed. Acquired (the gate is armed already): addresses,
// VRRP adverts, gratuitous ARP. Lost (the gate is closed already): addresses
// off by exact prefix, then the VRRP speaker is told. Whatever is sent needs
// the lease's fence.Permit at that moment. An address that somebody removes
// from the owner is put back at once; one that somebody else put anywhere is
// reported with the command that removes it, neither adopted nor deleted.
//
// Called by: cmd/lbcluster, which runs it, feeds it tables and connects it to
// the lease. It decides nothing about who owns what.
package dataplane
