package vip

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"lbcluster/dataplane/fence"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNoPermit: the lease does not cover the address now, so nothing was done.
var ErrNoPermit = errors.New("the lease does not cover the address now")

// Host is the interfaces of one network namespace. Safe for concurrent use.
type Host struct {
	ns netns.NsHandle // netns.None(): the process's own
	// write and read are two sockets, so that a change never waits for a dump.
	write, read *netlink.Handle
	overruns    atomic.Uint64

	mu      sync.Mutex
	senders map[senderKey]*sender
}

// requestTimeout bounds one netlink request.
const requestTimeout = 2 * time.Second

// New opens a Host in a network namespace; netns.None() is the process's own,
// which needs no more than CAP_NET_ADMIN and CAP_NET_RAW. The handle must stay
// open until Close.
func New(ns netns.NsHandle) (*Host, error) {
	h := &Host{ns: ns, senders: map[senderKey]*sender{}}
	for _, p := range []**netlink.Handle{&h.write, &h.read} {
		var err error
		// Without families the library opens sockets that some kernels lack.
		if ns.IsOpen() {
			*p, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
		} else {
			*p, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
		if err == nil {
			err = (*p).SetSocketTimeout(requestTimeout)
		}
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("open route netlink: %w", err)
		}
	}
	return h, nil
}

// Close closes all sockets; the Host is of no use afterwards.
func (h *Host) Close() {
	for _, n := range []*netlink.Handle{h.write, h.read} {
		if n != nil {
			n.Close()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.senders {
		h.forget(k)
	}
}

// inside runs f on a thread that is in the Host's namespace.
func (h *Host) inside(f func() error) error {
	if !h.ns.IsOpen() {
		return f()
	}
	runtime.LockOSThread()
	old, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer old.Close()
	if err := netns.Set(h.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer func() {
		if netns.Set(old) == nil {
			runtime.UnlockOSThread() // else the thread dies with its goroutine
		}
	}()
	return f()
}

// Add puts prefix on the interface, if p covers its address now (else
// ErrNoPermit). It reports whether it had been there already: then somebody
// else made it, and nothing was changed.
func (h *Host) Add(p fence.Permit, index int, prefix netip.Prefix, label string) (existed bool, err error) {
	if !p.Covers(prefix.Addr()) {
		return false, fmt.Errorf("add %s: %w", prefix, ErrNoPermit)
	}
	err = h.write.AddrAdd(link(index), address(prefix, label))
	return added(err, prefix, index)
}

// added reads the kernel's answer to a new address.
func added(err error, prefix netip.Prefix, index int) (existed bool, _ error) {
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, unix.EEXIST):
		return true, nil
	case errors.Is(err, unix.EACCES) && prefix.Addr().Is6():
		err = fmt.Errorf("%w (IPv6 is switched off there: sysctl net.ipv6.conf.*.disable_ipv6)", err)
	}
	return false, fmt.Errorf("add %s to interface %d: %w", prefix, index, err)
}

// Remove takes exactly this prefix off the interface. That it is gone already,
// or the interface is, is no error.
func (h *Host) Remove(index int, prefix netip.Prefix) error {
	err := h.write.AddrDel(link(index), address(prefix, ""))
	if err == nil || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("remove %s from interface %d: %w", prefix, index, err)
}

func link(index int) netlink.Link {
	return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// address is what to write for a prefix. An IPv6 VIP comes without duplicate
// address detection, which would keep it from use for a second or more and fail
// where the owner before is slow to go; the lease says that there is no
// duplicate. One of /128 is deprecated from the start (as keepalived's are):
// the kernel then never picks it as the source of this host's own connections.
func address(p netip.Prefix, label string) *netlink.Addr {
	n := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	a := &netlink.Addr{IPNet: n, Label: label}
	if p.Addr().Is6() {
		a.Label, a.Flags = "", unix.IFA_F_NODAD // no labels in IPv6
		if p.IsSingleIP() {
			a.ValidLft, a.PreferedLft = math.MaxUint32, 0
		}
	}
	return a
}

// Snapshot reads all interfaces and addresses.
func (h *Host) Snapshot() (Snapshot, error) {
	links, err := dump(func() ([]netlink.Link, error) { return h.read.LinkList() })
	if err != nil {
		return Snapshot{}, fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.read.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return Snapshot{}, fmt.Errorf("list addresses: %w", err)
	}
	var s Snapshot
	for _, l := range links {
		s.Links = append(s.Links, fromLink(l))
	}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		s.Addrs = append(s.Addrs, Addr{Index: a.LinkIndex, Prefix: netip.PrefixFrom(ip.Unmap(), ones), Label: a.Label,
			Tentative: a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0})
	}
	return s, nil
}

// dump lists again when the table changed while it was read.
func dump[T any](list func() ([]T, error)) (out []T, err error) {
	for range 5 {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}

func fromLink(l netlink.Link) Link {
	a := l.Attrs()
	return Link{
		MACVLAN: l.Type() == "macvlan", Base: a.ParentIndex,
		Index: a.Index, Name: a.Name, MAC: a.HardwareAddr,
		Loopback: a.Flags&net.FlagLoopback != 0,
		Up:       a.Flags&net.FlagUp != 0,
		Carrier:  a.RawFlags&unix.IFF_LOWER_UP != 0,
	}
}

// Overruns counts how often the kernel dropped messages that Watch should have
// had; each time it called changed instead.
func (h *Host) Overruns() uint64 { return h.overruns.Load() }

// watchBuffer is the socket's; a burst beyond it is an overrun. Variable for tests.
var watchBuffer = 1 << 20

// Watch calls changed once it has subscribed, and then each time an address or
// a link changed, or might have, until ctx ends; then it returns nil. While
// changed runs, messages queue in the socket.
func (h *Host) Watch(ctx context.Context, changed func()) error {
	s, err := nl.SubscribeAt(h.ns, netns.None(), unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("subscribe to addresses and links: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, s.Close)()
	if err := s.SetReceiveBufferSize(watchBuffer, false); err != nil {
		return fmt.Errorf("receive buffer: %w", err)
	}
	changed()
	for {
		_, _, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			h.overruns.Add(1)
		case err != nil:
			return fmt.Errorf("watch addresses and links: %w", err)
		}
		changed()
	}
}
