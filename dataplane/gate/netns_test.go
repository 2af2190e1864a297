package gate

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is a network namespace with a thread of its own.
type host struct {
	t    *testing.T
	ns   netns.NsHandle
	jobs chan func()
}

// newHost makes a namespace with lo up. It vanishes with the test.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, jobs: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.ns, err = netns.Get()
		}
		ready <- err
		for job := range h.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { close(h.jobs); h.ns.Close() })
	h.do(func() error { return up("lo") })
	return h
}

// do runs f in the namespace and fails the test on an error.
func (h *host) do(f func() error) {
	h.t.Helper()
	if err := h.try(f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) try(f func() error) error {
	done := make(chan error)
	h.jobs <- func() { done <- f() }
	return <-done
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func addAddr(name, prefix string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, a)
}

// site is a director with the VIP and a client, on one wire: eth0 - cli0.
type site struct {
	*host
	client *prober
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
	dir, cli := newHost(t), newHost(t)
	s := &site{host: dir, mode: mode, pins: mountPins(t)}
	dir.do(func() error {
		l := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0", HardwareAddr: macA[:]}, PeerName: "cli0",
			PeerHardwareAddr: macB[:], PeerNamespace: netlink.NsFd(cli.ns)}
		return errors.Join(netlink.LinkAdd(l), up("eth0"),
			addAddr("eth0", node.String()+"/24"), addAddr("eth0", vip.String()+"/32"))
	})
	cli.do(func() error { return errors.Join(up("cli0"), addAddr("cli0", client.String()+"/24")) })
	s.client = newProber(t, cli)
	t.Cleanup(func() { dir.try(func() error { return Remove(s.pins) }) })
	return s
}

// mountPins gives the test a bpffs of its own.
func mountPins(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	if err := unix.Mount("bpffs", at, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	return filepath.Join(at, "gate")
}

// open opens a gate in the site's namespace.
func (s *site) open(cfg Config) *Gate {
	s.t.Helper()
	cfg.PinDir = s.pins
	if cfg.Mode == "" {
		cfg.Mode = s.mode
	}
	var g *Gate
	s.do(func() (err error) { g, err = Open(cfg); return err })
	s.t.Cleanup(g.Abandon)
	return g
}

// run runs the gate in the namespace until the test or stop ends.
func (s *site) run(g *Gate) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(s.ns); err != nil {
			done <- err
			return
		}
		done <- g.Run(ctx)
	}()
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
	s.do(func() error {
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
	s.do(func() error {
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

// eventually waits for a kernel that works on its own time.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("not within 5 s: %s", what)
}

// prober is the client: it speaks raw frames, so no ARP cache helps it.
type prober struct {
	t  *testing.T
	fd int
}

func newProber(t *testing.T, h *host) *prober { t.Helper(); return newProberOn(t, h, "cli0") }

func newProberOn(t *testing.T, h *host, name string) *prober {
	t.Helper()
	p := &prober{t: t}
	h.do(func() (err error) {
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index})
	})
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// exchange sends a frame and waits for one that matches.
func (p *prober) exchange(frame []byte, wait time.Duration, match func([]byte) bool) bool {
	p.t.Helper()
	buf := make([]byte, 2000)
	for { // answers to earlier frames
		if _, _, err := unix.Recvfrom(p.fd, buf, unix.MSG_DONTWAIT); err != nil {
			break
		}
	}
	if _, err := unix.Write(p.fd, frame); err != nil {
		p.t.Fatalf("send: %v", err)
	}
	return p.hears(wait, match)
}

// hears waits for a frame that matches.
func (p *prober) hears(wait time.Duration, match func([]byte) bool) bool {
	buf := make([]byte, 2000)
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		tv := unix.NsecToTimeval(int64(left) + 1000)
		unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		n, err := unix.Read(p.fd, buf)
		if err == nil && match(buf[:n]) {
			return true
		}
	}
}

// arp asks for the address and reports whether the director answers.
func (p *prober) arp(a netip.Addr, wait time.Duration) bool {
	p.t.Helper()
	frame := ether(ones, macB, etherARP, arpPacket(1, macB, client, [6]byte{}, a))
	return p.exchange(frame, wait, func(b []byte) bool {
		return len(b) >= 42 && slices.Equal(b[6:12], macA[:]) && b[12] == 8 && b[13] == 6 && b[21] == 2 && slices.Equal(b[28:32], a.AsSlice())
	})
}

// ping sends an ICMP echo request straight to the director's MAC.
func (p *prober) ping(a netip.Addr, wait time.Duration) bool {
	p.t.Helper()
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	binary.BigEndian.PutUint16(echo[2:], inetSum(echo))
	frame := ether(macA, macB, etherIPv4, ipPacket(client, a, 1, 0, nil, echo))
	return p.exchange(frame, wait, func(b []byte) bool {
		return len(b) >= 42 && b[12] == 8 && b[13] == 0 && b[23] == 1 && b[34] == 0 && slices.Equal(b[26:30], a.AsSlice())
	})
}

const (
	soon   = 2 * time.Second       // an answer that must come
	silent = 30 * time.Millisecond // long enough for one that must not
)

func (s *site) mustAnswer(when string) {
	s.t.Helper()
	for _, ask := range []func(netip.Addr, time.Duration) bool{s.client.arp, s.client.ping} {
		eventually(s.t, when+": an answer for the VIP", func() bool { return ask(vip, silent) })
	}
}

func (s *site) mustBeDark(when string) {
	s.t.Helper()
	if s.client.arp(vip, silent) {
		s.t.Fatalf("%s: it answers ARP for the VIP", when)
	}
	if s.client.ping(vip, silent) {
		s.t.Fatalf("%s: it answers a ping to the VIP", when)
	}
	if !s.client.arp(node, soon) || !s.client.ping(node, soon) {
		s.t.Fatalf("%s: the node's own address is dark too", when)
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
	g, err := Open(Config{PinDir: pins, Mode: mode, Known: []netip.Addr{vip}})
	if err != nil {
		return err
	}
	go func() { fmt.Println("run:", g.Run(context.Background())) }()
	for first := true; ; first = false {
		if err := g.Arm(vip, in(armFor)); err != nil {
			return err
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
	s.do(c.cmd.Start)
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
