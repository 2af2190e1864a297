package fwmark_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"lbcluster/dataplane/fwmark"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// dial says what becomes of a connection: "refused", "held back", or "made".
func (h host) dial(network, to string) (what string) {
	h.t.Helper()
	h.Do(func() error {
		c, err := net.DialTimeout(network, to, 200*time.Millisecond)
		if err == nil {
			defer c.Close()
			if network != "udp" {
				what = "made"
				return nil
			}
			_, err = c.Write([]byte("x"))
			if err == nil {
				c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				_, err = c.Read(make([]byte, 1))
			}
		}
		var slow net.Error
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			what = "refused"
		case errors.As(err, &slow) && slow.Timeout():
			what = "held back"
		default:
			return err
		}
		return nil
	})
	return what
}

// Who asks for what is held gets no answer instead of a refusal; nothing else is
// touched, connections that are there least of all.
func TestRequestsAreHeldBack(t *testing.T) {
	h := newHost(t)
	h.h = fwmark.NewHold("")
	want := func(what, network, to string) {
		t.Helper()
		if got := h.dial(network, to); got != what {
			t.Errorf("%s to %s is %s, want it %s", network, to, got, what)
		}
	}
	var listener net.Listener
	var there, accepted net.Conn
	h.Do(func() (err error) {
		if listener, err = net.Listen("tcp", "172.25.88.100:90"); err != nil {
			return err
		}
		if there, err = net.Dial("tcp", "172.25.88.100:90"); err == nil {
			accepted, err = listener.Accept()
		}
		return err
	})
	defer listener.Close()
	defer there.Close()
	defer accepted.Close()
	want("refused", "tcp", "172.25.88.100:80")
	h.set(rule(0, "172.25.88.100/32", unix.IPPROTO_TCP, 80), rule(0, "172.25.88.100/32", unix.IPPROTO_TCP, 90),
		rule(0, "172.25.88.100/32", unix.IPPROTO_UDP, 53), rule(0, "2001:db8::100/128", unix.IPPROTO_TCP, 80),
		rule(0, "172.25.88.101/32", unix.IPPROTO_SCTP, 80))
	for to, what := range map[string]string{
		"172.25.88.100:80": "held back", "172.25.88.100:90": "held back", "[2001:db8::100]:80": "held back",
		"172.25.88.100:81": "refused", "172.25.88.101:80": "refused", "127.0.0.1:80": "refused",
	} {
		want(what, "tcp", to)
	}
	want("held back", "udp", "172.25.88.100:53")
	want("refused", "udp", "172.25.88.100:54")
	if _, err := there.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	accepted.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := accepted.Read(make([]byte, 1)); err != nil {
		t.Errorf("a connection that was there before: %v", err)
	}
	h.expect("again", false, rule(0, "172.25.88.100/32", unix.IPPROTO_TCP, 80), rule(0, "172.25.88.100/32", unix.IPPROTO_TCP, 90),
		rule(0, "172.25.88.100/32", unix.IPPROTO_UDP, 53), rule(0, "2001:db8::100/128", unix.IPPROTO_TCP, 80),
		rule(0, "172.25.88.101/32", unix.IPPROTO_SCTP, 80))
	h.expect("none", true)
	want("refused", "tcp", "172.25.88.100:80")
}

// Who is told that a port is unreachable, as IPVS tells without a real server, is
// refused; what is held gets no such message, wherever it comes from.
func TestRefusalsAreHushed(t *testing.T) {
	h := newHost(t)
	h.h = fwmark.NewHold("")
	h.reject(t)
	rules := []fwmark.Rule{rule(0, "172.25.88.100/32", unix.IPPROTO_TCP, 80), rule(0, "2001:db8::100/128", unix.IPPROTO_UDP, 53),
		rule(0, "172.25.88.101/32", unix.IPPROTO_UDP, 53)}
	// On the way back over lo, TCP of IPv6 takes no notice of the first message.
	all := []struct{ network, to, held string }{
		{"tcp", "172.25.88.100:80", "held back"}, {"udp", "172.25.88.101:53", "held back"}, {"udp", "[2001:db8::100]:53", "held back"},
		{"tcp", "172.25.88.100:81", "refused"}, {"tcp", "172.25.88.101:80", "refused"}, {"tcp", "172.25.88.101:53", "refused"},
		{"udp", "172.25.88.100:53", "refused"}, {"udp", "[2001:db8::100]:54", "refused"},
	}
	for _, c := range all {
		if got := h.dial(c.network, c.to); got != "refused" {
			t.Fatalf("before: %s to %s is %s", c.network, c.to, got)
		}
	}
	h.set(rules...)
	for _, c := range all {
		if got := h.dial(c.network, c.to); got != c.held {
			t.Errorf("%s to %s is %s, want it %s", c.network, c.to, got, c.held)
		}
	}
	h.expect("again", false, rules...)
	h.expect("none", true)
	if got := h.dial("tcp", "172.25.88.100:80"); got != "refused" {
		t.Errorf("after: %s", got)
	}
}

// reject has the host say "port unreachable" to whatever comes, before our rules.
func (h host) reject(t *testing.T) {
	h.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Name: "others", Family: nftables.TableFamilyINet})
		chain := conn.AddChain(&nftables.Chain{
			Name: "in", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
		})
		for family, e := range map[byte]expr.Reject{
			unix.NFPROTO_IPV4: {Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}, unix.NFPROTO_IPV6: {Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 4},
		} {
			// The messages themselves go their way.
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
				&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: []byte{1, 0}}, &e,
			}})
		}
		return conn.Flush()
	})
}
