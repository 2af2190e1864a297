// Package scale measures what a large table costs: how long it takes from `lbcluster
// apply` to the kernels of all directors, one change of it, a repair, a restart, and
// what a daemon needs at rest; and the same of keepalived and `ipvsadm -R`, on the same
// machine in the same run.
//
// The kernel is asked what it has by itself, not through either program. Real servers
// are addresses without checks: what is measured is the table, not the checks.
//
// Called by: package bench, as the part "size" of `make bench`, and a test that runs
// the cluster's part with a table small enough for `make test`. It runs inside the lab
// only. It judges no speed: it reports, beside what keepalived takes.
package scale
