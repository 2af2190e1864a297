package gate

import (
	"bufio"
	"context"
	"fmt"

	"os"
	"os/exec"
	"path/filepath"
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
	s.client = prober{Tap: nstest.NewTap(t, cli, "cli0"), to: macA}
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

func (s *site) mustAnswer(when string) {
	s.t.Helper()
	for _, q := range s.client.asks(vip, vip6) {
		nstest.Eventually(s.t, when+": an answer to "+q.what, func() bool { return q.ask(silent) })
	}
}

func (s *site) mustBeDark(when string) {
	s.t.Helper()
	for _, q := range s.client.asks(vip, vip6) {
		if q.ask(silent) {
			s.t.Fatalf("%s: it answers %s for the VIP", when, q.what)
		}
	}
	for _, q := range s.client.asks(node, node6) {
		if !q.ask(soon) {
			s.t.Fatalf("%s: the node's own address is dark too: no answer to %s", when, q.what)
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
