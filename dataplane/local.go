package dataplane

import (
	"net"
	"net/netip"
	"slices"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// LocalMark is the firewall mark of packets that a member forwarded to this
// host as a real server: the gate sets it (gate.Config.Mark), and a hidden IPVS
// service takes them to the local server instead of balancing them once more.
const LocalMark = 0x6c62_0001 // "lb"

// local is a VIP that this host serves itself: server, one of its own addresses,
// is a real server of it.
type local struct{ vip, server netip.Addr }

// locals lists the VIPs of routers that this host serves itself, by address,
// each once. own are its addresses.
func locals(t *fsm.Table, own map[netip.Addr]bool) []local {
	vips := map[netip.Addr]bool{}
	for _, v := range t.VIPs() {
		vips[v] = true
	}
	var out []local
	for _, s := range t.Services {
		for _, r := range s.RealServers {
			if !own[r.Addr] || s.MethodOf(r) != fsm.DirectRouting {
				continue // NAT sends to the server's own address
			}
			for _, addr := range s.Addrs() {
				if vips[addr] && r.Addr.Is6() == addr.Is6() {
					out = append(out, local{addr, r.Addr})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b local) int {
		if c := a.vip.Compare(b.vip); c != 0 {
			return c
		}
		return a.server.Compare(b.server)
	})
	return slices.CompactFunc(out, func(a, b local) bool { return a.vip == b.vip })
}

// ownAddrs are this host's addresses: what the table says of the member self,
// and what its interfaces have; never a VIP, nor what is on lo.
func ownAddrs(t *fsm.Table, self fsm.MemberID, s vip.Snapshot) map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	m, there := t.Member(self)
	if !there {
		return own
	}
	own[m.Addr.Addr()] = true
	for _, n := range m.Networks {
		own[n.Prefix.Addr()] = true
	}
	for _, a := range s.Addrs {
		if l, ok := s.Link(a.Index); ok && !l.Loopback {
			own[a.Prefix.Addr()] = true
		}
	}
	for _, v := range t.VIPs() {
		delete(own, v)
	}
	return own
}

// markServices are the hidden services, one for each family in ls: whatever has
// the mark goes to this host's own address. That destination, rather than
// 127.0.0.1, means the same to another director to which the connection may be
// synchronised.
func markServices(ls []local) []ipvs.Service {
	var out []ipvs.Service
	for _, l := range ls {
		key := ipvs.Key{Mark: LocalMark, V6: l.server.Is6()}
		if slices.ContainsFunc(out, func(s ipvs.Service) bool { return s.Key == key }) {
			continue
		}
		out = append(out, ipvs.Service{Key: key, Scheduler: "rr", Dests: []ipvs.Dest{
			{DestKey: ipvs.DestKey{Addr: l.server}, Method: ipvs.DirectRouting, Weight: 1},
		}}.Canonical())
	}
	return out
}

// hidden reports whether a service is one of markServices, stays or pathServices: no part of the
// table, and shown to nobody.
func hidden(k ipvs.Key) bool { return k.Mark == LocalMark || k.Mark == StayMark || isPathMark(k.Mark) }

// own adds the hidden services, which are ours whatever is recorded, those of paths
// as far as the kernel has them.
func (o Ownership) own(have []ipvs.Service) {
	for _, s := range have {
		if hidden(s.Key) {
			o[s.Key] = true
		}
	}
	for _, mark := range []uint32{LocalMark, StayMark} {
		o[ipvs.Key{Mark: mark}] = true
		o[ipvs.Key{Mark: mark, V6: true}] = true
	}
}

// onLoopback reports whether the address is on lo, whoever put it there.
func onLoopback(s vip.Snapshot, a netip.Addr) bool {
	return slices.ContainsFunc(s.Where(a), func(at vip.Addr) bool {
		l, _ := s.Link(at.Index)
		return l.Loopback
	})
}

// planLoopback says what to put on lo, and which of ours to take off. What the
// gate still lets in as local stays: without the address on lo such packets
// would be forwarded.
func planLoopback(want []local, ours []netip.Prefix, s vip.Snapshot, gateLocal map[netip.Addr]bool) (add, remove []netip.Prefix) {
	wanted := map[netip.Addr]bool{}
	for _, l := range want {
		wanted[l.vip] = true
		if !onLoopback(s, l.vip) {
			add = append(add, netip.PrefixFrom(l.vip, l.vip.BitLen()))
		}
	}
	for _, o := range ours {
		if !wanted[o.Addr()] && !gateLocal[o.Addr()] {
			remove = append(remove, o)
		}
	}
	return add, remove
}

// memberMACs are the hardware addresses from which the other members send,
// sorted, each once.
func memberMACs(t *fsm.Table, self fsm.MemberID) []net.HardwareAddr {
	var out []net.HardwareAddr
	for _, m := range t.Members {
		if m.ID == self {
			continue
		}
		for _, n := range m.Networks {
			if mac, err := net.ParseMAC(n.MAC); err == nil && len(mac) == 6 {
				out = append(out, mac)
			}
		}
	}
	slices.SortFunc(out, func(a, b net.HardwareAddr) int { return slices.Compare(a, b) })
	return slices.CompactFunc(out, func(a, b net.HardwareAddr) bool { return slices.Equal(a, b) })
}
