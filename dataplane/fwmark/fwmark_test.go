package fwmark_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"lbcluster/dataplane/fwmark"
	"lbcluster/internal/nstest"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const spared = 0x6c620001

// host is a namespace with VIPs on lo, in which h keeps the table.
type host struct {
	*nstest.Host
	t *testing.T
	h *fwmark.Handle
}

func newHost(t *testing.T) host {
	n := nstest.New(t)
	n.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		for _, a := range []string{"172.25.88.100/32", "172.25.88.101/32", "2001:db8::100/128"} {
			addr, _ := netlink.ParseAddr(a)
			err = errors.Join(err, netlink.AddrAdd(lo, addr))
		}
		return err
	})
	return host{n, t, fwmark.New("", spared)}
}

func (h host) set(rules ...fwmark.Rule) (changed bool) {
	h.t.Helper()
	h.Do(func() (err error) { changed, err = h.h.Set(rules); return err })
	return changed
}

func (h host) expect(what string, want bool, rules ...fwmark.Rule) {
	h.t.Helper()
	if changed := h.set(rules...); changed != want {
		h.t.Errorf("%s: changed is %v", what, changed)
	}
}

// tables lists what there is of family inet.
func (h host) tables() (names []string) {
	h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		all, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
		for _, t := range all {
			names = append(names, t.Name)
		}
		return err
	})
	return names
}

// disturb changes the ruleset behind the handle's back.
func (h host) disturb(f func(c *nftables.Conn, ours *nftables.Table)) {
	h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		f(c, &nftables.Table{Name: fwmark.Table, Family: nftables.TableFamilyINet})
		return c.Flush()
	})
}

// markOf sends a UDP packet, with a mark or without (0), and returns the mark
// that it arrives with.
func (h host) markOf(to string, mark uint32) (got uint32) {
	h.t.Helper()
	h.Do(func() error {
		addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
		in, err := net.ListenUDP("udp", addr)
		if err != nil {
			return err
		}
		defer in.Close()
		raw, _ := in.SyscallConn()
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVMARK, 1) })
		if err != nil {
			return fmt.Errorf("SO_RCVMARK: %w", err)
		}
		dial := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) })
			return err
		}}
		out, err := dial.Dial("udp", to)
		if err != nil {
			return err
		}
		defer out.Close()
		if _, err := out.Write([]byte("x")); err != nil {
			return err
		}
		in.SetReadDeadline(time.Now().Add(5 * time.Second))
		control := make([]byte, 128)
		_, n, _, _, err := in.ReadMsgUDP(make([]byte, 9), control)
		if err != nil {
			return err
		}
		got, err = markIn(control[:n])
		return err
	})
	return got
}

func markIn(control []byte) (uint32, error) {
	msgs, err := unix.ParseSocketControlMessage(control)
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_MARK && len(m.Data) >= 4 {
			return uint32(m.Data[0]) | uint32(m.Data[1])<<8 | uint32(m.Data[2])<<16 | uint32(m.Data[3])<<24, nil
		}
	}
	return 0, errors.Join(err, errors.New("the packet says no mark"))
}

func rule(mark uint32, to string, protocol uint8, ports ...uint16) fwmark.Rule {
	r := fwmark.Rule{Mark: mark, To: netip.MustParsePrefix(to), Protocol: protocol}
	if len(ports) > 0 {
		r.FromPort, r.ToPort = ports[0], ports[len(ports)-1]
	}
	return r
}

var rules = []fwmark.Rule{
	rule(7, "172.25.88.100/32", unix.IPPROTO_UDP, 53),
	rule(8, "172.25.88.100/32", unix.IPPROTO_UDP, 100, 200),
	rule(9, "172.25.88.100/31", unix.IPPROTO_SCTP),
	rule(10, "172.25.88.101/32", unix.IPPROTO_UDP),
	rule(11, "2001:db8::/64", unix.IPPROTO_UDP, 53, 54),
}

// Each packet gets the mark that is meant for it, or none, and keeps the one of
// the other maker.
func TestPacketsAreMarked(t *testing.T) {
	h := newHost(t)
	if os.Getenv("LBCLUSTER_LAB") == "1" {
		t.Skip("needs SO_RCVMARK, which came after the lab's kernel")
	}
	h.set(rules...)
	for _, c := range []struct {
		to        string
		sent, got uint32
	}{
		{"172.25.88.100:53", 0, 7},
		{"172.25.88.100:53", spared, spared},
		{"172.25.88.100:53", 99, 7},
		{"172.25.88.100:54", 0, 0},
		{"172.25.88.100:99", 0, 0},
		{"172.25.88.100:100", 0, 8},
		{"172.25.88.100:200", 0, 8},
		{"172.25.88.100:201", 0, 0},
		{"172.25.88.101:9999", 0, 10},
		{"[2001:db8::100]:54", 0, 11},
		{"[2001:db8::100]:55", 0, 0},
		{"127.0.0.1:53", 0, 0},
	} {
		if got := h.markOf(c.to, c.sent); got != c.got {
			t.Errorf("a packet to %s with mark %d arrives with %d, not %d", c.to, c.sent, got, c.got)
		}
	}
	h.set()
	if got := h.markOf("172.25.88.100:53", 0); got != 0 {
		t.Errorf("mark %d without rules", got)
	}
}

// The second time nothing is to be done; what others change is put right; tables
// of others stay.
func TestSetIsIdempotentAndRepairs(t *testing.T) {
	h := newHost(t)
	h.expect("nothing wanted, nothing there", false)
	h.disturb(func(c *nftables.Conn, _ *nftables.Table) {
		c.AddTable(&nftables.Table{Name: "theirs", Family: nftables.TableFamilyINet})
		c.AddTable(&nftables.Table{Name: fwmark.Table, Family: nftables.TableFamilyIPv4})
	})
	h.expect("first", true, rules...)
	h.expect("again", false, rules...)
	h.expect("one less", true, rules[1:]...)
	h.expect("another order", true, rules[2], rules[1], rules[3], rules[4])
	h.expect("all", true, rules...)
	for name, f := range map[string]func(c *nftables.Conn, ours *nftables.Table){
		"table removed": func(c *nftables.Conn, ours *nftables.Table) { c.DelTable(ours) },
		"rules flushed": func(c *nftables.Conn, ours *nftables.Table) { c.FlushTable(ours) },
		"chain added": func(c *nftables.Conn, ours *nftables.Table) {
			c.AddChain(&nftables.Chain{Name: "more", Table: ours})
		},
		"rule added": func(c *nftables.Conn, ours *nftables.Table) {
			c.AddRule(&nftables.Rule{Table: ours, Chain: &nftables.Chain{Name: "mark", Table: ours}, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
		},
		"rule replaced": func(c *nftables.Conn, ours *nftables.Table) {
			c.FlushTable(ours)
			for range len(rules) + 1 {
				c.AddRule(&nftables.Rule{Table: ours, Chain: &nftables.Chain{Name: "mark", Table: ours}, Exprs: []expr.Any{&expr.Counter{}}})
			}
		},
	} {
		h.disturb(f)
		h.expect(name, true, rules...)
		h.expect(name+", repaired", false, rules...)
	}
	h.expect("none", true)
	h.expect("none again", false)
	if got := fmt.Sprint(h.tables()); got != "[theirs]" {
		t.Errorf("tables: %s", got)
	}
}

// Counting is no change.
func TestCountersAreNoDifference(t *testing.T) {
	h := newHost(t)
	h.set(rules...)
	h.Do(func() error {
		c, err := net.Dial("udp", "172.25.88.100:53")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
	h.expect("after a packet", false, rules...)
}

func TestRuleString(t *testing.T) {
	for i, want := range []string{
		"ip daddr 172.25.88.100 meta l4proto udp th dport 53 meta mark set 0x00000007",
		"ip daddr 172.25.88.100 meta l4proto udp th dport 100-200 meta mark set 0x00000008",
		"ip daddr 172.25.88.100/31 meta l4proto sctp meta mark set 0x00000009",
		"ip daddr 172.25.88.101 meta l4proto udp meta mark set 0x0000000a",
		"ip6 daddr 2001:db8::/64 meta l4proto udp th dport 53-54 meta mark set 0x0000000b",
	} {
		if got := rules[i].String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestNoNamespace(t *testing.T) {
	if _, err := fwmark.New("/nonexistent", 0).Set(rules); err == nil {
		t.Error("a namespace that is not there was written to")
	}
}
