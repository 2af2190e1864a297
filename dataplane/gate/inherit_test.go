package gate

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"lbcluster/internal/nstest"
)

// A restart within the deadline: the client sees nothing of it.
func TestInheritKeepsTheGateOpen(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		old := s.open(Config{Known: append(vips, vip2), Mark: testMark})
		until := in(1500 * time.Millisecond)
		armVIPs(t, old, until)
		s.mustAnswer("held")
		stop := s.answersAllTheTime()
		g := s.open(Config{Inherit: true, Mark: testMark})
		if lost := stop(); lost != 0 {
			t.Errorf("%d questions were not answered while the gate was inherited", lost)
		}
		if got := g.Inherited(); len(got) != 2 || got[vip] != until || got[vip6] != until {
			t.Errorf("inherited %v, want both VIPs until %d, and not the closed one", got, until)
		}
		if n := s.gates(); n != 2 {
			t.Errorf("%d programs of the gate on eth0, want 2", n)
		}
		for a, left := range map[netip.Addr]time.Duration{vip: old.Status().VIPs[vip], vip2: g.Status().VIPs[vip2]} {
			if left != 0 {
				t.Errorf("%s is open for %v", a, left)
			}
		}
		armVIPs(t, old, in(time.Minute/2)) // in vain: nobody reads its map
		s.untilDeadline(until)
		s.mustBeDark("after the inherited deadline")
	})
}

// The same with a process that was killed. On a slow machine its deadline may
// pass before the next one has opened, so one restart of a few must do.
func TestInheritFromTheKilled(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for range 4 {
			c := s.child()
			s.mustAnswer("held by the child")
			c.signal(t, unix.SIGKILL)
			_ = c.cmd.Wait()
			g := s.open(Config{Inherit: true})
			got := g.Inherited()
			for a, d := range got {
				if left := d - BootNow(); left > int64(armFor) {
					t.Fatalf("%s: inherited %v, more than the child armed", a, time.Duration(left))
				}
			}
			if len(got) == len(vips) {
				armVIPs(t, g, in(10*time.Second))
				s.mustAnswer("held on by the next process")
				return
			}
		}
		t.Error("nothing was inherited from four killed processes")
	})
}

// untilDeadline waits for a deadline to pass.
func (s *site) untilDeadline(deadline int64) {
	time.Sleep(time.Duration(deadline-BootNow()) + time.Millisecond)
}

// answersAllTheTime asks for the VIP without a pause, until the caller stops
// it, and then tells how many questions were not answered.
func (s *site) answersAllTheTime() (stop func() (lost int)) {
	end, result := make(chan struct{}), make(chan int)
	go func() {
		for lost := 0; ; {
			select {
			case <-end:
				result <- lost
				return
			default:
			}
			if !s.client.arp(vip, 200*time.Millisecond) {
				lost++
			}
		}
	}()
	return func() int { close(end); return <-result }
}

// Without being told that the predecessor is dead, nothing is inherited.
func TestNothingIsInheritedUnasked(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		armVIPs(t, s.open(Config{Known: vips}), in(10*time.Second))
		if got := s.open(Config{}).Inherited(); len(got) != 0 {
			t.Errorf("inherited %v", got)
		}
		s.mustBeDark("taken over")
	})
}

// What is odd in the earlier gate is not inherited.
func TestOddDeadlinesAreNotInherited(t *testing.T) {
	s := newSite(t, ModeClsact)
	old := s.open(Config{Known: append(vips, vip2, client)})
	armVIPs(t, old, in(10*time.Second))
	arm(t, old, vip2, in(-time.Second))
	*(*old.slots.Load())[client].word = in(2 * MaxAhead)
	if got := s.open(Config{Inherit: true}).Inherited(); len(got) != 2 || got[vip] == 0 || got[vip6] == 0 {
		t.Errorf("inherited %v, want what was armed alone", got)
	}
}

// Two earlier gates that both hold something: neither is believed.
func TestTwoGatesAreNotInherited(t *testing.T) {
	needRoot(t)
	if !haveTCX() {
		t.Skip("this kernel has no tcx (6.6 and later)")
	}
	s := newSite(t, ModeTCX)
	armVIPs(t, s.open(Config{Known: vips, Mode: ModeTCX}), in(10*time.Second))
	other := &Gate{}
	s.Do(func() error {
		if err := errors.Join(other.prepareMaps(vips, nil, false), other.loadPrograms()); err != nil {
			return err
		}
		return clsact{}.attach(nstest.Index("eth0"), ingress, other.progs[ingress])
	})
	t.Cleanup(other.Abandon)
	armVIPs(t, other, in(10*time.Second))
	if got := s.open(Config{Inherit: true}).Inherited(); len(got) != 0 {
		t.Errorf("inherited %v", got)
	}
	s.mustBeDark("two gates before this one")
}

// An Open that fails, before or after it has attached, leaves both gates closed.
func TestFailedInheritanceCloses(t *testing.T) {
	for what, name := range map[string]string{
		"the old map cannot be read":   vipsName,
		"the new map cannot be pinned": vipsName + freshSuffix,
	} {
		s := newSite(t, ModeClsact)
		armVIPs(t, s.open(Config{Known: vips}), in(10*time.Second))
		folder := filepath.Join(s.pins, name)
		if err := os.Remove(folder); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(folder, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		err := s.Try(func() error { _, err := Open(Config{PinDir: s.pins, Mode: ModeClsact, Inherit: true}); return err })
		if err == nil {
			t.Fatal(what + ": opened")
		}
		s.mustBeDark(what)
		if n := s.gates(); n != 2 {
			t.Errorf("%s: %d programs left on eth0, want 2", what, n)
		}
		if err := errors.Join(os.Remove(filepath.Join(folder, "x")), os.Remove(folder)); err != nil {
			t.Fatal(err)
		}
	}
}

// A local VIP goes on being served here through a restart.
func TestLocalVIPsAreTakenOver(t *testing.T) {
	s := newSite(t, ModeClsact)
	// The layout of a real server: the VIP on lo, and the node's own address in
	// its ARP requests.
	s.Do(func() error {
		both := []string{vip.String() + "/32", vip6.String() + "/128"}
		return errors.Join(nstest.DelAddr("eth0", both...), nstest.AddAddr("lo", both...),
			os.WriteFile("/proc/sys/net/ipv4/conf/all/arp_announce", []byte("2"), 0))
	})
	old := s.open(Config{Mark: testMark})
	if err := errors.Join(s.Try(func() error { return old.SetVIPs(localV) }), old.SetMembers([]net.HardwareAddr{macB[:]})); err != nil {
		t.Fatal(err)
	}
	reachable := func() bool { return s.client.ping(vip, silent) && s.client.ping6(vip6, silent) }
	nstest.Eventually(t, "the local VIPs are reached from a member", reachable)
	s.open(Config{Mark: testMark})
	nstest.Eventually(t, "the local VIPs are reached from a member after a restart", reachable)
	if s.client.arp(vip, silent) || s.client.solicit(vip6, silent) {
		t.Error("it answers for a VIP that it does not own")
	}
	s.open(Config{}) // no mark, none local
	s.mustBeDark("a process without a mark")
}

func TestCloseAll(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		if addrs, err := s.closeAll(); err != nil || len(addrs) != 0 {
			t.Errorf("without a gate: %v, %v", addrs, err)
		}
		c := s.child()
		s.mustAnswer("held by the child")
		c.signal(t, unix.SIGKILL)
		c.cmd.Wait()
		s.wantClosed("killed")
		s.mustBeDark("closed")
		if n := s.gates(); n != 2 {
			t.Errorf("%d programs left on eth0, want 2: closing takes nothing off", n)
		}
		s.wantClosed("again")
		g := s.open(Config{Inherit: true})
		if len(g.Inherited()) != 0 {
			t.Errorf("inherited from a closed gate: %v", g.Inherited())
		}
		armVIPs(t, g, in(10*time.Second))
		s.mustAnswer("the next process")
	})
}

func (s *site) closeAll() (addrs []netip.Addr, err error) {
	err = s.Try(func() (err error) { addrs, err = CloseAll(s.pins); return err })
	return addrs, err
}

func (s *site) wantClosed(when string) {
	s.t.Helper()
	if addrs, err := s.closeAll(); err != nil || !slices.Equal(addrs, vips) {
		s.t.Errorf("%s: CloseAll says %v, %v; want %v", when, addrs, err, vips)
	}
}

// The pins may be gone, or the gate of another folder.
func TestCloseAllFindsProgramsWithoutPins(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		armVIPs(t, s.open(Config{Known: vips}), in(10*time.Second))
		for _, name := range mapNames {
			if err := os.Remove(filepath.Join(s.pins, name)); err != nil {
				t.Fatal(err)
			}
		}
		s.wantClosed("without pins")
		s.mustBeDark("closed by the programs alone")
	})
}

// While another process is opening, what it copied may still become live.
func TestCloseAllBesideAnOpening(t *testing.T) {
	s := newSite(t, ModeClsact)
	armVIPs(t, s.open(Config{Known: vips}), in(10*time.Second))
	unlock, err := lock(t.Context(), s.pins)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	addrs, err := s.closeAll()
	if err == nil {
		t.Error("no error although another process was opening the gate")
	}
	if fmt.Sprint(addrs) != fmt.Sprint(vips) {
		t.Errorf("closed %v, want %v all the same", addrs, vips)
	}
	s.mustBeDark("closed all the same")
}

// spy looks at things just before each program is attached.
type spy struct {
	hook
	look func()
}

func (s spy) attach(ifindex int, d direction, p *ebpf.Program) error {
	s.look()
	return s.hook.attach(ifindex, d, p)
}

// The order of a take-over: nothing is open in either map when the first program
// is swapped, or else both have the same deadlines.
func TestMapsBeforeTheFirstSwap(t *testing.T) {
	for _, inherit := range []bool{false, true} {
		s := newSite(t, ModeClsact)
		old := s.open(Config{Known: vips})
		until := in(10 * time.Second)
		armVIPs(t, old, until)
		want := int64(0)
		if inherit {
			want = until
		}
		g := &Gate{dir: s.pins, mode: ModeClsact, log: slog.New(slog.DiscardHandler)}
		looked := 0
		g.hook = spy{clsact{}, func() {
			looked++
			for _, a := range vips {
				was, is := *(*old.slots.Load())[a].word, *(*g.slots.Load())[a].word
				if was != want || is != want {
					t.Errorf("inherit %v: attaching while %s is open until %d in the old map and %d in the new one, want %d", inherit, a, was, is, want)
				}
			}
		}}
		s.Do(func() error { return g.takeOver(nil, inherit) })
		t.Cleanup(g.Abandon)
		if looked < 2 {
			t.Errorf("attached %d times", looked)
		}
		for _, a := range vips {
			if was := *(*old.slots.Load())[a].word; was != 0 {
				t.Errorf("inherit %v: the old map stays open", inherit)
			}
		}
	}
}
