// Package cluster makes a few machines one cluster: it replicates the table of
// package fsm with Raft, enrols and removes members, forwards writes to the
// leader and tells who may vote on leases.
//
// A [Node] is this machine's part. [New] reads its data folder and starts
// nothing; [Node.Run] waits until the node is enrolled ([Node.Init] founds a
// cluster, [Node.Join] enters one), then serves. Only cmd/lbcluster imports
// this package; everything else sees tables and function values.
//
// # Between members
//
// One TCP port carries everything, TLS 1.3 only, told apart by ALPN: Raft
// ([alpnRaft]), requests of members ([alpnMember], HTTP), lease packets where
// UDP does not get through ([alpnLease], frames: see relay), enrolment
// ([alpnJoin], HTTP, the only one without a client certificate) and real servers
// that ask for their VIPs ([alpnReader], HTTP, with a reader's certificate, which
// opens nothing else and cannot be taken back singly). A member's
// certificate names its id and its cluster; a connection is refused when the
// table says that the id was removed, and cut when that happens later. Gossip
// (memberlist, its own key) runs on the next port and is a hint for people and
// status, never the record.
//
// Every member holds the CA's key, so that any leader can enrol the next
// member. The price: whoever reads one member's data folder can make
// certificates, and so the folder is as secret as the cluster itself.
//
// # Changes of the voters
//
// The leader's steward brings the Raft configuration to what the table wants,
// one change at a time: [nextChange] decides and is pure, a thin loop acts.
// The lease among the voters relies on rules that this package keeps:
//
//	R14  who asks for a lease uses the committed configuration ([Node.Voters])
//	R15  a voter refuses what is older than the newest configuration in its log
//	R16  one server a change, spaced above the longest promise; a new leader
//	     counts from the commit of its own first entry
//	R17  configurations are ordered by (epoch, term, index), recorded before
//	     they are written to the log and forgotten only when it is truncated
//
// # Disks
//
// A disk that is full, slow or broken never ends the process and never loses
// what was acknowledged: a failed append is handled like a crash of the Raft
// part alone (it stops, the store is opened and read again, with growing
// pauses), other writes wait and retry. See [store].
//
// It never decides who holds a VIP, and never touches the kernel's tables.
package cluster
