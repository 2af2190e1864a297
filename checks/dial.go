package checks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
)

// Dial makes the probe that c describes. Each step of it (connecting, the TLS
// handshake and one answer together) ends within c.ConnectTimeout. It returns nil if
// the check passed; the error's text is meant for people and short: "connection
// refused", "no answer within 3s".
//
// A script or a file may also say something of the server's weight.
func Dial(ctx context.Context, c fsm.Check) (fsm.Weighing, error) {
	switch c.Kind {
	case fsm.CheckMisc:
		return runScript(ctx, c)
	case fsm.CheckFile:
		return readFile(c)
	}
	probe := map[fsm.CheckKind]func(context.Context, fsm.Check) error{
		fsm.CheckTCP: dialTCP, fsm.CheckHTTP: askHTTP, fsm.CheckHTTPS: askHTTP, fsm.CheckSMTP: askSMTP,
		fsm.CheckDNS: askDNS, fsm.CheckUDP: askUDP, fsm.CheckPing: ping,
	}[c.Kind]
	if probe == nil {
		return fsm.Weighing{}, fmt.Errorf("this version has no check of kind %q", c.Kind)
	}
	return fsm.Weighing{}, probe(ctx, c)
}

// connect opens a connection, or an UDP socket, as c says.
func connect(ctx context.Context, c fsm.Check, network string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout.D())
	defer cancel()
	d := net.Dialer{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error { return mark(raw, c) }}
	if c.Bind.IsValid() || c.BindPort != 0 {
		if d.LocalAddr = net.TCPAddrFromAddrPort(local(c)); network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(local(c))
		}
	}
	conn, err := d.DialContext(ctx, network, c.Dest.String())
	if err != nil {
		return nil, explain(err, c)
	}
	return conn, nil
}

// local is where c checks from; it has an address or a port to check from.
func local(c fsm.Check) netip.AddrPort {
	switch {
	case c.Bind.IsValid():
		return netip.AddrPortFrom(c.Bind, c.BindPort)
	case c.Dest.Addr().Is4():
		return netip.AddrPortFrom(netip.IPv4Unspecified(), c.BindPort)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), c.BindPort)
}

// mark sets what a socket has besides addresses.
func mark(raw syscall.RawConn, c fsm.Check) (err error) {
	failed := raw.Control(func(fd uintptr) { err = options(int(fd), c) })
	return errors.Join(failed, err)
}

func options(fd int, c fsm.Check) (failed error) {
	if c.Mark != 0 {
		failed = errors.Join(failed, os.NewSyscallError("setting the firewall mark", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(c.Mark))))
	}
	if c.BindIf != "" {
		failed = errors.Join(failed, os.NewSyscallError("checking from "+c.BindIf, unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, c.BindIf)))
	}
	if c.BindPort != 0 { // the last check's connection may not be gone yet
		failed = errors.Join(failed, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	}
	return failed
}

// step gives what follows on conn its time, and ends it early with ctx. The returned
// function must be called when it is over.
func step(ctx context.Context, conn net.Conn, c fsm.Check) (over func() bool) {
	_ = conn.SetDeadline(time.Now().Add(c.ConnectTimeout.D())) // fails only on a closed one
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// dialTCP connects and closes at once, in the ordinary way (FIN), as
// keepalived's TCP_CHECK does.
func dialTCP(ctx context.Context, c fsm.Check) error {
	conn, err := connect(ctx, c, "tcp")
	if err != nil {
		return err
	}
	// The server has accepted; how the connection ends is no part of the check.
	_ = conn.Close()
	return nil
}

// explain shortens what a probe failed with to its cause.
func explain(err error, c fsm.Check) error {
	var errno syscall.Errno
	var named *os.SyscallError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer within %s", c.ConnectTimeout)
	case errors.As(err, &errno) && errno == syscall.EADDRNOTAVAIL && c.Bind.IsValid():
		return fmt.Errorf("cannot check from %s: %w", c.Bind, errno)
	case errors.As(err, &named) && (c.Mark != 0 || c.BindIf != "") && named.Syscall != "connect":
		return named
	case errors.As(err, &errno):
		return errno
	}
	return err
}
