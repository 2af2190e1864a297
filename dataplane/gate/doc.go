// Package gate is the kernel's half of the VIP lease: an eBPF program on every
// interface but lo that lets a VIP's traffic through only until an absolute
// CLOCK_BOOTTIME deadline. Past it the VIP is dark, whatever became of the
// process: frozen, killed or merely late.
//
// What it holds back, for each VIP in its map (anything else it never touches,
// so filters behind it still run):
//
//   - coming in: ARP for the VIP and IPv4 packets to it. Others' gratuitous ARP
//     (sender = target) always passes, or neighbour entries would go stale.
//   - going out: ARP and IPv4 packets with the VIP as sender, and VRRP adverts
//     with a priority above 0 whose first address is the VIP. Priority 0 (the
//     farewell) always passes.
//
// It fails closed: a VIP whose deadline is 0 or missing is dark, a killed
// process leaves program and maps behind (clsact filters persist by themselves,
// tcx links are pinned in bpffs), and a new process closes its predecessor's
// map before it swaps in its own, in which every address starts at 0. A thawed
// predecessor then writes into a map that no program reads.
//
// The lease's rules that bind it. R7: deadlines are absolute; the map belongs
// to one process. R9: the same program both ways. R10: CLOCK_BOOTTIME, the
// clock of bpf_ktime_get_boot_ns. R19: outlive the process, stay first on every
// interface, notice and repair an absence.
//
// cmd/lbcluster opens it before any address is added and runs it; cluster/lease
// calls Arm and Close; dataplane keeps the set of VIPs. It never adds or
// removes an address, never decides who owns a VIP, and on its way out it
// detaches nothing ([Remove] does, for uninstalling). IPv4 only as yet.
//
// Everything happens in the network namespace of the calling thread; run the
// whole process in the namespace, with a bpffs mount of its own.
package gate
