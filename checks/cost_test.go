package checks

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
)

// What a TCP check costs this process, the server's part left out: by the connector,
// and by a goroutine for each target. ns/op means nothing here: the checks come at
// their own pace.
func BenchmarkTCPChecks(b *testing.B) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), 0)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		fd, err := l.File()
		if err != nil {
			return
		}
		for { // until the listener is shut down
			conn, _, err := unix.Accept4(int(fd.Fd()), unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			unix.Close(conn)
		}
	}()
	for name, rate := range map[string]int{"200 a second": 200, "1000 a second": 1000, "4000 a second": 4000} {
		for _, together := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s, together: %v", name, together), func(b *testing.B) { costs(b, addr(l).Port(), rate, together) })
		}
	}
}

func costs(b *testing.B, port uint16, rate int, together bool) {
	var servers []fsm.RealServer
	for i := range rate {
		dest := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 7, byte(i / 250), byte(1 + i%250)}), port)
		c := tcpCheck(dest)
		c.DelayLoop, c.Warmup = fsm.Duration(time.Second), fsm.Duration(time.Second)
		servers = append(servers, server(dest, c))
	}
	table := &fsm.Table{Revision: 1, Members: []fsm.Member{{ID: "m1", Role: fsm.Director, State: fsm.Joining}},
		Services: []fsm.VirtualServer{{ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr("127.0.0.1"), Port: port, Protocol: fsm.TCP}, RealServers: servers}}}
	r := New(Config{})
	if !together {
		r.open = func() (sockets, error) { return nil, nil }
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.Update("m1", table)
	time.Sleep(1200 * time.Millisecond)
	const measured = 3 * time.Second
	before := used(b)
	time.Sleep(measured)
	b.ReportMetric(float64((used(b)-before).Microseconds())/measured.Seconds()/float64(rate), "µs/check")
	cancel()
	<-done
}

func used(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
