package realserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is the kernel, in the network namespace of the calling thread.
type Host struct{}

// See reads what the kernel has.
func (Host) See() (Seen, error) {
	s := Seen{ARP: map[string]map[string]int{}}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return s, fmt.Errorf("look at the interfaces: %w", err)
	}
	defer nl.Close()
	links, err := nl.LinkList()
	if err != nil {
		return s, fmt.Errorf("list the interfaces: %w", err)
	}
	if s.ARP["all"], err = readARP("all"); err != nil {
		return s, err
	}
	byIndex := map[int]*netlink.LinkAttrs{}
	for _, l := range links {
		byIndex[l.Attrs().Index] = l.Attrs()
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		values, err := readARP(l.Attrs().Name)
		if errors.Is(err, os.ErrNotExist) {
			continue // it is gone, or has no IPv4
		}
		if err != nil {
			return s, err
		}
		s.ARP[l.Attrs().Name] = values
	}
	addrs, err := nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return s, fmt.Errorf("list the addresses: %w", err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		l := byIndex[a.LinkIndex]
		if !ok || l == nil {
			continue
		}
		bits, _ := a.Mask.Size()
		s.Addresses = append(s.Addresses, Address{
			Prefix: netip.PrefixFrom(ip.Unmap(), bits), Device: l.Name, Loopback: l.Flags&net.FlagLoopback != 0,
		})
	}
	return s, nil
}

func arpPath(dev, name string) string { return "/proc/sys/net/ipv4/conf/" + dev + "/" + name }

func readARP(dev string) (map[string]int, error) {
	values := map[string]int{}
	for _, name := range []string{ignore, announce} {
		b, err := os.ReadFile(arpPath(dev, name))
		if err != nil {
			return nil, fmt.Errorf("read the ARP settings of %s: %w", dev, err)
		}
		if values[name], err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", name, dev, err)
		}
	}
	return values, nil
}

// SetARP sets arp_ignore or arp_announce of "all".
func (Host) SetARP(name string, value int) error {
	if err := os.WriteFile(arpPath("all", name), []byte(strconv.Itoa(value)), 0o644); err != nil {
		return fmt.Errorf("set net.ipv4.conf.all.%s=%d: %w", name, value, err)
	}
	return nil
}

// Add puts an address on lo. existed: it was there.
func (Host) Add(a netip.Addr) (existed bool, err error) {
	err = withLoopback(a, (*netlink.Handle).AddrAdd)
	if errors.Is(err, unix.EEXIST) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("add %s to lo: %w", a, err)
	}
	return false, nil
}

// Remove takes an address off lo; one that is not there is as good.
func (Host) Remove(a netip.Addr) error {
	err := withLoopback(a, (*netlink.Handle).AddrDel)
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("take %s off lo: %w", a, err)
	}
	return nil
}

func withLoopback(a netip.Addr, do func(*netlink.Handle, netlink.Link, *netlink.Addr) error) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return do(nl, lo, addr)
}
