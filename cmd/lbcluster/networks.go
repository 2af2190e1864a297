package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"lbcluster/fsm"
)

// networksPoll is how often a member looks whether its addresses are others.
const networksPoll = 5 * time.Second

// networkInterface is what memberNetworks needs of an interface.
type networkInterface struct {
	mac   net.HardwareAddr
	addrs []netip.Prefix
}

// tellNetworks tells the table this member's addresses whenever they are not
// what it says, until ctx ends: other members reach it there, and know its
// frames and adverts from strangers'.
func (m *member) tellNetworks(ctx context.Context) error {
	for pause(ctx, networksPoll) {
		t := m.d.node.Table()
		self, ok := t.Member(m.id.ID)
		if !ok || self.State != fsm.Present {
			continue
		}
		list, err := localInterfaces()
		if err != nil {
			m.d.log.Warn("cannot read this machine's addresses", "err", err)
			continue
		}
		now := memberNetworks(list, t.VIPs())
		if slices.Equal(now, self.Networks) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, reportLimit)
		_, err = m.d.node.Propose(limited, fsm.Command{Member: &fsm.SetMember{ID: m.id.ID, Networks: &now}})
		cancel()
		if err != nil && ctx.Err() == nil {
			m.d.log.Info("could not tell the cluster this machine's addresses, will try again", "err", err)
		}
	}
	return nil
}

// localInterfaces lists the interfaces that are up, but lo.
func localInterfaces() ([]networkInterface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var out []networkInterface
	for _, i := range list {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		n := networkInterface{mac: i.HardwareAddr}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				n.addrs = append(n.addrs, p)
			}
		}
		out = append(out, n)
	}
	return out, nil
}

// maxNetworks is as many addresses as a member tells; the table keeps no more.
const maxNetworks = 64

// memberNetworks are the addresses to tell, sorted, each once, without VIPs.
// IPv6 link-local ones, from which adverts come, count only beside another
// address: the interfaces of containers have nothing else, and come and go.
func memberNetworks(list []networkInterface, vips []netip.Addr) []fsm.Network {
	var out []fsm.Network
	for _, i := range list {
		mac := ""
		if len(i.mac) == 6 {
			mac = i.mac.String()
		}
		var own []fsm.Network
		routable := false
		for _, p := range i.addrs {
			if !slices.Contains(vips, p.Addr()) {
				own = append(own, fsm.Network{Prefix: p, MAC: mac})
				routable = routable || !p.Addr().IsLinkLocalUnicast()
			}
		}
		if routable {
			out = append(out, own...)
		}
	}
	slices.SortStableFunc(out, func(a, b fsm.Network) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	out = slices.CompactFunc(out, func(a, b fsm.Network) bool { return a.Prefix.Addr() == b.Prefix.Addr() })
	return out[:min(len(out), maxNetworks)]
}
