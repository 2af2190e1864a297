// Package bench measures, on one machine in one run, what clients feel when
// something happens to the owner of a VIP: with lbcluster, and with keepalived
// as people configure it. It judges from outside, by a client and an ARP watcher
// that know neither of them.
//
// An event (events.go) is what happens and what is counted; a system (lbc.go,
// keepalived.go) is a load balancer in one setting; a stage (plan.go) is a
// system brought up once for several events. Every event begins calm and ends
// calm, so that the next one can follow.
//
// The events in heldevents.go are about connections that are held open, with
// lbcluster in several settings (heldsystems.go). A run leaves a record in the
// lab's results (record.go); docs/survival.md is made from one (page.go).
//
// A trial in which the machine itself stood still is marked and left out of the
// figures, and where no other is there the event happens again: `make bench`
// compares two programs, not the weather on the host. What must never be, two
// MACs that answer, counts in marked trials too. Where a target was missed, the
// probers' records of the worst trial and lbcluster why tell where the time went.
// It runs inside the lab only.
package bench
