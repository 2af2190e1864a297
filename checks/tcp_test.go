package checks

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

func tcpCheck(dest netip.AddrPort) fsm.Check {
	return fsm.Check{Kind: fsm.CheckTCP, Dest: dest, ConnectTimeout: fsm.Duration(2 * time.Second)}
}

func listen(t testing.TB) *net.TCPListener {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func addr(l *net.TCPListener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// TestDialReal: real connections on the loopback.
func TestDialReal(t *testing.T) {
	l := listen(t)
	if _, err := Dial(t.Context(), tcpCheck(addr(l))); err != nil {
		t.Fatalf("a listening port: %v", err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// An orderly close, not a reset: the server reads the end of the stream.
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || err.Error() != "EOF" {
		t.Errorf("the server read %d bytes, %v", n, err)
	}
	l.Close()
	if _, err := Dial(t.Context(), tcpCheck(addr(l))); err == nil || err.Error() != "connection refused" {
		t.Errorf("a closed port: %v", err)
	}
}

// TestDialBind: the server sees the address that the check is bound to.
func TestDialBind(t *testing.T) {
	l := listen(t)
	c := tcpCheck(addr(l))
	c.Bind = netip.MustParseAddr("127.0.0.77")
	if _, err := Dial(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); from != c.Bind {
		t.Errorf("checked from %s", from)
	}
	c.Bind = netip.MustParseAddr("192.0.2.1") // nobody has it
	if _, err := Dial(t.Context(), c); err == nil || !strings.Contains(err.Error(), "cannot check from 192.0.2.1") {
		t.Errorf("a foreign address to check from: %v", err)
	}
}

// TestDialEnds: a check ends with its context, whatever the server does.
func TestDialEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, tcpCheck(addr(listen(t)))); err == nil {
		t.Error("a cancelled check passed")
	}
	c := tcpCheck(netip.MustParseAddrPort("127.0.0.1:9"))
	c.ConnectTimeout = 1
	if _, err := Dial(t.Context(), c); err == nil || !strings.Contains(err.Error(), "no answer within 1ns") {
		t.Errorf("a check without time: %v", err)
	}
}

func TestDialUnknownKind(t *testing.T) {
	if _, err := Dial(t.Context(), fsm.Check{Kind: "bfd"}); err == nil || !strings.Contains(err.Error(), `"bfd"`) {
		t.Errorf("an unknown kind: %v", err)
	}
}

// TestExplain keeps the cause of errors that are none of the ordinary ones.
func TestExplain(t *testing.T) {
	odd := errors.New("odd")
	if got := explain(odd, fsm.Check{}); !errors.Is(got, odd) {
		t.Errorf("%v", got)
	}
}
