package vip

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lbcluster/dataplane/fence"
)

var testMAC = net.HardwareAddr{0, 0, 0x5e, 0, 1, 51}

// makeVMAC makes the test's interface, or skips the test where the kernel has no
// macvlan.
func (p pair) makeVMAC(t *testing.T) (v VMAC, quiet bool) {
	t.Helper()
	v = VMAC{Name: "vrrp.51", Base: p.link.Index, MAC: testMAC}
	quiet, err := p.host.MakeVMAC(v)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel has no macvlan")
	}
	must(t, err)
	return v, quiet
}

func (p pair) conf(t *testing.T, family, dev, name string) string {
	t.Helper()
	var b []byte
	must(t, p.host.inside(func() (err error) { b, err = os.ReadFile(confPath(family, dev, name)); return err }))
	return strings.TrimSpace(string(b))
}

func TestVMACIsMadeAndRemoved(t *testing.T) {
	p := newPair(t)
	v, quiet := p.makeVMAC(t)
	s, err := p.host.Snapshot()
	must(t, err)
	l, ok := s.Named(v.Name)
	if !ok || !v.Is(l) || !l.Up || !quiet {
		t.Fatalf("made %+v, quiet %v", l, quiet)
	}
	for _, a := range s.Addrs {
		if a.Index == l.Index {
			t.Errorf("it has the address %v, and so would speak by itself", a)
		}
	}
	for _, c := range []struct{ family, dev, name, want string }{
		{"ipv4", "vrrp.51", "arp_ignore", "1"}, {"ipv4", "vrrp.51", "rp_filter", "2"}, {"ipv4", "eth0", "arp_ignore", "1"},
		{"ipv6", "vrrp.51", "addr_gen_mode", "1"},
	} {
		if got := p.conf(t, c.family, c.dev, c.name); got != c.want {
			t.Errorf("%s %s is %s, want %s", c.dev, c.name, got, c.want)
		}
	}
	if quiet, err := p.host.MakeVMAC(v); err != nil || quiet {
		t.Errorf("once more: quiet %v, %v", quiet, err)
	}
	must(t, p.host.RemoveVMAC(v.Name, net.HardwareAddr{2, 0, 0, 0, 0, 1})) // not that one
	if _, err := p.nl.LinkByName(v.Name); err != nil {
		t.Errorf("one with another MAC was removed: %v", err)
	}
	must(t, p.host.RemoveVMAC(v.Name, v.MAC))
	must(t, p.host.RemoveVMAC(v.Name, v.MAC))
	must(t, p.host.AnswerAnywhere("eth0"))
	must(t, p.host.AnswerAnywhere("gone0"))
	if got := p.conf(t, "ipv4", "eth0", "arp_ignore"); got != "0" {
		t.Errorf("arp_ignore of eth0 is %s", got)
	}
	if _, err := p.nl.LinkByName(v.Name); err == nil {
		t.Error("it is still there")
	}
}

func TestVMACLeavesOthersAlone(t *testing.T) {
	p := newPair(t)
	must(t, p.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vrrp.51"}, PeerName: "other1"}))
	if _, err := p.host.MakeVMAC(VMAC{Name: "vrrp.51", Base: p.link.Index, MAC: testMAC}); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "veth") {
		t.Errorf("%v", err)
	}
	must(t, p.host.RemoveVMAC("vrrp.51", testMAC))
	if _, err := p.nl.LinkByName("vrrp.51"); err != nil {
		t.Errorf("removed: %v", err)
	}
	if _, err := p.host.MakeVMAC(VMAC{Name: "vrrp.52", Base: 4711, MAC: testMAC}); err == nil {
		t.Error("made over nothing")
	}
}

// A neighbour learns the router's MAC for the VIP, from the announcement and
// from the answer to its question, and never that of the interface below.
func TestVMACIsWhatNeighboursLearn(t *testing.T) {
	p := newPair(t)
	v, _ := p.makeVMAC(t)
	s, err := p.host.Snapshot()
	must(t, err)
	l, _ := s.Named(v.Name)
	var heard *packet.Conn
	must(t, (&Host{ns: p.other}).inside(func() error {
		peer, err := net.InterfaceByName("peer0")
		if err == nil {
			heard, err = packet.Listen(peer, packet.Raw, int(ethernet.EtherTypeARP), nil)
		}
		return err
	}))
	defer heard.Close()
	term := fence.NewTerm(1, []netip.Addr{testVIP.Addr()}, 1, func() int64 { return 0 })
	_, err = p.host.Add(term.Permit(), l.Index, testVIP, "")
	must(t, err)
	must(t, p.host.Announce(term.Permit(), l, testVIP.Addr()))
	froms, kinds := map[string]int{}, map[string]int{}
	for deadline := time.Now().Add(5 * time.Second); kinds["answer"] == 0 && time.Now().Before(deadline); {
		// A kernel that is still setting the address up leaves a question unanswered.
		_, err = heard.WriteTo(arpRequest(testVIP.Addr()), &packet.Addr{HardwareAddr: ethernet.Broadcast})
		must(t, err)
		must(t, heard.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		for buf := make([]byte, 1500); ; {
			n, _, err := heard.ReadFrom(buf)
			if err != nil {
				break
			}
			if n < 42 || netip.AddrFrom4([4]byte(buf[28:32])) != testVIP.Addr() {
				continue
			}
			froms[net.HardwareAddr(buf[6:12]).String()+" "+net.HardwareAddr(buf[22:28]).String()]++
			kinds[map[bool]string{true: "announcement", false: "answer"}[netip.AddrFrom4([4]byte(buf[38:42])) == testVIP.Addr()]]++
		}
	}
	want := testMAC.String() + " " + testMAC.String()
	if len(froms) != 1 || froms[want] == 0 || kinds["announcement"] != 2 || kinds["answer"] == 0 {
		t.Errorf("heard of the VIP from %v (%v), want two announcements and an answer from %s", froms, kinds, want)
	}
}

// arpRequest is a broadcast question by 172.25.88.60.
func arpRequest(who netip.Addr) []byte {
	b := append([]byte{}, ethernet.Broadcast...)
	b = append(b, 2, 0, 0, 0, 0, 60, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 60, 172, 25, 88, 60, 0, 0, 0, 0, 0, 0)
	return append(b, who.AsSlice()...)
}
