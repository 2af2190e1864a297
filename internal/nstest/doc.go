// Package nstest makes hosts out of network namespaces for tests that need a
// real kernel: interfaces, addresses, wires between hosts, and taps that send
// and hear raw frames, so that no cache of the kernel's helps a test along.
//
// Only tests import it. Everything it makes vanishes with the test, and it
// skips a test that is not run by root. It knows no part of the project, and it
// decides nothing: what a frame means is the test's affair.
package nstest
