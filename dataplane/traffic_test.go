package dataplane

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"lbcluster/dataplane/fwmark"
	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
	"lbcluster/internal/nstest"
)

// serve answers each connection with its name.
func serve(t *testing.T, at, name string) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, name)
			c.Close()
		}
	}()
	return nil
}

func ask(h *nstest.Host, at string) (answer string) {
	h.Try(func() error {
		c, err := net.DialTimeout("tcp", at, 3*time.Second)
		if err != nil {
			answer = "nobody"
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * time.Second))
		b, err := io.ReadAll(c)
		answer = string(b)
		return err
	})
	return answer
}

// A client's packets get the mark that the table's match gives them, the service
// of the mark takes them, and NAT brings them to the server's port and back; what
// no match means goes past.
func TestMarkedPacketsAreBalanced(t *testing.T) {
	if os.Getenv("LBCLUSTER_LAB") != "1" {
		t.Skip("needs a kernel with IPVS: run it in the lab")
	}
	dir, client := nstest.New(t), nstest.New(t)
	nstest.Wire(dir, "eth0", nil, client, "eth0", nil)
	client.Do(func() error { return nstest.AddAddr("eth0", "172.25.88.50/24", "2001:db8::50/64") })
	dir.Do(func() error {
		return nstest.AddAddr("eth0", "172.25.88.11/24", "172.25.88.100/32", "2001:db8::11/64", "2001:db8::100/128")
	})
	server := func(addr, port string) fsm.RealServer {
		at := netip.MustParseAddrPort(net.JoinHostPort(addr, port))
		return fsm.RealServer{Addr: at.Addr(), Port: at.Port(), Weight: 1}
	}
	service := func(v6 bool, vip string, r fsm.RealServer) fsm.VirtualServer {
		a := netip.MustParseAddr(vip)
		return fsm.VirtualServer{
			ServiceKey: fsm.ServiceKey{Mark: 7, V6: v6}, Scheduler: "rr", Method: fsm.Masquerade, RealServers: []fsm.RealServer{r},
			Matches: []fsm.Match{{Addr: netip.PrefixFrom(a, a.BitLen()), Protocol: fsm.TCP, FromPort: 80, ToPort: 90}},
		}
	}
	tab := &fsm.Table{Cluster: "c1", Revision: 1, Services: []fsm.VirtualServer{
		service(false, "172.25.88.100", server("172.25.88.11", "8080")), service(true, "2001:db8::100", server("2001:db8::11", "8080")),
	}}
	kernel, marks := ipvs.New(""), fwmark.New("", LocalMark)
	t.Cleanup(kernel.Close)
	dir.Do(func() error {
		if err := carryOut(kernel, nil, Diff(nil, Want(tab), nil), never).err(); err != nil {
			return err
		}
		for _, at := range []string{"172.25.88.11:8080", "[2001:db8::11]:8080"} {
			if err := serve(t, at, "behind"); err != nil {
				return err
			}
		}
		for _, at := range []string{"172.25.88.100:80", "172.25.88.100:91", "[2001:db8::100]:80", "[2001:db8::100]:91"} {
			if err := serve(t, at, "past"); err != nil {
				return err
			}
		}
		return nil
	})
	look := func(port int, want string) {
		t.Helper()
		for _, vip := range []string{"172.25.88.100", "2001:db8::100"} {
			if got := ask(client, net.JoinHostPort(vip, fmt.Sprint(port))); got != want {
				t.Errorf("%s:%d: %s answers, not %s", vip, port, got, want)
			}
		}
	}
	look(80, "past")
	dir.Do(func() error { _, err := marks.Set(Marks(tab)); return err })
	look(80, "behind")
	look(85, "behind")
	look(91, "past")
	dir.Do(func() error { _, err := marks.Set(nil); return err })
	look(80, "past")
}
