package lease

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Conn is a socket as the driver needs it. Send never waits: a full buffer is a
// lost packet, which the lease survives.
type Conn interface {
	// Receive waits for a packet and tells the address it came from.
	Receive(b []byte) (int, netip.AddrPort, error)
	Send(b []byte, to netip.AddrPort) error
	Close() error
}

// udpConn is a UDP socket whose sends do not wait.
type udpConn struct {
	*net.UDPConn
	four bool // the socket is of AF_INET
}

// listen opens a socket of the lease on one address of this machine, from which
// its packets are sent then.
func listen(at netip.AddrPort) (*udpConn, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("open the lease socket on %v: %w", at, err)
	}
	_ = c.SetReadBuffer(1 << 20) // best effort: the default serves small clusters
	local := c.LocalAddr().(*net.UDPAddr)
	return &udpConn{c, local.IP.To4() != nil}, nil
}

// Receive waits for a packet. Who it says it is from is inside, sealed; the
// address only says which way it came.
func (c *udpConn) Receive(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
}

// Send hands b to the kernel. An address of the other family is an error: a
// member has addresses of both, and a socket reaches those of its own.
func (c *udpConn) Send(b []byte, to netip.AddrPort) error {
	if c.four != to.Addr().Unmap().Is4() {
		return fmt.Errorf("send to %v: the socket is of the other family", to)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("lease socket: %w", err)
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT, c.sockaddr(to))
		return true // whatever came of it: no waiting
	})
	if err == nil {
		err = sendErr
	}
	if err != nil {
		return fmt.Errorf("send to %v: %w", to, err)
	}
	return nil
}

func (c *udpConn) sockaddr(to netip.AddrPort) unix.Sockaddr {
	if c.four {
		return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}
