package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// VMAC is the interface of a virtual router that has a MAC address of its own
// (keepalived's use_vmac): a macvlan over the interface in whose network the
// VIPs are.
type VMAC struct {
	Name string
	Base int // index of the interface below
	MAC  net.HardwareAddr
}

// ErrTaken: an interface of that name exists and is another.
var ErrTaken = errors.New("the name is another interface's")

// Is reports whether the interface is v, whoever made it.
func (v VMAC) Is(l Link) bool {
	return l.Name == v.Name && l.MACVLAN && l.Base == v.Base && bytes.Equal(l.MAC, v.MAC)
}

// MakeVMAC makes the interface if it is not there, and sets it up. It has no
// address, and sends nothing by itself: neighbours would learn where its MAC is
// from a host that does not own the VIP. The interface below stops answering ARP
// for addresses of others (arp_ignore 1), for that answer would carry its own
// MAC; that this was 0 before is returned. The source of a packet is looked up
// loosely on the new one (rp_filter 2), since the way back is the one below.
func (h *Host) MakeVMAC(v VMAC) (ignored bool, err error) {
	wrong := func(err error) error { return fmt.Errorf("make %s: %w", v.Name, err) }
	base, err := h.write.LinkByIndex(v.Base)
	if err != nil {
		return false, wrong(err)
	}
	l, err := h.write.LinkByName(v.Name)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		if err := h.write.LinkAdd(&netlink.Macvlan{
			LinkAttrs: netlink.LinkAttrs{Name: v.Name, ParentIndex: v.Base, HardwareAddr: v.MAC}, Mode: netlink.MACVLAN_MODE_PRIVATE,
		}); err != nil {
			return false, wrong(err)
		}
		if l, err = h.write.LinkByName(v.Name); err != nil {
			return false, wrong(err)
		}
	case err != nil:
		return false, wrong(err)
	case !v.Is(fromLink(l)):
		return false, wrong(fmt.Errorf("%w: a %s with the MAC %s", ErrTaken, l.Type(), l.Attrs().HardwareAddr))
	}
	if ignored, err = h.quieten(v.Name, base.Attrs().Name); err != nil {
		return false, wrong(err)
	}
	if err := h.write.LinkSetUp(l); err != nil {
		return ignored, wrong(fmt.Errorf("set it up: %w", err))
	}
	return ignored, nil
}

// quieten sets the sysctls of a VMAC and of the interface below. Without IPv6 in
// the kernel its sysctls are not there.
func (h *Host) quieten(name, base string) (ignored bool, err error) {
	err = h.inside(func() error {
		for _, s := range []struct{ family, name, value string }{
			{"ipv6", "addr_gen_mode", "1"}, {"ipv6", "accept_ra", "0"}, {"ipv6", "autoconf", "0"},
			{"ipv4", "arp_ignore", "1"}, {"ipv4", "rp_filter", "2"},
		} {
			err := os.WriteFile(confPath(s.family, name, s.name), []byte(s.value), 0o644)
			if err != nil && !(s.family == "ipv6" && errors.Is(err, os.ErrNotExist)) {
				return err
			}
		}
		at := confPath("ipv4", base, "arp_ignore")
		was, err := os.ReadFile(at)
		if err != nil || strings.TrimSpace(string(was)) != "0" {
			return err
		}
		ignored = true
		return os.WriteFile(at, []byte("1"), 0o644)
	})
	return ignored, err
}

// confPath is where an interface's sysctl is: its name may have dots in it.
func confPath(family, dev, name string) string {
	return filepath.Join("/proc/sys/net", family, "conf", dev, name)
}

// RemoveVMAC takes an interface away that MakeVMAC made; that it is gone is no
// error, and one of that name with another MAC is left alone.
func (h *Host) RemoveVMAC(name string, mac net.HardwareAddr) error {
	l, err := h.write.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil && fromLink(l).MACVLAN && bytes.Equal(l.Attrs().HardwareAddr, mac) {
		err = h.write.LinkDel(l)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// AnswerAnywhere sets an interface's arp_ignore back to 0, if it is still 1. That
// the interface is gone is no error.
func (h *Host) AnswerAnywhere(dev string) error {
	err := h.inside(func() error {
		at := confPath("ipv4", dev, "arp_ignore")
		now, err := os.ReadFile(at)
		if err != nil || strings.TrimSpace(string(now)) != "1" {
			return err
		}
		return os.WriteFile(at, []byte("0"), 0o644)
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put back arp_ignore of %s: %w", dev, err)
	}
	return nil
}
