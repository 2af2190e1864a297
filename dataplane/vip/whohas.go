package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// probeEvery is how often the question is repeated within a WhoHas.
const probeEvery = 200 * time.Millisecond

// WhoHas asks on an interface who has addr and returns the hardware address that
// answers within wait; nil: nobody does. The question is an ARP probe with the
// sender's address 0.0.0.0 (RFC 5227 section 2.1.1), which changes no
// neighbour's table, or a neighbour solicitation for an IPv6 address. It must
// not be asked on an interface that has addr itself.
func WhoHas(ctx context.Context, l Link, addr netip.Addr, wait time.Duration) (net.HardwareAddr, error) {
	ifi, err := net.InterfaceByIndex(l.Index)
	if err != nil {
		return nil, fmt.Errorf("ask who has %s on %s: %w", addr, l.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ask := whoHas4
	if addr.Is6() {
		ask = whoHas6
	}
	mac, err := ask(ctx, ifi, addr)
	if err != nil {
		return nil, fmt.Errorf("ask who has %s on %s: %w", addr, l.Name, err)
	}
	return mac, nil
}

func whoHas4(ctx context.Context, ifi *net.Interface, addr netip.Addr) (net.HardwareAddr, error) {
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
	for ctx.Err() == nil {
		if _, err := c.WriteTo(question, &packet.Addr{HardwareAddr: ethernet.Broadcast}); err != nil {
			return nil, err
		}
		if err := c.SetReadDeadline(time.Now().Add(probeEvery)); err != nil {
			return nil, err
		}
		for {
			n, _, err := c.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			if mac := claimant(buf[:n], addr); mac != nil && mac.String() != ifi.HardwareAddr.String() {
				return mac, nil
			}
		}
	}
	return nil, nil
}

// arpProbe is the frame that asks who has addr, as a host without an address.
func arpProbe(from net.HardwareAddr, addr netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(arp.OperationRequest, from, netip.IPv4Unspecified(), net.HardwareAddr{0, 0, 0, 0, 0, 0}, addr)
	if err != nil {
		return nil, err
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	f := ethernet.Frame{Destination: ethernet.Broadcast, Source: from, EtherType: ethernet.EtherTypeARP, Payload: payload}
	return f.MarshalBinary()
}

// claimant is who says in an ARP frame that addr is his; nil: nobody.
func claimant(frame []byte, addr netip.Addr) net.HardwareAddr {
	var f ethernet.Frame
	var p arp.Packet
	if f.UnmarshalBinary(frame) != nil || p.UnmarshalBinary(f.Payload) != nil || p.SenderIP != addr {
		return nil
	}
	return p.SenderHardwareAddr
}

func whoHas6(ctx context.Context, ifi *net.Interface, addr netip.Addr) (net.HardwareAddr, error) {
	c, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	for errors.Is(err, unix.EADDRNOTAVAIL) && ctx.Err() == nil {
		time.Sleep(probeEvery / 4) // the link-local address is still being tried
		c, _, err = ndp.Listen(ifi, ndp.LinkLocal)
	}
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
	for ctx.Err() == nil {
		if err := c.WriteTo(ns, nil, group); err != nil {
			return nil, err
		}
		if err := c.SetReadDeadline(time.Now().Add(probeEvery)); err != nil {
			return nil, err
		}
		for {
			msg, _, from, err := c.ReadFrom()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			if na, ok := msg.(*ndp.NeighborAdvertisement); ok && na.TargetAddress == addr {
				return advertised(na, from), nil
			}
		}
	}
	return nil, nil
}

// advertised is the hardware address that an advertisement tells; one without is
// an answer all the same.
func advertised(na *ndp.NeighborAdvertisement, _ netip.Addr) net.HardwareAddr {
	for _, o := range na.Options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok {
			return l.Addr
		}
	}
	return net.HardwareAddr{0, 0, 0, 0, 0, 0}
}
