package nstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NeedRoot skips the test where the kernel would refuse everything.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
}

// Host is a network namespace with a thread of its own.
type Host struct {
	t    testing.TB
	ns   netns.NsHandle
	jobs chan func()
}

// New makes a namespace with lo up. It vanishes with the test.
func New(t testing.TB) *Host {
	t.Helper()
	NeedRoot(t)
	h := &Host{t: t, jobs: make(chan func())}
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
	h.Do(func() error { return Up("lo") })
	return h
}

// Do runs f in the namespace and fails the test on an error. One f runs at a
// time.
func (h *Host) Do(f func() error) {
	h.t.Helper()
	if err := h.Try(f); err != nil {
		h.t.Fatal(err)
	}
}

// Try runs f in the namespace.
func (h *Host) Try(f func() error) error {
	done := make(chan error)
	h.jobs <- func() { done <- f() }
	return <-done
}

// Go runs f on a thread of its own in the namespace; the channel yields what f
// returns.
func (h *Host) Go(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := netns.Set(h.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return done
}

// Wire lays a cable: an Ethernet interface on each host, up, with the given
// hardware address (nil: any). It returns when both have a carrier, since until
// then the kernel drops what is sent without a word.
func Wire(a *Host, aName string, aMAC net.HardwareAddr, b *Host, bName string, bMAC net.HardwareAddr) {
	a.t.Helper()
	a.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: aName, HardwareAddr: aMAC},
			PeerName:  bName, PeerHardwareAddr: bMAC, PeerNamespace: netlink.NsFd(b.ns),
		})
	})
	b.Do(func() error { return Up(bName) })
	a.Do(func() error { return errors.Join(Up(aName), carrier(aName)) })
	b.Do(func() error { return carrier(bName) })
}

func carrier(name string) error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
	}
	return fmt.Errorf("%s has no carrier", name)
}

// The rest works in the namespace of the calling thread: call it in Do.

// Add makes an interface and sets it up. ErrNoKind: the kernel has no such kind.
func Add(l netlink.Link) error {
	if err := netlink.LinkAdd(l); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = ErrNoKind
		}
		return fmt.Errorf("add %s (%s): %w", l.Attrs().Name, l.Type(), err)
	}
	return Up(l.Attrs().Name)
}

// ErrNoKind: this kernel cannot make such an interface.
var ErrNoKind = errors.New("this kernel has no such kind of interface")

// Up sets an interface up.
func Up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return netlink.LinkSetUp(l)
}

// Delete removes an interface.
func Delete(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return netlink.LinkDel(l)
}

// Enslave puts an interface under a bridge or bond.
func Enslave(name, master string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	m, err := netlink.LinkByName(master)
	if err != nil {
		return fmt.Errorf("%s: %w", master, err)
	}
	return netlink.LinkSetMaster(l, m)
}

// Index is an interface's number; 0: there is none of that name.
func Index(name string) int {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0
	}
	return l.Attrs().Index
}

// AddAddr adds addresses (CIDR) to an interface; IPv6 ones can be used at once.
func AddAddr(name string, prefixes ...string) error {
	return eachAddr(name, prefixes, netlink.AddrAdd)
}

// DelAddr removes addresses (CIDR).
func DelAddr(name string, prefixes ...string) error {
	return eachAddr(name, prefixes, netlink.AddrDel)
}

func eachAddr(name string, prefixes []string, do func(netlink.Link, *netlink.Addr) error) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range prefixes {
		a, err := netlink.ParseAddr(p)
		if err != nil {
			return err
		}
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := do(l, a); err != nil {
			return fmt.Errorf("%s on %s: %w", p, name, err)
		}
	}
	return nil
}
