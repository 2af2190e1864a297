// Package vip puts virtual addresses on interfaces, takes them off, sees what
// others do to them, and tells the neighbours where an address lives now.
//
// A [Host] adds an address and announces it only with a fence.Permit that
// covers it at that moment; it removes by exact prefix and interface, never by
// address alone. [Host.Watch] says that something about addresses or links
// changed, not what: the truth is [Host.Snapshot], read anew, so that lost
// netlink messages (an overrun) cost nothing. Two decisions are pure:
// [Choose], which interface a VIP belongs on, and [AnnounceAt], when to
// announce.
//
// An announcement is two gratuitous ARP packets, both broadcast from the
// interface's own MAC with the VIP as sender and target: a request, as
// keepalived sends it, and a reply, because some switches and hosts take only
// one of the two (RFC 5227, section 3, argues for the request). For IPv6 it is
// one unsolicited neighbour advertisement to all nodes, with the override flag
// (RFC 4861, section 7.2.6). IPv6 VIPs are added without duplicate address
// detection, since the lease has settled that already.
//
// [WhoHas] and [Host.Claims] ask the neighbours who has an address, without touching
// their tables.
//
// Called by: package dataplane. It imports nothing of this project but
// dataplane/fence, and never decides who owns an address.
package vip
