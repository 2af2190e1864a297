package checks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"lbcluster/fsm"
)

// Dial makes the probe that c describes, within c.ConnectTimeout. It returns
// nil if the check passed; the error's text is meant for people and short:
// "connection refused", "no answer within 3s".
func Dial(ctx context.Context, c fsm.Check) error {
	switch c.Kind {
	case fsm.CheckTCP:
		return dialTCP(ctx, c)
	default:
		return fmt.Errorf("this version has no check of kind %q", c.Kind)
	}
}

// dialTCP connects and closes at once, in the ordinary way (FIN), as
// keepalived's TCP_CHECK does.
func dialTCP(ctx context.Context, c fsm.Check) error {
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout.D())
	defer cancel()
	d := net.Dialer{KeepAlive: -1}
	if c.Bind.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.Bind, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", c.Dest.String())
	if err != nil {
		return explain(err, c)
	}
	// The server has accepted; how the connection ends is no part of the check.
	_ = conn.Close()
	return nil
}

// explain shortens what a dial failed with to its cause.
func explain(err error, c fsm.Check) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer within %s", c.ConnectTimeout)
	case errors.As(err, &errno) && errno == syscall.EADDRNOTAVAIL && c.Bind.IsValid():
		return fmt.Errorf("cannot check from %s: %w", c.Bind, errno)
	case errors.As(err, &errno):
		return errno
	}
	return err
}
