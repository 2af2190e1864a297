// Package lab makes networks of hosts for tests, the demo and the benchmarks,
// on the real kernel with real daemons.
//
// A host is a network namespace with its own IPVS table and sysctls, a mount
// namespace with its own /run, /etc, data folder and bpffs, and a host name. Its
// eth0 has a fixed MAC and ends at a port of the switch: a bridge in a namespace
// of its own, which can cut, silence and partition. A topology is a few lines:
//
//	l := lab.New(t)
//	dir1 := l.AddHost("dir1", "172.25.88.11/24")
//	web1 := l.RealServer("web1", "172.25.88.2/24", "172.25.88.100")
//	out, err := dir1.Run(ctx, "ipvsadm", "-Ln")
//
// All of it runs only inside the lab (LBCLUSTER_LAB=1): the lab command boots a
// Debian kernel, or makes namespaces on this machine's, and runs the test
// binaries there. Tests call Need first, which skips outside.
//
// New registers a cleanup that ends every process in the hosts, removes the
// namespaces, and then fails the test if anything was left. Logs of the started
// processes are kept; captures are kept if the test failed.
//
// Trap: starting a program costs some 50 to 100 ms under emulation. Whatever
// polls should use Do and netlink, not Run.
package lab
