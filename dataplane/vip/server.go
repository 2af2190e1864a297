package vip

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// AddLoopback puts a VIP on the loopback interface of a host that serves it as
// a real server, and reports whether it had been there. It needs no permit: what
// is on lo answers no ARP where arp_ignore is set, no neighbour solicitation at
// all, and is announced by nobody. Another interface is refused.
func (h *Host) AddLoopback(index int, prefix netip.Prefix) (existed bool, err error) {
	l, err := h.write.LinkByIndex(index)
	if err != nil {
		return false, fmt.Errorf("add %s to lo: %w", prefix, err)
	}
	if l.Attrs().Flags&net.FlagLoopback == 0 {
		return false, fmt.Errorf("add %s to %s: %w", prefix, l.Attrs().Name, ErrNoPermit)
	}
	return added(h.write.AddrAdd(link(index), address(prefix, "")), prefix, index)
}

// Sysctl reads a sysctl of the Host's namespace by its dotted name; no part of
// the name may have a dot of its own.
func (h *Host) Sysctl(name string) (string, error) {
	var b []byte
	err := h.inside(func() (err error) {
		b, err = os.ReadFile(sysctlPath(name))
		return err
	})
	return strings.TrimSpace(string(b)), err
}

// SetSysctl writes a sysctl.
func (h *Host) SetSysctl(name, value string) error {
	return h.inside(func() error { return os.WriteFile(sysctlPath(name), []byte(value), 0o644) })
}

func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }
