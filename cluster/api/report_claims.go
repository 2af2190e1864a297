package api

import (
	"net"
	"net/netip"
	"slices"

	"lbcluster/fsm"
)

// claimant says who it is that answers for vip besides its owner, and what would
// silence it. A real server is told by its address: a director that forwards to it, or
// checks it, has it among its neighbours.
func (v *view) claimant(c Claim, vip netip.Addr) (who, fix string) {
	for _, m := range v.table.Members {
		if slices.ContainsFunc(m.Networks, func(n fsm.Network) bool { return sameMAC(n.MAC, c.MAC) }) {
			return "the member " + m.Name + " (" + c.MAC + ")", "see what lbcluster status says of " + m.Name + ": its gate should keep it silent"
		}
	}
	for _, a := range c.Addrs {
		if !v.isServer(a) {
			continue
		}
		who = "the real server " + a.String() + " (" + c.MAC + ")"
		if vip.Is6() {
			return who, "on " + a.String() + ": have " + vip.String() + " on lo only, as lbcluster realserver install does"
		}
		return who, "on " + a.String() + ": sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2, and have " +
			vip.String() + " on lo only, as lbcluster realserver install does"
	}
	if len(c.Addrs) > 0 {
		return c.Addrs[0].String() + " (" + c.MAC + "), which is no real server of the table,", ""
	}
	return "a host with the MAC address " + c.MAC, ""
}

func (v *view) isServer(a netip.Addr) bool {
	return slices.ContainsFunc(v.table.Services, func(s fsm.VirtualServer) bool {
		return slices.ContainsFunc(s.RealServers, func(r fsm.RealServer) bool { return r.Addr == a })
	})
}

func sameMAC(a, b string) bool {
	x, err := net.ParseMAC(a)
	y, err2 := net.ParseMAC(b)
	return err == nil && err2 == nil && slices.Equal(x, y)
}
