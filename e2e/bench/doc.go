// Package bench measures, on one machine in one run, what clients feel when
// the owner of a VIP fails: with lbcluster, and with keepalived as people
// configure it. It judges from outside, by a client and an ARP watcher that know
// neither of them.
//
// A trial in which the machine itself stood still is marked and left out of the
// median: `make bench` compares two programs, not the weather on the host. It
// runs inside the lab only.
package bench
