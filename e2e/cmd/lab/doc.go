// Command lab runs the project's end-to-end tests, its demo and its benchmarks
// on a stock Debian kernel with real keepalived, ipvsadm and nginx: in QEMU, or
// natively in namespaces where this machine is root and its kernel has IPVS.
//
// The same binary, built statically, is process 1 of the guest, the parent of
// its tests, and the probers that watch the network.
package main
