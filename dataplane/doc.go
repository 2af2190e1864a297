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
// IPVS tells nobody of its changes. That a service went is seen within a twentieth
// of a second; meanwhile clients of a service that others have had their hands on (a
// keepalived that is stopped removes what it made) are held back rather than refused
// or reset: see [Holds] and [StayMark].
//
// A service of a firewall mark may say which packets it means; every director then
// marks them (package fwmark), with the same diligence. A kernel that cannot mark
// leaves this director behind its table, which the status says.
//
// Settings of IPVS as a whole (sysctls, timeouts, the daemons that synchronise
// connections) are tuned after the services: set, watched, and put back when the
// table wants them no more; the record has what they were. Both daemons run on every
// director, with one syncid, because what a host sends does not come back to it. A
// service that the kernel refuses beside the daemons goes before them. See
// [Plane.Syncing].
//
// A router's order is fixed. Acquired (the gate is armed already): addresses,
// VRRP adverts, gratuitous ARP. Lost (the gate is closed already): addresses
// off by exact prefix, then the VRRP speaker is told. Whatever is sent needs
// the lease's fence.Permit at that moment. An address that somebody removes
// from the owner is put back at once; one that somebody else put anywhere is
// reported with the command that removes it, neither adopted nor deleted.
//
// A restart. What an earlier process left on an interface is removed at the
// start, unless its gate is still open and this process took it over
// (Config.Inherited): then it stays until the lease says whose it is, a few
// seconds at most.
//
// # A director that is a real server, too
//
// Two directors that also serve would pass a client's packets to and fro: the
// owner balances one to the other, whose IPVS balances it again. So a frame for
// the VIP that comes from a member's hardware address gets a mark in the gate
// ([LocalMark]), and a hidden IPVS service for the mark has one destination,
// this host's own address. It is made, repaired and removed with the rest, but
// listed, counted and reported nowhere.
//
// For the kernel to take such packets in, the VIP must be on lo, and lo's
// addresses must be silent. This package does that itself on a director that
// the table names as a real server: the table says all that is needed, two
// boxes that were set up by hand and differ are a classic blackhole, and only
// who writes the gate's keys and the address can keep the order. On the way in:
// the gate holds the VIP, closed -> arp_ignore and arp_announce are set -> VIP
// on lo -> hidden service -> the gate lets members' packets in. On the way out
// the reverse. The gate alone would keep lo silent; arp_ignore comes first all
// the same, so that the host is still right when the gate is uninstalled. What
// an operator put on lo is as good and stays theirs; ours is in the record and
// goes when the table no longer wants it, and with the last one each sysctl that
// we raised returns to what it was, unless somebody set it since. A daemon that
// stops removes nothing of this: the local server goes on serving.
//
// Losing a lease takes the owner's address off its interface by exact prefix;
// the one on lo is another and stays.
//
// For each address that is owned here the plane asks the network every ten seconds who
// else answers for it ([Claimer]), and tells: it changes nothing.
//
// Called by: cmd/lbcluster, which runs it, feeds it tables and connects it to
// the lease. It decides nothing about who owns what.
package dataplane
