// Package e2e holds the tests that need the whole product, or the systems it
// lives with, on a real kernel: they run in the lab (package lab), which the
// Makefile's test target starts. Outside the lab they are skipped.
//
// testdata/keepalived-pair.conf is the configuration of a keepalived pair as
// people have it; the tests of our own instruments run keepalived with it.
//
// testdata/corpus holds files that use keepalived's features the way people do;
// testdata/keepalived-2.2.7.txt is what keepalived was seen to make of each, and
// testdata/oracle.txt explains where lbcluster makes something else of it.
//
// testdata/interop holds what was seen of a cluster beside keepalived, a file for
// each way to talk VRRP; see package interop.
//
// testdata/events.json is what the benchmark measured, for docs/survival.md; see
// package bench.
package e2e
