// Package gate is the kernel's half of the VIP lease: an eBPF program on every
// interface but lo that lets a VIP's traffic through only until an absolute
// CLOCK_BOOTTIME deadline. Past it the VIP is dark, whatever became of the
// process: frozen, killed or merely late.
//
// # What it does with a frame
//
// Each frame is about at most one VIP of the map. Under a deadline means: it
// passes before the VIP's deadline and is dropped from then on. What the table
// does not name passes untouched, and filters behind the gate still run. "Local"
// are VIPs that this host serves too, behind whichever member owns them.
//
//	coming in                                        counted as  VIP             Local VIP
//	ARP with the VIP as target                       NeighbourIn under deadline  under deadline
//	ARP with the VIP as target and sender            -           passes          passes
//	ICMPv6 neighbour solicitation, target the VIP    NeighbourIn under deadline  under deadline
//	ICMPv6 133..137, destination the VIP             NeighbourIn under deadline  under deadline
//	IPv4, IPv6, destination the VIP, MAC a member's  IPIn        under deadline  passes, marked (MemberIn)
//	IPv4, IPv6, destination the VIP, another MAC     IPIn        under deadline  under deadline
//
//	going out                                        counted as  VIP             Local VIP
//	ARP with the VIP as sender                       NeighbourOut under deadline under deadline
//	ICMPv6 neighbour advertisement, target the VIP   NeighbourOut under deadline under deadline
//	ICMPv6 133..137, source the VIP                  NeighbourOut under deadline under deadline
//	VRRP with priority 0                             -           passes          passes
//	VRRP that lists the VIP (of the first 4) or is
//	  no such advert but has the VIP as source       VRRPOut     under deadline  under deadline
//	IPv4, IPv6, source the VIP                       IPOut       under deadline  passes
//
// Others' unsolicited announcements (the second row, and advertisements) come
// in, or neighbours' entries would go stale. A duplicate address detection probe
// of another host asks for the VIP like any solicitation; one of this host's
// goes out, as it claims nothing yet. Whether a solicitation comes to the
// solicited-node group, to all nodes or to one host makes no difference, nor do
// fragments: each carries the addresses. VLAN tags, up to two in the frame
// beside the one that the kernel takes out, are stepped over. VRRP is version 2
// or 3 over IPv4 and version 3 over IPv6, where the address listed first is a
// link-local one.
//
// Neighbour discovery and VRRP must have hop limit 255 or every receiver
// discards them, so that only such IPv6 packets are looked into. Up to six
// extension headers are followed (hop-by-hop, routing, destination, fragment,
// authentication). Where they go on, or end before what must be read, the packet
// is dropped and counted in Status.Obscure as long as there is an IPv6 VIP.
//
// Config.Mark is taken off packets to a VIP unless the gate put it there: on
// this host it says "a member forwarded this" and can be believed. Serving a
// Local VIP needs the address on lo and, as on any real server, arp_ignore 1 and
// arp_announce 2: a request that names the VIP as its sender does not leave. A
// member is therefore no client of a VIP that is Local at its owner: its packets
// would go to the owner's own server.
//
// # How it fails
//
// Closed: a VIP whose deadline is 0 or missing is dark, a killed process leaves
// program and maps behind (clsact filters persist by themselves, tcx links are
// pinned in bpffs), and a new process closes its predecessor's map before it
// swaps in its own, in which every address starts at 0. A thawed predecessor
// then writes into a map that no program reads. A process that knows its
// predecessor to be dead may inherit its live deadlines instead: they are in the
// new map before its programs are attached, and each interface goes from one to
// the other in one step. [CloseAll] closes, from a process of its own, whatever
// is found, and takes nothing off.
//
// An interface from which somebody takes the gate gets it back, by an event or
// within 25 ms, and is counted in Status.Reattached; a new interface gets it when
// the kernel tells of it. One that cannot have it makes the member unfit (OnFit),
// as any interface answers for any address. An ingress qdisc, which has no place
// for what goes out, is replaced by clsact while nobody's filters hang on it.
// Programs that see packets before the gate does (XDP, other tcx programs) are
// shown in Status.Displaced.
//
// # What it does not hold back
//
//   - An interface that appears while the process is frozen has no gate until it
//     thaws, and the kernel answers ARP there for a VIP that still is on another
//     one. IPv6 is not affected. Where interfaces come and go by themselves,
//     net.ipv4.conf.all.arp_ignore=1 closes that hole in the kernel; it is the
//     operator's to set, since the host then answers for an address on the
//     interface that has it only.
//   - Packets that reach the host's own stack without an interface: source routes
//     (accept_source_route, seg6_enabled; both off unless set). What a tunnel
//     carries is judged on the tunnel's interface.
//   - Sockets that go around the filters (PACKET_QDISC_BYPASS, AF_XDP).
//   - lo: what this host sends to a VIP of its own.
//
// It holds back more than needed in one case: what comes in for a VIP that
// another director owns is dropped also where this host would only have passed
// it on, as a bridge or a router for guests of its own.
//
// # Who uses it
//
// The lease's rules that bind it. R7: deadlines are absolute; the map belongs
// to one process. R8: a gate may be inherited. R9: the same program both ways.
// R10: CLOCK_BOOTTIME, the clock of bpf_ktime_get_boot_ns. R19: outlive the
// process, stay first on every interface, notice and repair an absence.
//
// cmd/lbcluster opens it before any address is added and runs it; cluster/lease
// calls Arm and Close; dataplane keeps the set of VIPs. It never adds or
// removes an address, never decides who owns a VIP, and on its way out it
// detaches nothing ([Remove] does, for uninstalling).
//
// Everything happens in the network namespace of the calling thread; run the
// whole process in the namespace, with a bpffs mount of its own.
package gate
