package gate

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lbcluster/internal/nstest"
)

var vips = []netip.Addr{vip, vip6}

// armVIPs arms both.
func armVIPs(t *testing.T, g *Gate, deadline int64) {
	t.Helper()
	for _, a := range vips {
		arm(t, g, a, deadline)
	}
}

func TestDarkUntilArmedAndAfterTheDeadline(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.mustAnswer("without a gate")
		g := s.open(Config{Known: vips})
		s.mustBeDark("after Open")

		armVIPs(t, g, in(10*time.Second))
		s.mustAnswer("armed")

		// No request that left after the deadline is answered. (When an answer
		// was read says less: this test may be stalled before it reads.)
		deadline := in(300 * time.Millisecond)
		armVIPs(t, g, deadline)
		answers, late := 0, 0
		for sent := BootNow(); sent < deadline+int64(100*time.Millisecond); sent = BootNow() {
			if s.client.arp(vip, 10*time.Millisecond) {
				answers++
				if sent >= deadline {
					late++
				}
			}
		}
		if answers < 10 || late > 0 {
			t.Errorf("%d answers, %d of them to requests after the deadline", answers, late)
		}
		s.mustBeDark("after the deadline")

		armVIPs(t, g, in(10*time.Second))
		s.mustAnswer("armed again")
		if err := g.Close(vips); err != nil {
			t.Fatal(err)
		}
		s.mustBeDark("closed")

		for _, a := range vips {
			c := g.Counters()[a]
			if c.NeighbourIn.Passed == 0 || c.NeighbourIn.Dropped == 0 || c.IPIn.Passed == 0 || c.IPIn.Dropped == 0 ||
				c.NeighbourOut.Passed == 0 || c.IPOut.Passed == 0 || !slices.Equal(c.PassedBy.MAC, macB[:]) || !slices.Equal(c.DroppedBy.MAC, macB[:]) {
				t.Errorf("%s: counters %+v", a, c)
			}
		}
	})
}

// What a thawed process announces, or one that is late, stays inside.
func TestEgressIsGated(t *testing.T) {
	announcements := map[string][]byte{
		"gratuitous ARP":             ether(ones, macA, etherARP, arpPacket(1, macA, vip, ones, vip)),
		"unsolicited advertisement":  ether(groupMAC(allNodes), macA, etherIPv6, ip6Packet(node6, allNodes, 58, onLink, nil, nd(node6, allNodes, 136, vip6, 2, macA))),
		"VRRP advert":                ether(groupMAC(mcast), macA, etherIPv4, ipPacket(node, mcast, 112, 0, nil, advert(3, 100, vip))),
		"VRRP advert over IPv6":      ether(groupMAC(mcast6), macA, etherIPv6, ip6Packet(link6, mcast6, 112, onLink, nil, advert(3, 100, link6, vip6))),
		"a packet from the VIP":      ether(macB, macA, etherIPv4, ipPacket(vip, client, 17, 0, nil, make([]byte, 8))),
		"a packet from the IPv6 VIP": ether(macB, macA, etherIPv6, ip6Packet(vip6, client6, 17, 64, nil, make([]byte, 8))),
	}
	eachMode(t, func(t *testing.T, s *site) {
		g := s.open(Config{Known: vips})
		out := nstest.NewTap(t, s.Host, "eth0")
		heard := func(frame []byte) bool {
			out.Send(frame)
			return s.client.Hears(2*silent, func(b []byte) bool { return slices.Equal(b, frame) })
		}
		for name, frame := range announcements {
			if heard(frame) {
				t.Errorf("%s left with the gate closed", name)
			}
		}
		armVIPs(t, g, in(10*time.Second))
		for name, frame := range announcements {
			if !heard(frame) {
				t.Errorf("%s did not leave with the gate open", name)
			}
		}
	})
}

func TestKilledProcessLeavesTheGateClosed(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		c := s.child()
		s.mustAnswer("held by the child")
		c.signal(t, unix.SIGKILL)
		s.darkInTime("killed")
		if n := s.gates(); n != 2 {
			t.Fatalf("%d programs of the gate are left on eth0, want 2", n)
		}

		g := s.open(Config{})
		s.mustBeDark("after a new process has opened the gate")
		if n := s.gates(); n != 2 {
			t.Fatalf("%d programs of the gate on eth0, want 2", n)
		}
		armVIPs(t, g, in(10*time.Second)) // known from the old map alone
		s.mustAnswer("held by the new process")
	})
}

func TestFrozenProcess(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		c := s.child()
		s.mustAnswer("held by the child")
		c.signal(t, unix.SIGSTOP)
		s.darkInTime("frozen")
		c.signal(t, unix.SIGCONT)
		s.mustAnswer("thawed, and nobody took over")

		c.signal(t, unix.SIGSTOP)
		g := s.open(Config{})
		s.mustBeDark("a new process has opened the gate")
		c.signal(t, unix.SIGCONT)
		c.expect(t, "run: "+ErrSuperseded.Error())
		s.mustBeDark("the thawed process arms a dead map")
		armVIPs(t, g, in(10*time.Second))
		s.mustAnswer("held by the new process")
	})
}

// A process that opens closes the gate at once, even one armed far ahead.
func TestTakeOverClosesFirst(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		old := s.open(Config{Known: vips})
		armVIPs(t, old, in(30*time.Second))
		s.mustAnswer("held")
		s.open(Config{})
		s.mustBeDark("taken over")
		armVIPs(t, old, in(30*time.Second))
		s.mustBeDark("the old one armed its map again")
	})
}

// Pins can be lost (a private mount); the programs still name the old map.
func TestTakeOverWithoutPins(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		old := s.open(Config{Known: []netip.Addr{vip, vip6, vip2}})
		armVIPs(t, old, in(30*time.Second))
		for _, name := range []string{vipsName, deadlinesName, countersName} {
			if err := os.Remove(filepath.Join(s.pins, name)); err != nil {
				t.Fatal(err)
			}
		}
		g := s.open(Config{})
		s.mustBeDark("taken over")
		if len(g.Status().VIPs) != 3 {
			t.Errorf("knows %v, want all addresses of the old map", g.Status().VIPs)
		}
		if n := s.gates(); n != 2 {
			t.Errorf("%d programs of the gate on eth0, want 2", n)
		}
	})
}

func TestModeChange(t *testing.T) {
	needRoot(t)
	if !haveTCX() {
		t.Skip("this kernel has no tcx (6.6 and later), so only one mode")
	}
	s := newSite(t, "")
	for _, mode := range []string{ModeClsact, ModeTCX, ModeClsact} {
		g := s.open(Config{Mode: mode, Known: vips})
		s.mustBeDark("opened as " + mode)
		if n := s.gates(); n != 2 || !s.attached(g, "eth0") {
			t.Errorf("as %s: %d programs on eth0, want 2; ours on: %v", mode, n, s.attached(g, "eth0"))
		}
		armVIPs(t, g, in(10*time.Second))
		s.mustAnswer("armed as " + mode)
	}
}

func TestNewInterfaceGetsTheGate(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		g := s.open(Config{Known: vips})
		before := g.Status().Interfaces
		if !slices.Contains(before, "eth0") || slices.Contains(before, "lo") {
			t.Fatalf("attached to %v after Open", before)
		}
		stop := s.run(g)
		s.Do(func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth1"}, PeerName: "peer1"})
		})
		// A kernel may put interfaces of its own into each namespace (tunl0).
		want := slices.Sorted(slices.Values(append(slices.Clone(before), "eth1", "peer1")))
		nstest.Eventually(t, "the gate is on the new interfaces", func() bool { return slices.Equal(g.Status().Interfaces, want) })
		if !s.attached(g, "eth1") || g.Status().Reattached != 0 {
			t.Errorf("attached: %v, status %+v", s.attached(g, "eth1"), g.Status())
		}
		s.Do(func() error {
			l, err := netlink.LinkByName("eth1")
			return errors.Join(err, netlink.LinkDel(l))
		})
		nstest.Eventually(t, "gone interfaces are forgotten", func() bool { return slices.Equal(g.Status().Interfaces, before) })
		if s.mode == ModeTCX {
			if pins, err := os.ReadDir(filepath.Join(s.pins, linksDir)); err != nil || len(pins) != 2*len(before) {
				t.Errorf("%d pinned links (%v), want two for each of %v", len(pins), err, before)
			}
		}
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if !s.attached(g, "eth0") {
			t.Error("the gate left with Run")
		}
		s.mustBeDark("after Run")
	})
}

// A later process must find the maps, or it could not close them.
func TestRemovedMapPinsComeBack(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		g := s.open(Config{Known: vips})
		s.run(g)
		for _, one := range g.maps.named() {
			if err := os.Remove(filepath.Join(s.pins, one.name)); err != nil {
				t.Fatal(err)
			}
		}
		nstest.Eventually(t, "the maps are pinned again", func() bool {
			ours, err := g.maps.owned(s.pins)
			return err == nil && ours
		})
	})
}

func TestSetVIPs(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		g := s.open(Config{})
		if err := g.Arm(vip, in(time.Second)); !errors.Is(err, ErrUnknownVIP) {
			t.Errorf("Arm of an unknown address: %v", err)
		}
		s.mustAnswer("not a VIP")
		set := func(addrs ...netip.Addr) error { return s.Try(func() error { return g.SetVIPs(plainVIPs(addrs...)) }) }
		if err := set(vip, vip6, vip2); err != nil {
			t.Fatal(err)
		}
		s.mustBeDark("a VIP now")
		armVIPs(t, g, in(10*time.Second))
		if err := set(vip, vip6); err != nil {
			t.Fatal(err)
		}
		s.mustAnswer("it stays armed when others go")

		err := set()
		if !errors.Is(err, ErrAddressPresent) {
			t.Fatalf("SetVIPs without an address that is on eth0: %v", err)
		}
		s.mustBeDark("given up with its address still there")
		s.Do(func() error {
			return nstest.DelAddr("eth0", vip.String()+"/32", vip6.String()+"/128")
		})
		if err := set(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Arm(vip, in(time.Second)), g.Close(vips)); !errors.Is(err, ErrUnknownVIP) {
			t.Errorf("after removal: %v", err)
		}
		s.Do(func() error { return nstest.AddAddr("eth0", vip.String()+"/32", vip6.String()+"/128") })
		s.mustAnswer("not a VIP any more")
	})
}

func TestRemove(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.open(Config{Known: vips})
		s.Do(func() error { return Remove(s.pins) })
		if n := s.gates(); n != 0 {
			t.Errorf("%d programs left", n)
		}
		if _, err := os.Stat(s.pins); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("pins left: %v", err)
		}
		s.mustAnswer("removed")
		s.Do(func() error { return Remove(s.pins) }) // again: nothing to do
	})
}

func TestOpenMountsBPFFS(t *testing.T) {
	needRoot(t)
	h := nstest.New(t)
	dir := filepath.Join(t.TempDir(), "pins")
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	var g *Gate
	h.Do(func() (err error) { g, err = Open(Config{PinDir: dir}); return err })
	defer g.Abandon()
	if on, err := onBPFFS(dir); err != nil || !on {
		t.Errorf("on bpffs: %v, %v", on, err)
	}
	if g.mode != ModeClsact {
		t.Errorf("mode %s: pins in a mount that may be private must not hold the gate", g.mode)
	}
	h.Do(func() error { return Remove(dir) })
}

func TestOpenRefuses(t *testing.T) {
	needRoot(t)
	dir := mountPins(t)
	for name, c := range map[string]struct {
		cfg  Config
		want error
	}{
		"multicast":    {Config{PinDir: dir, Known: []netip.Addr{netip.MustParseAddr("ff02::1")}}, ErrNotUnicast},
		"nothing":      {Config{PinDir: dir, Known: []netip.Addr{{}}}, ErrNotUnicast},
		"unknown mode": {Config{PinDir: dir, Mode: "xdp"}, nil},
	} {
		g, err := Open(c.cfg)
		if err == nil || g != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An ordinary user gets a sentence, not an errno.
func TestOpenWithoutPrivilege(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+dir+" "+ModeClsact)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), ErrPermission.Error()) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestArmRefusesOddDeadlines(t *testing.T) {
	g := bare(t, vip)
	for _, d := range []int64{0, -1, in(2 * MaxAhead), 1 << 62} {
		if err := g.Arm(vip, d); !errors.Is(err, ErrDeadline) {
			t.Errorf("Arm(%d): %v", d, err)
		}
	}
}

// A slot that belongs to another address by now must not be opened by an Arm
// that found it before.
func TestRetiredSlotStaysShut(t *testing.T) {
	g := bare(t, vip)
	s := (*g.slots.Load())[vip]
	verdict(t, g, ingress, gatedPackets()[ingress]["ip tcp"])
	if err := g.change(map[netip.Addr]bool{vip2: false}, []netip.Addr{vip}); err != nil {
		t.Fatal(err)
	}
	if now := (*g.slots.Load())[vip2]; now.index != s.index {
		t.Fatalf("the test expects slot %d to be used again, got %d", s.index, now.index)
	}
	if s.set(in(time.Second)) || *s.word != 0 {
		t.Error("a retired slot was opened")
	}
	if c := g.Counters()[vip2]; c.IPIn.Dropped != 0 || c.DroppedBy.MAC != nil {
		t.Errorf("the new address inherited counters: %+v", c)
	}
}

func TestTooManyVIPs(t *testing.T) {
	for _, first := range []string{"10.0.0.0", "2001:db8::1:0"} {
		g := bare(t)
		var many []netip.Addr
		for a := netip.MustParseAddr(first); len(many) <= MaxVIPs; a = a.Next() {
			many = append(many, a)
		}
		if err := g.SetVIPs(plainVIPs(many...)); err == nil {
			t.Error("more addresses than slots were accepted")
		}
		if n := len(g.Status().VIPs); n != MaxVIPs {
			t.Errorf("%d addresses are in, want %d: what fits must be closed rather than open", n, MaxVIPs)
		}
		want := "next"
		if many[0].Is6() {
			want = "drop"
		}
		wantVerdicts(t, g, "full from "+first, map[direction]map[string][]byte{ingress: obscure6()}, want)
	}
}

func TestClockShifted(t *testing.T) {
	for text, want := range map[string]bool{
		"monotonic           0         0\nboottime            0         0\n":  false,
		"monotonic           5         0\nboottime            0         0\n":  false,
		"monotonic           0         0\nboottime          -86400       0\n": true,
		"": false,
	} {
		path := filepath.Join(t.TempDir(), "offsets")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := clockShifted(path); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if shifted, err := clockShifted("/nonexistent"); shifted || err != nil {
		t.Errorf("a kernel without time namespaces: %v, %v", shifted, err)
	}
}

// A process that is frozen while it opens must not make the next one hang.
func TestLockGivesUp(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), silent)
	defer cancel()
	if _, err := lock(ctx, dir); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), dir) {
		t.Errorf("while another holds it: %v", err)
	}
	unlock()
	unlock, err = lock(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// plainVIPs are VIPs that are not served on this host.
func plainVIPs(addrs ...netip.Addr) []VIP {
	var out []VIP
	for _, a := range addrs {
		out = append(out, VIP{Addr: a})
	}
	return out
}
