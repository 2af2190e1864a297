// Package fwmark has the kernel put firewall marks on packets: it keeps one
// nftables table, "inet lbcluster", with one chain of one rule a kind of packet.
//
// A [Handle] compares what stands with what is wanted and replaces the whole
// table in one transaction when they differ, so that at no moment half of the
// rules is there; when nothing is wanted the table goes. A mark means something
// to IPVS alone: rules that stay behind while no daemon runs forward to the same
// services as before, and mark nothing that was not marked. The chain sees
// packets before they are routed (priority mangle) and leaves those alone that
// have the mark of another maker, which it is told.
//
// A Handle of [NewHold] keeps another table in the same way, "inet lbcluster_hold".
// It bridges the moment in which another program has removed a service of IPVS, or
// its last real server: the packets then reach the host itself, where nobody
// listens, or IPVS says that nobody serves, and a client would be refused.
//
// Called by: package dataplane, which says what to mark and what to hold.
//
// It never touches a table of another name, and knows nothing of services. It
// marks what comes in, not what this host itself sends.
package fwmark
