// Package site is the network that people start from, as the end-to-end tests,
// the demo, the benchmarks and `make lab` use it: three directors, two nginx
// real servers with the VIP on their loopback, a client, and a watcher that
// only asks for the VIP by ARP, each a host of its own on one segment.
//
// It types the commands that an operator would type, and reads what they print.
// It runs inside the lab only (see package lab), and knows nothing of the
// product's packages: what it can't see from outside, it does not know.
package site
