package gate

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lbcluster/internal/nstest"
)

// notice is how soon the gate must be back where somebody took it off.
const notice = 100 * time.Millisecond

// openFor does something that opens a hole for a closed VIP and measures how
// long it is there: as long as a client, who asks without a pause, is answered,
// and until mended. The machine may have stalled, so the best of a few tries
// counts.
func openFor(t *testing.T, what string, p prober, try func(), mended func() bool) {
	t.Helper()
	best := time.Duration(1 << 62)
	for range 12 {
		try()
		start := time.Now()
		last := start
		for time.Since(last) < 3*notice {
			if p.arp(vip, 2*time.Millisecond) || !mended() {
				last = time.Now()
			}
			if last.Sub(start) > 5*time.Second {
				t.Fatalf("%s: the hole stays", what)
			}
		}
		if best = min(best, last.Sub(start)); best < notice {
			break
		}
	}
	t.Logf("%s: open for %v", what, best)
	if best >= notice {
		t.Errorf("%s: open for %v, longer than %v", what, best, notice)
	}
}

// ways of taking the gate off an interface.
func detachments(mode string, s *site) map[string]func(ifindex int) error {
	if mode == ModeTCX {
		detach := func(i int, d direction) error {
			l, err := link.LoadPinnedLink(tcx{dir: s.pins}.path(i, d), nil)
			if err != nil {
				return err
			}
			defer l.Close()
			return l.Detach()
		}
		return map[string]func(int) error{
			"link detached, in":  func(i int) error { return detach(i, ingress) },
			"link detached, out": func(i int) error { return detach(i, egress) },
			"pins removed": func(int) error {
				os.RemoveAll(s.pins) // may fail at the end: the watch is quick to pin again
				return nil
			},
		}
	}
	return map[string]func(int) error{
		"filter deleted, in":  func(i int) error { return netlink.FilterDel(clsact{}.filter(i, ingress)) },
		"filter deleted, out": func(i int) error { return netlink.FilterDel(clsact{}.filter(i, egress)) },
		"qdisc deleted":       func(i int) error { return netlink.QdiscDel(clsactQdisc(i)) },
		"qdisc replaced": func(i int) error {
			err := netlink.QdiscDel(clsactQdisc(i))
			if add := netlink.QdiscAdd(clsactQdisc(i)); !errors.Is(add, unix.EEXIST) { // else the watch was quicker
				err = errors.Join(err, add)
			}
			return err
		},
		"filter replaced by another": func(i int) error {
			p, err := passProgram(ebpf.SchedCLS, verdictNext)
			if err != nil {
				return err
			}
			defer p.Close()
			f := clsact{}.filter(i, ingress)
			f.Fd, f.Name, f.DirectAction = p.FD(), "theirs", true
			return netlink.FilterReplace(f)
		},
	}
}

func TestDetachedGateComesBack(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		g := s.open(Config{Known: vips})
		s.run(g)
		for name, detach := range detachments(s.mode, s) {
			var before uint64
			openFor(t, name, s.client, func() {
				before = g.Status().Reattached
				s.Do(func() error { return detach(nstest.Index("eth0")) })
			}, func() bool { return g.Status().Reattached > before })
			if !s.attached(g, "eth0") || s.gates() != 2 {
				t.Errorf("%s: counted, but not there", name)
			}
			s.mustBeDark(name)
		}
	})
}

// The kernel answers on any interface for an address on another one, so that a
// new interface is a hole until it has the gate.
func TestNewInterfaceIsDarkSoon(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		g := s.open(Config{Known: vips})
		s.run(g)
		other := nstest.New(t)
		try := 0
		var p prober
		nstest.Wire(s.Host, "eth1", macA[:], other, "cli1", macB[:])
		p = prober{Tap: nstest.NewTap(t, other, "cli1"), to: macA}
		nstest.Eventually(t, "the gate is on eth1", func() bool { return slices.Contains(g.Status().Interfaces, "eth1") })
		openFor(t, "a new interface", p, func() {
			if try++; try > 1 {
				s.Do(func() error { return nstest.Delete("eth1") })
				nstest.Wire(s.Host, "eth1", macA[:], other, "cli1", macB[:])
				p.Tap = nstest.NewTap(t, other, "cli1")
			}
		}, func() bool { return s.attached(g, "eth1") })
	})
}

// Another program that packets meet first is shown.
func TestAnotherProgramInFrontIsShown(t *testing.T) {
	onEth0 := func(attach ebpf.AttachType, p *ebpf.Program) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Interface: nstest.Index("eth0"), Program: p, Attach: attach, Anchor: link.Head()})
	}
	inFront := map[string]struct {
		tcx    bool // the kernel must have it
		kind   ebpf.ProgramType
		attach func(*ebpf.Program) (link.Link, error)
	}{
		"tcx in":  {true, ebpf.SchedCLS, func(p *ebpf.Program) (link.Link, error) { return onEth0(ebpf.AttachTCXIngress, p) }},
		"tcx out": {true, ebpf.SchedCLS, func(p *ebpf.Program) (link.Link, error) { return onEth0(ebpf.AttachTCXEgress, p) }},
		"xdp": {false, ebpf.XDP, func(p *ebpf.Program) (link.Link, error) {
			return link.AttachXDP(link.XDPOptions{Interface: nstest.Index("eth0"), Program: p, Flags: link.XDPGenericMode})
		}},
	}
	for name, c := range inFront {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				if c.tcx && !haveTCX() {
					t.Skip("this kernel has no tcx (6.6 and later)")
				}
				g := s.open(Config{Known: vips})
				s.run(g)
				verdict := int32(verdictNext)
				if c.kind == ebpf.XDP {
					verdict = 2 // XDP_PASS
				}
				p, err := passProgram(c.kind, verdict)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				var other link.Link
				s.Do(func() (err error) { other, err = c.attach(p); return err })
				nstest.Eventually(t, "it is noticed", func() bool { return slices.Equal(g.Status().Displaced, []string{"eth0"}) })
				s.mustBeDark("behind another program")
				if err := other.Close(); err != nil {
					t.Fatal(err)
				}
				nstest.Eventually(t, "its end is noticed", func() bool { return len(g.Status().Displaced) == 0 })
			})
		})
	}
}

// A new process puts its program in front of what was in front of the last one.
func TestNextProcessGoesInFront(t *testing.T) {
	needRoot(t)
	if !haveTCX() {
		t.Skip("this kernel has no tcx (6.6 and later)")
	}
	s := newSite(t, ModeTCX)
	s.open(Config{Known: vips})
	p, err := passProgram(ebpf.SchedCLS, verdictNext)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: nstest.Index("eth0"), Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	g := s.open(Config{})
	s.Do(func() error {
		at, err := g.hook.place(nstest.Index("eth0"), ingress, g.ids[ingress])
		if at != 0 {
			t.Errorf("place %d, want 0", at)
		}
		return err
	})
	if n := s.gates(); n != 2 {
		t.Errorf("%d programs of the gate on eth0, want 2", n)
	}
}
