package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lbcluster/internal/nstest"
)

// An interface from which the gate was taken and where it cannot be put back
// makes the member unfit at once, and fit again when it is back or gone.
func TestMissingGateIsUnfit(t *testing.T) {
	needRoot(t)
	for _, cure := range []string{"the gate is back", "the interface is gone"} {
		s := newSite(t, ModeClsact)
		told := make(chan string, 10)
		g := s.open(Config{Known: vips, OnFit: func(ok bool, why string) { told <- fmt.Sprint(ok, " ", why) }})
		s.run(g)
		if !s.attached(g, "eth0") {
			t.Fatal("not attached")
		}
		// Another agent with filters on an ingress qdisc leaves no place for what
		// goes out.
		s.Do(func() error { return occupy("eth0", true) })
		// Both try at once, so that the first reason may be another one.
		hears(t, told, func(got string) bool {
			return strings.HasPrefix(got, "false eth0: ") && strings.Contains(got, "tc qdisc del dev eth0 ingress")
		})
		s.Do(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			if cure == "the gate is back" {
				return netlink.QdiscDel(ingressOn(l.Attrs().Index))
			}
			return netlink.LinkDel(l)
		})
		hears(t, told, func(got string) bool { return got == "true " })
	}
}

// hears waits for something to be told.
func hears(t *testing.T, told <-chan string, want func(string) bool) {
	t.Helper()
	var all []string
	for end := time.After(5 * time.Second); ; {
		select {
		case got := <-told:
			if all = append(all, got); want(got) {
				return
			}
		case <-end:
			t.Fatalf("told only %q", all)
		}
	}
}

func ingressOn(ifindex int) *netlink.Ingress {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
}

// occupy puts an ingress qdisc in the place of clsact, quicker than a gate that
// repairs it, with a filter of another agent or without.
func occupy(name string, filter bool) error {
	i := nstest.Index(name)
	var err error
	for range 100 {
		switch err = netlink.QdiscDel(clsactQdisc(i)); {
		case errors.Is(err, unix.EBUSY): // the watch is at it this very moment
			continue
		case err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT):
			return err
		}
		if err = netlink.QdiscAdd(ingressOn(i)); err != nil {
			continue
		}
		if !filter {
			return nil
		}
		if err = foreignFilter(i); err == nil {
			return nil
		}
	}
	return err
}

// foreignFilter adds a filter that lets everything pass to what comes in.
func foreignFilter(ifindex int) error {
	p, err := passProgram(ebpf.SchedCLS, verdictNext)
	if err != nil {
		return err
	}
	defer p.Close()
	return netlink.FilterAdd(&netlink.BpfFilter{Fd: p.FD(), Name: "theirs", DirectAction: true, FilterAttrs: netlink.FilterAttrs{
		LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 7, Protocol: unix.ETH_P_ALL, Priority: 50}})
}

// passProgram is a program of another agent.
func passProgram(kind ebpf.ProgramType, verdict int32) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}})
}

// An ingress qdisc that nobody uses is replaced.
func TestEmptyIngressQdiscIsReplaced(t *testing.T) {
	s := newSite(t, ModeClsact)
	s.Do(func() error { return occupy("eth0", false) })
	g := s.open(Config{Known: vips})
	s.mustBeDark("opened")
	armVIPs(t, g, in(10*time.Second))
	s.mustAnswer("armed")
	s.run(g)
	s.Do(func() error { return occupy("eth0", false) })
	nstest.Eventually(t, "the gate is back", func() bool { return s.attached(g, "eth0") })
}

// One with filters stays as it is; what comes in is guarded at least, and the
// reason says what to do. The other interfaces have the gate.
func TestUsedIngressQdiscStays(t *testing.T) {
	s := newSite(t, ModeClsact)
	nstest.Wire(s.Host, "eth1", nil, nstest.New(t), "cli1", nil)
	s.Do(func() error { return occupy("eth0", true) })
	told := make(chan string, 10)
	g := s.open(Config{Known: vips, OnFit: func(ok bool, why string) { told <- fmt.Sprint(ok, " ", why) }})
	st := g.Status()
	if why := st.Failing["eth0"]; !strings.Contains(why, ErrIngressQdisc.Error()) || !strings.Contains(why, "tc qdisc add dev eth0 clsact") {
		t.Errorf("failing: %v", st.Failing)
	}
	if !slices.Contains(st.Interfaces, "eth1") || slices.Contains(st.Interfaces, "eth0") {
		t.Errorf("attached to %v", st.Interfaces)
	}
	s.mustBeDark("guarded by half")
	s.run(g)
	hears(t, told, func(got string) bool { return strings.HasPrefix(got, "false eth0: ") })
	if len(told) != 0 {
		t.Errorf("told more than once: %q", <-told)
	}
	s.Do(func() error {
		filters, err := clsact{}.filters(nstest.Index("eth0"), ingress)
		if len(filters) != 2 || !isGateFilter(filters[0], ingress) {
			t.Errorf("filters %v, want the gate's and theirs", filters)
		}
		return err
	})
	s.Do(func() error { return netlink.QdiscDel(ingressOn(nstest.Index("eth0"))) })
	hears(t, told, func(got string) bool { return got == "true " })
}

// A gate that is nowhere is none.
func TestNoInterfaceTakesTheGate(t *testing.T) {
	s := newSite(t, ModeClsact)
	links := 0
	s.Do(func() error {
		all, err := interfaces()
		for _, l := range all {
			links++
			err = errors.Join(err, occupy(l.Attrs().Name, true))
		}
		return err
	})
	err := s.Try(func() error { _, err := Open(Config{PinDir: s.pins, Mode: ModeClsact, Known: vips}); return err })
	if !errors.Is(err, ErrIngressQdisc) {
		t.Errorf("opened on none of %d interfaces: %v", links, err)
	}
	s.mustBeDark("an attempt that failed")
}

// Somebody who waits for the first verdict gets it when all is well, too.
func TestFitIsToldAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		told := make(chan string, 10)
		g := s.open(Config{Known: vips, OnFit: func(ok bool, why string) { told <- fmt.Sprint(ok, " ", why) }})
		if len(told) != 0 {
			t.Error("told before Run")
		}
		s.run(g)
		hears(t, told, func(got string) bool { return got == "true " })
	})
}
