// Package journal keeps a member's own small record of what happened to its
// leases, and answers from all members' records why a virtual router changed
// hands.
//
// cmd/lbcluster runs one [Journal] a member: the lease, the gate, the data plane
// and the daemon itself hand it entries with [Journal.Note], which never waits.
// A goroutine of its own writes them into two files in the data folder that
// take turns, so that the record survives restarts and stays below a few
// mebibytes whatever happens. It is a record for people: it is written without
// waiting for the disk, what cannot be written is dropped and counted, and
// nothing in the cluster ever depends on it. A disk that is full or hangs costs
// entries and nothing else.
//
// [Merge] and [Explain] are pure. Merge lays the records of all members over
// each other: their wall clocks may differ or have been stepped, so that an
// entry of a member's present boot is placed by its CLOCK_BOOTTIME, and the
// order of one member's entries is never changed. Explain finds the change of
// ownership that was asked for and says in a sentence what caused it.
//
// It never asks another member, decides who owns what, or reads the table.
package journal
