// Package interop says what must be seen when a cluster and a keepalived outside
// of it are VRRP peers, and brings what was seen into a form that can be kept.
//
// A [Batch] is one way for the two to talk (version, multicast or unicast,
// password, family); its [Cell]s are the virtual routers of one run, which
// differ in priority and preemption. [Pair] is the model: two correct VRRP
// routers as keepalived's, taken through the [Steps] one by one. [Timeline]
// holds when each host gained and lost each address; [Timeline.Look] makes a
// [Seen] of a stretch of it. [Batch.Ours] and [Batch.Theirs] are the two
// configurations. Records of a run are kept in e2e/testdata/interop; the page for
// people is generated from them.
//
// Called by the tests of this package, which judge what was recorded, and by
// those of package e2e, which run keepalived in the lab. It runs nothing and
// opens no file itself.
package interop
