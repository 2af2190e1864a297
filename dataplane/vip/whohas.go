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
	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
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
	c, err := arp.Dial(ifi)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	none := net.HardwareAddr{0, 0, 0, 0, 0, 0}
	for ctx.Err() == nil {
		p, err := arp.NewPacket(arp.OperationRequest, ifi.HardwareAddr, netip.IPv4Unspecified(), none, addr)
		if err != nil {
			return nil, err
		}
		if err := c.WriteTo(p, broadcast); err != nil {
			return nil, err
		}
		if err := c.SetReadDeadline(time.Now().Add(probeEvery)); err != nil {
			return nil, err
		}
		for {
			p, _, err := c.Read()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			if p.SenderIP == addr && p.SenderHardwareAddr.String() != ifi.HardwareAddr.String() {
				return p.SenderHardwareAddr, nil
			}
		}
	}
	return nil, nil
}

func whoHas6(ctx context.Context, ifi *net.Interface, addr netip.Addr) (net.HardwareAddr, error) {
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
