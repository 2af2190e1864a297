// Package ipvstest is an IPVS kernel for tests: a [Kernel] with memory that
// obeys and refuses as the real one does, prints itself as "ipvsadm -Sn" would,
// and fails when told to; and [Parse], which reads such lines.
//
// Called by: tests of package ipvs, which hold it against the real kernel with
// the same test body, and of package dataplane. Never by the daemon.
package ipvstest
