// Package realserver makes a host a real server of direct routing, and no more than
// that: the VIPs are on lo as /32 (/128), and the kernel neither answers ARP for them
// (net.ipv4.conf.all.arp_ignore 1) nor names one of them as the sender of a request
// (arp_announce 2). Both settings hold on each interface as the larger of its own
// value and that of "all", so "all" is the only one that is set; an interface whose
// own value undoes it is reported, and then no VIP comes to lo. IPv6 needs neither:
// neighbour solicitations are answered only for the addresses of the interface on
// which they come.
//
// [Plan] and [Problems] decide and are pure; [Host] is the kernel of the calling
// process's network namespace; [Apply] does what Plan says and keeps a [Record] of
// what it changed, so that [Apply] with no VIPs takes back exactly that.
//
// The command "lbcluster realserver" uses it. Directors serve VIPs themselves by
// package dataplane, which has their gate to mind. It never touches an interface
// other than lo, nor an address that it did not add.
package realserver
