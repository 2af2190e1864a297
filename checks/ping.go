package checks

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"lbcluster/fsm"
)

// ping sends an ICMP echo request and waits for its reply. The socket is the
// kernel's own for that (ICMP over SOCK_DGRAM), which needs no raw packets: the
// kernel gives each its identifier and hands it its replies alone. Where
// net.ipv4.ping_group_range does not let this process have one, a raw one is used.
func ping(ctx context.Context, c fsm.Check) error {
	conn, raw, err := pingSocket(c)
	if err != nil {
		return explain(err, c)
	}
	defer conn.Close()
	defer step(ctx, conn, c)()
	const sequence = 1
	id := os.Getpid() & 0xffff // of a raw socket; the kernel's own have theirs
	if _, err := conn.Write(echo(c, id, sequence)); err != nil {
		return explain(err, c)
	}
	packet := make([]byte, 1500)
	for {
		n, err := conn.Read(packet)
		if err != nil {
			return explain(err, c)
		}
		if isReply(packet[:n], c.Dest.Addr().Is4(), raw, id, sequence) {
			return nil
		}
	}
}

// echo is the request.
func echo(c fsm.Check, id, sequence int) []byte {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: sequence, Data: make([]byte, 56)}}
	if c.Dest.Addr().Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest // the kernel fills in the checksum
	}
	b, _ := m.Marshal(nil) // an Echo always can be
	return b
}

func isReply(packet []byte, v4, raw bool, id, sequence int) bool {
	protocol := 58 // ICMPv6
	if v4 {
		protocol = 1
		if raw { // with its IP header
			if len(packet) < ipv4.HeaderLen {
				return false
			}
			packet = packet[min(len(packet), int(packet[0]&0x0f)*4):]
		}
	}
	m, err := icmp.ParseMessage(protocol, packet)
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
		return false
	}
	e, ok := m.Body.(*icmp.Echo)
	return ok && e.Seq == sequence && (!raw || e.ID == id)
}

// pingSocket is connected to the target.
func pingSocket(c fsm.Check) (conn net.Conn, raw bool, err error) {
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if c.Dest.Addr().Is6() {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err == unix.EACCES {
		raw = true
		fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	}
	if err != nil {
		return nil, raw, os.NewSyscallError("opening an ICMP socket", err)
	}
	f := os.NewFile(uintptr(fd), "icmp")
	defer f.Close() // FileConn duplicates it
	if err := preparePing(f, c); err != nil {
		return nil, raw, err
	}
	conn, err = net.FileConn(f)
	if err != nil {
		return nil, raw, fmt.Errorf("ICMP socket: %w", err)
	}
	return conn, raw, nil
}

// preparePing marks, binds and connects.
func preparePing(f *os.File, c fsm.Check) error {
	control, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err := mark(control, c); err != nil {
		return err
	}
	var failed error
	err = control.Control(func(fd uintptr) {
		if c.Bind.IsValid() {
			if failed = unix.Bind(int(fd), sockaddr(c.Bind.AsSlice())); failed != nil {
				return
			}
		}
		failed = unix.Connect(int(fd), sockaddr(c.Dest.Addr().AsSlice()))
	})
	if err != nil {
		return err
	}
	if errno, ok := failed.(syscall.Errno); ok {
		return errno
	}
	return failed
}

func sockaddr(addr []byte) unix.Sockaddr {
	if len(addr) == net.IPv4len {
		return &unix.SockaddrInet4{Addr: [4]byte(addr)}
	}
	return &unix.SockaddrInet6{Addr: [16]byte(addr)}
}
