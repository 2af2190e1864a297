package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// route opens a netlink handle in the calling thread's namespace, of the one
// family the lab needs: asking for all of them fails on kernels without xfrm.
func route() (*netlink.Handle, error) { return netlink.NewHandle(unix.NETLINK_ROUTE) }

// makeBridge makes the switch: no spanning tree, and multicast goes everywhere
// as on a switch without snooping.
func makeBridge() error {
	nl, err := route()
	if err != nil {
		return err
	}
	defer nl.Close()
	off := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	if err := nl.LinkAdd(br); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := errors.Join(noIPv6(bridgeName), noBridgeNetfilter()); err != nil {
		return err
	}
	return nl.LinkSetUp(br)
}

// noBridgeNetfilter keeps the kernel, where it has br_netfilter loaded, from
// running every frame through the switch's IP rules too.
func noBridgeNetfilter() error {
	for _, f := range []string{"iptables", "ip6tables", "arptables"} {
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+f, []byte("0"), 0)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// noIPv6 keeps the switch's own interfaces silent.
func noIPv6(dev string) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", dev, "disable_ipv6"), []byte("1"), 0)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// makePort runs in the switch's namespace.
func makePort(h *Host) error {
	nl, err := route()
	if err != nil {
		return err
	}
	defer nl.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = h.Port()
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: Interface, PeerNamespace: netlink.NsFd(h.fd("net")), PeerHardwareAddr: h.MAC}
	if err := nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("port: %w", err)
	}
	if err := noIPv6(h.Port()); err != nil {
		return err
	}
	if err := setMaster(nl, h.Port(), bridgeName); err != nil {
		return err
	}
	return nl.LinkSetUp(veth)
}

func setMaster(nl *netlink.Handle, port, bridge string) error {
	p, err := nl.LinkByName(port)
	if err != nil {
		return fmt.Errorf("port %s: %w", port, err)
	}
	b, err := nl.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return nl.LinkSetMaster(p, b)
}

// setUpInterface runs in the host's namespace. IPv6 addresses are usable at
// once: nobody else is on the switch when a host comes up.
func setUpInterface(mac net.HardwareAddr, prefixes []string) error {
	nl, err := route()
	if err != nil {
		return err
	}
	defer nl.Close()
	for _, name := range []string{"lo", Interface} {
		link, err := nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := nl.LinkSetUp(link); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, p := range prefixes {
		if err := addAddress(Interface, p); err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	return nil
}

func addAddress(dev, prefix string) error {
	nl, err := route()
	if err != nil {
		return err
	}
	defer nl.Close()
	link, err := nl.LinkByName(dev)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	return nl.AddrAdd(link, addr)
}

// port runs f with the host's port, in the switch's namespace.
func (h *Host) port(what string, f func(*netlink.Handle, netlink.Link) error) {
	h.lab.t.Helper()
	err := h.lab.sw.do(func() error {
		nl, err := route()
		if err != nil {
			return err
		}
		defer nl.Close()
		p, err := nl.LinkByName(h.Port())
		if err != nil {
			return err
		}
		return f(nl, p)
	})
	if err != nil {
		h.lab.t.Fatalf("lab: %s %s: %v", what, h.Name, err)
	}
}

// CutLink pulls the host's cable: both ends lose the carrier.
func (h *Host) CutLink() {
	h.lab.t.Helper()
	h.port("cutting the link of", (*netlink.Handle).LinkSetDown)
}

// RestoreLink plugs it in again.
func (h *Host) RestoreLink() {
	h.lab.t.Helper()
	h.port("restoring the link of", (*netlink.Handle).LinkSetUp)
}

// Detach takes the port out of the switch without the host noticing: the
// carrier stays, nothing arrives.
func (h *Host) Detach() {
	h.lab.t.Helper()
	h.port("detaching", (*netlink.Handle).LinkSetNoMaster)
}

// Attach undoes Detach.
func (h *Host) Attach() {
	h.lab.t.Helper()
	h.port("attaching", func(nl *netlink.Handle, _ netlink.Link) error { return setMaster(nl, h.Port(), bridgeName) })
}
