package vrrp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// listen opens a raw socket of protocol 112, limited to one interface and to
// groups that it joins itself: without option, IP_MULTICAST_ALL or its twin, it
// would get those of every process.
func listen(network, address string, ifi *net.Interface, level, option int) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var inner error
		err := rc.Control(func(fd uintptr) {
			inner = errors.Join(unix.BindToDevice(int(fd), ifi.Name), unix.SetsockoptInt(int(fd), level, option, 0))
		})
		return errors.Join(err, inner)
	}}
	return lc.ListenPacket(context.Background(), network, address)
}

// socket4 writes the IPv4 header itself.
type socket4 struct{ *ipv4.RawConn }

func openSocket4(ifi *net.Interface) (socket, error) {
	pc, err := listen("ip4:112", "0.0.0.0", ifi, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL)
	if err != nil {
		return nil, err
	}
	raw, err := ipv4.NewRawConn(pc)
	if err != nil {
		pc.Close()
		return nil, err
	}
	err = errors.Join(
		raw.JoinGroup(ifi, &net.IPAddr{IP: Group.AsSlice()}),
		raw.SetMulticastInterface(ifi),
		raw.SetMulticastLoopback(false),
		raw.SetMulticastTTL(maxTTL),
		raw.SetControlMessage(ipv4.FlagDst, true),
	)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return socket4{raw}, nil
}

func (s socket4) write(src, dst netip.Addr, payload []byte) error {
	return s.WriteTo(&ipv4.Header{
		Version: ipv4.Version, Len: ipv4.HeaderLen, TOS: tosControl, TotalLen: ipv4.HeaderLen + len(payload),
		TTL: maxTTL, Protocol: protocol, Src: src.AsSlice(), Dst: dst.AsSlice(),
	}, payload, nil)
}

func (s socket4) read(buf []byte) (Packet, error) {
	h, payload, _, err := s.ReadFrom(buf)
	if err != nil {
		return Packet{}, err
	}
	return Packet{Src: address(h.Src), Dst: address(h.Dst), TTL: h.TTL, Payload: payload}, nil
}

// socket6 lets the kernel write the IPv6 header.
type socket6 struct {
	*ipv6.PacketConn
	ifi *net.Interface
}

func openSocket6(ifi *net.Interface) (socket, error) {
	pc, err := listen("ip6:112", "::", ifi, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL)
	if err != nil {
		return nil, err
	}
	raw := ipv6.NewPacketConn(pc)
	err = errors.Join(
		raw.JoinGroup(ifi, &net.IPAddr{IP: Group6.AsSlice()}),
		raw.SetMulticastInterface(ifi),
		raw.SetMulticastLoopback(false),
		raw.SetMulticastHopLimit(maxTTL),
		freeSource(pc),
		raw.SetControlMessage(ipv6.FlagDst|ipv6.FlagHopLimit, true),
	)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return socket6{raw, ifi}, nil
}

func (s socket6) write(src, dst netip.Addr, payload []byte) error {
	_, err := s.WriteTo(payload, &ipv6.ControlMessage{
		TrafficClass: tosControl, HopLimit: maxTTL, Src: src.AsSlice(), IfIndex: s.ifi.Index,
	}, &net.IPAddr{IP: dst.AsSlice(), Zone: strconv.Itoa(s.ifi.Index)})
	return err
}

func (s socket6) read(buf []byte) (Packet, error) {
	n, cm, src, err := s.ReadFrom(buf)
	if err != nil {
		return Packet{}, err
	}
	p := Packet{Payload: buf[:n]}
	if a, ok := src.(*net.IPAddr); ok {
		p.Src = address(a.IP)
	}
	if cm != nil {
		p.Dst, p.TTL = address(cm.Dst), cm.HopLimit
	}
	return p, nil
}

func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// freeSource lets packets leave by an interface with the address of the one
// below it, which the kernel else refuses for a link-local one (ipv6(7),
// IPV6_FREEBIND).
func freeSource(pc net.PacketConn) error {
	sc, ok := pc.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = rc.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1) })
	return errors.Join(err, inner)
}
