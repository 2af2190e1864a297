// Package e2e holds the tests that need the whole product, or the systems it
// lives with, on a real kernel: they run in the lab (package lab), which the
// Makefile's test target starts. Outside the lab they are skipped.
//
// testdata/keepalived-pair.conf is the configuration of a keepalived pair as
// people have it; the tests of our own instruments run keepalived with it.
package e2e
