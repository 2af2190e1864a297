package gate

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"

	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lbcluster/internal/nstest"
)

// site is a director with the VIP and a client, on one wire: eth0 - cli0.
type site struct {
	*nstest.Host
	t      *testing.T
	client prober
	pins   string
	mode   string
}

func eachMode(t *testing.T, f func(t *testing.T, s *site)) {
	for _, mode := range []string{ModeTCX, ModeClsact} {
		t.Run(mode, func(t *testing.T) {
			needRoot(t)
			if mode == ModeTCX && !haveTCX() {
				t.Skip("this kernel has no tcx (6.6 and later)")
			}
			f(t, newSite(t, mode))
		})
	}
}

func newSite(t *testing.T, mode string) *site {
	t.Helper()
	dir, cli := nstest.New(t), nstest.New(t)
	s := &site{Host: dir, t: t, mode: mode, pins: mountPins(t)}
	nstest.Wire(dir, "eth0", macA[:], cli, "cli0", macB[:])
	dir.Do(func() error {
		return nstest.AddAddr("eth0", node.String()+"/24", vip.String()+"/32", node6.String()+"/64", vip6.String()+"/128")
	})
	cli.Do(func() error { return nstest.AddAddr("cli0", client.String()+"/24", client6.String()+"/64") })
	s.client = prober{nstest.NewTap(t, cli, "cli0")}
	t.Cleanup(func() { dir.Try(func() error { return Remove(s.pins) }) })
	return s
}

// mountPins gives the test a bpffs of its own.
func mountPins(t *testing.T) string { t.Helper(); return filepath.Join(nstest.BPFFS(t), "gate") }

// open opens a gate in the site's namespace.
func (s *site) open(cfg Config) *Gate {
	s.t.Helper()
	cfg.PinDir = s.pins
	if cfg.Mode == "" {
		cfg.Mode = s.mode
	}
	var g *Gate
	s.Do(func() (err error) { g, err = Open(cfg); return err })
	s.t.Cleanup(g.Abandon)
	return g
}

// run runs the gate in the namespace until the test or stop ends.
func (s *site) run(g *Gate) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := s.Go(func() error { return g.Run(ctx) })
	var result error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-done
		}
		return result
	}
	s.t.Cleanup(func() { stop() })
	return stop
}

// attached reports whether g's programs are on the interface, both ways.
func (s *site) attached(g *Gate, name string) bool {
	ok := false
	s.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		ok, err = g.complete(l)
		return err
	})
	return ok
}

// gates counts the gates' programs on eth0 in both modes.
func (s *site) gates() (n int) {
	s.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		hooks := []hook{clsact{}}
		if haveTCX() {
			hooks = append(hooks, tcx{dir: s.pins})
		}
		for _, h := range hooks {
			for _, d := range directions {
				here, err := h.list(l.Attrs().Index, d)
				if err != nil {
					return err
				}
				n += len(here)
			}
		}
		return nil
	})
	return n
}

// prober is the client, or whoever speaks on an interface.
type prober struct{ *nstest.Tap }

// arp asks for the address and reports whether the director answers.
func (p prober) arp(a netip.Addr, wait time.Duration) bool {
	frame := ether(ones, macB, etherARP, arpPacket(1, macB, client, [6]byte{}, a))
	return p.Ask(frame, wait, func(b []byte) bool {
		return len(b) >= 42 && slices.Equal(b[6:12], macA[:]) && b[12] == 8 && b[13] == 6 && b[21] == 2 && slices.Equal(b[28:32], a.AsSlice())
	})
}

// ping sends an ICMP echo request straight to the director's MAC.
func (p prober) ping(a netip.Addr, wait time.Duration) bool {
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	binary.BigEndian.PutUint16(echo[2:], inetSum(echo))
	frame := ether(macA, macB, etherIPv4, ipPacket(client, a, 1, 0, nil, echo))
	return p.Ask(frame, wait, func(b []byte) bool {
		return len(b) >= 42 && b[12] == 8 && b[13] == 0 && b[23] == 1 && b[34] == 0 && slices.Equal(b[26:30], a.AsSlice())
	})
}

const (
	soon   = 2 * time.Second       // an answer that must come
	silent = 30 * time.Millisecond // long enough for one that must not
)

// solicit asks for an IPv6 address and reports whether the director answers.
func (p prober) solicit(a netip.Addr, wait time.Duration) bool {
	group := solicited(a)
	frame := ether(groupMAC(group), macB, etherIPv6, ip6Packet(client6, group, 58, onLink, nil, nd(client6, group, 135, a, 1, macB)))
	return p.Ask(frame, wait, func(b []byte) bool { return isAdvertisement(b, a) })
}

func isAdvertisement(b []byte, a netip.Addr) bool {
	return len(b) >= 78 && slices.Equal(b[6:12], macA[:]) && b[12] == 0x86 && b[13] == 0xdd && b[20] == 58 && b[54] == 136 && slices.Equal(b[62:78], a.AsSlice())
}

// ping6 is ping for IPv6.
func (p prober) ping6(a netip.Addr, wait time.Duration) bool {
	frame := ether(macA, macB, etherIPv6, ip6Packet(client6, a, 58, 64, nil, icmp6(client6, a, []byte{128, 0, 0, 0, 0, 1, 0, 1})))
	return p.Ask(frame, wait, func(b []byte) bool {
		return len(b) >= 62 && b[12] == 0x86 && b[13] == 0xdd && b[20] == 58 && b[54] == 129 && slices.Equal(b[22:38], a.AsSlice())
	})
}

// asks are the ways in which a client finds an address and speaks to it.
func (p prober) asks(four, six netip.Addr) map[string]func(time.Duration) bool {
	return map[string]func(time.Duration) bool{
		"ARP":                    func(d time.Duration) bool { return p.arp(four, d) },
		"a ping":                 func(d time.Duration) bool { return p.ping(four, d) },
		"neighbour discovery":    func(d time.Duration) bool { return p.solicit(six, d) },
		"a ping to its IPv6 one": func(d time.Duration) bool { return p.ping6(six, d) },
	}
}

func (s *site) mustAnswer(when string) {
	s.t.Helper()
	for what, ask := range s.client.asks(vip, vip6) {
		nstest.Eventually(s.t, when+": an answer to "+what, func() bool { return ask(silent) })
	}
}

func (s *site) mustBeDark(when string) {
	s.t.Helper()
	for what, ask := range s.client.asks(vip, vip6) {
		if ask(silent) {
			s.t.Fatalf("%s: it answers %s for the VIP", when, what)
		}
	}
	for what, ask := range s.client.asks(node, node6) {
		if !ask(soon) {
			s.t.Fatalf("%s: the node's own address is dark too: no answer to %s", when, what)
		}
	}
}

// darkInTime waits out what a process armed last before it stopped, and checks.
func (s *site) darkInTime(what string) {
	s.t.Helper()
	time.Sleep(armFor + silent)
	s.mustBeDark(what)
}

// The child arms the VIP for armFor every armEvery until it is killed.
const (
	childEnv = "LBCLUSTER_GATE_TEST_CHILD" // "pindir mode"
	armFor   = 250 * time.Millisecond
	armEvery = 20 * time.Millisecond
)

func TestMain(m *testing.M) {
	if arg := os.Getenv(childEnv); arg != "" {
		fmt.Println(childMain(arg))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func childMain(arg string) error {
	pins, mode, _ := strings.Cut(arg, " ")
	g, err := Open(Config{PinDir: pins, Mode: mode, Known: vips})
	if err != nil {
		return err
	}
	go func() { fmt.Println("run:", g.Run(context.Background())) }()
	for first := true; ; first = false {
		for _, a := range vips {
			if err := g.Arm(a, in(armFor)); err != nil {
				return err
			}
		}
		if first {
			fmt.Println("armed")
		}
		time.Sleep(armEvery)
	}
}

// child is a process that holds the VIP.
type child struct {
	cmd   *exec.Cmd
	lines chan string
}

func (s *site) child() *child {
	s.t.Helper()
	c := &child{cmd: exec.Command("/proc/self/exe"), lines: make(chan string, 100)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+s.pins+" "+s.mode)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.Do(c.cmd.Start)
	go func() {
		defer close(c.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			c.lines <- sc.Text()
		}
	}()
	s.t.Cleanup(func() { c.cmd.Process.Kill(); c.cmd.Wait() })
	c.expect(s.t, "armed")
	return c
}

func (c *child) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-c.lines:
		if got != want {
			t.Fatalf("child says %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("child does not say %q", want)
	}
}

func (c *child) signal(t *testing.T, s unix.Signal) {
	t.Helper()
	if err := unix.Kill(c.cmd.Process.Pid, s); err != nil {
		t.Fatal(err)
	}
}
