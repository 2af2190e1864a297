package farm

import (
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

// Every address of the loopback network is a server of its own; what comes late is
// counted, and so is what never came before.
func TestFarm(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	listen := netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(l.Addr().(*net.TCPAddr).Port))
	l.Close()
	file := filepath.Join(t.TempDir(), "counts")
	f, err := open(listen, 50*time.Millisecond, file)
	if err != nil {
		t.Fatal(err)
	}
	go f.serve() // ends with the test's process
	ask := func(addr string) {
		t.Helper()
		c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), listen.Port()).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s says something", addr)
		}
	}
	ask("127.7.0.1")
	ask("127.7.0.2")
	first := await(t, file, 2)
	if first.Again != 0 || first.Late != 0 {
		t.Errorf("after one connection to each of two: %+v", first)
	}
	time.Sleep(60 * time.Millisecond)
	ask("127.7.0.1")
	if got := await(t, file, 3).Sub(first); got.Accepted != 1 || got.Again != 1 || got.Late != 1 || got.Worst < 60*time.Millisecond {
		t.Errorf("after a late one: %+v", got)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
	if _, err := open(listen, time.Second, file); err == nil {
		t.Error("two listen on one port")
	}
}

func await(t *testing.T, file string, accepted uint64) Counts {
	t.Helper()
	for range 500 {
		c, err := Read(file)
		if err != nil {
			t.Fatal(err)
		}
		if c.Accepted == accepted {
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no %d connections were counted", accepted)
	return Counts{}
}
