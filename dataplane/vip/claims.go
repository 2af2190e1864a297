package vip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Claim is that of another host to an address.
type Claim struct {
	MAC net.HardwareAddr
	// Addrs are the other addresses that this host's neighbour table has at MAC.
	Addrs []netip.Addr
}

// String is "52:54:00:00:00:02 (172.25.88.2)".
func (c Claim) String() string {
	text := c.MAC.String()
	for i, a := range c.Addrs {
		text += map[bool]string{true: " (", false: ", "}[i == 0] + a.String()
	}
	if len(c.Addrs) > 0 {
		text += ")"
	}
	return text
}

// Claims asks on an interface who has addr and returns all others than this host
// that answer within wait, by MAC. Other than [WhoHas] it may be asked where this
// host has addr; the question, which is asked twice, is the same and changes no
// neighbour's table. Nobody can be asked on an interface without a MAC address, nor,
// for an IPv6 address, without a link-local address.
func (h *Host) Claims(ctx context.Context, l Link, addr netip.Addr, wait time.Duration) ([]Claim, error) {
	snap, err := h.Snapshot()
	if err != nil {
		return nil, err
	}
	if !asks(snap, l, addr) {
		return nil, nil
	}
	var macs []net.HardwareAddr
	err = h.inside(func() (err error) {
		ifi, err := net.InterfaceByIndex(l.Index)
		if err != nil {
			return err
		}
		hear := hear4
		if addr.Is6() {
			hear = hear6
		}
		macs, err = hear(ctx, ifi, addr, wait)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask who else has %s on %s: %w", addr, l.Name, err)
	}
	macs = slices.DeleteFunc(macs, func(mac net.HardwareAddr) bool {
		return slices.ContainsFunc(snap.Links, func(l Link) bool { return bytes.Equal(l.MAC, mac) })
	})
	if len(macs) == 0 {
		return nil, nil
	}
	neighbours, err := h.read.NeighList(l.Index, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("read the neighbours on %s: %w", l.Name, err)
	}
	return claims(macs, neighbours, addr), nil
}

// asks reports whether the neighbours on l can be asked for addr.
func asks(s Snapshot, l Link, addr netip.Addr) bool {
	if l.Loopback || len(l.MAC) != 6 {
		return false
	}
	_, err := s.LinkLocal(l.Index)
	return addr.Is4() || err == nil
}

// claims are those of macs, each once, with what the neighbour table has of them.
func claims(macs []net.HardwareAddr, neighbours []netlink.Neigh, addr netip.Addr) []Claim {
	slices.SortFunc(macs, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
	var out []Claim
	for _, mac := range slices.CompactFunc(macs, func(a, b net.HardwareAddr) bool { return bytes.Equal(a, b) }) {
		c := Claim{MAC: mac}
		for _, n := range neighbours {
			a, ok := netip.AddrFromSlice(n.IP)
			if a = a.Unmap(); ok && a != addr && bytes.Equal(n.HardwareAddr, mac) && n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0 {
				c.Addrs = append(c.Addrs, a)
			}
		}
		slices.SortFunc(c.Addrs, netip.Addr.Compare)
		out = append(out, c)
	}
	return out
}

// hear4 asks by ARP and returns who answers.
func hear4(ctx context.Context, ifi *net.Interface, addr netip.Addr, wait time.Duration) (macs []net.HardwareAddr, _ error) {
	c, err := packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	question, err := arpProbe(ifi.HardwareAddr, addr)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 2048)
	ask := func() error {
		_, err := c.WriteTo(question, &packet.Addr{HardwareAddr: ethernet.Broadcast})
		return err
	}
	err = twice(ctx, c, wait, ask, func() error {
		n, _, err := c.ReadFrom(buf)
		if err == nil {
			if mac := claimant(buf[:n], addr); mac != nil && !bytes.Equal(mac, ifi.HardwareAddr) {
				macs = append(macs, slices.Clone(mac))
			}
		}
		return err
	})
	return macs, err
}

// hear6 asks by a neighbour solicitation.
func hear6(ctx context.Context, ifi *net.Interface, addr netip.Addr, wait time.Duration) (macs []net.HardwareAddr, _ error) {
	c, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return nil, err
	}
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeNeighborAdvertisement)
	if err := c.SetICMPFilter(&only); err != nil {
		return nil, err
	}
	ns := &ndp.NeighborSolicitation{TargetAddress: addr, Options: []ndp.Option{
		&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ifi.HardwareAddr},
	}}
	err = twice(ctx, c, wait, func() error { return c.WriteTo(ns, nil, group) }, func() error {
		msg, _, from, err := c.ReadFrom()
		if na, ok := msg.(*ndp.NeighborAdvertisement); err == nil && ok && na.TargetAddress == addr {
			macs = append(macs, advertised(na, from))
		}
		return err
	})
	return macs, err
}

// twice asks at the beginning and half-way, and hears answers until wait is over.
func twice(ctx context.Context, c interface{ SetReadDeadline(time.Time) error }, wait time.Duration, ask, hear func() error) error {
	for range 2 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := errors.Join(ask(), c.SetReadDeadline(time.Now().Add(wait/2))); err != nil {
			return err
		}
		var err error
		for err == nil {
			err = hear()
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}
