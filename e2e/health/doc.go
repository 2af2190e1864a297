// Package health measures health checks: how long a real server that died stays in
// the directors' tables and what its clients feel meanwhile, how far apart the tables
// change, what a crowd of servers that flap costs the Raft log, and what a check costs
// the processor; and the same of keepalived, on the same machine in the same run.
//
// Deaths happen to both at once: three directors of lbcluster and a keepalived pair
// check the same real servers with equal settings, each with a VIP of its own. Load is
// measured of one at a time. It is judged from outside: the kernels are asked for their
// tables, and the real servers count the checks that reach them.
//
// Called by: package bench, as the parts "health" and "checkers" of `make bench`, and
// tests that run it small. It runs inside the lab only, but for the page that is made
// of a record (page.go). It judges no speed: it reports.
package health
