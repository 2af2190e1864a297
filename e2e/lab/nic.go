package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// SecondInterface is the name of the interface that AddNIC makes.
const SecondInterface = "eth1"

// NIC is a host's second interface, on a network of its own.
type NIC struct {
	host *Host
	port string
}

// secondBridge is the second network's switch, in the switch's namespace.
const secondBridge = "br1"

// AddNIC gives the host eth1 with an address on the lab's second network, which
// has no other connection with the first.
func (h *Host) AddNIC(prefix string) *NIC {
	h.lab.t.Helper()
	n := &NIC{host: h, port: "q-" + h.Name}
	if err := h.lab.sw.do(func() error { return n.plug() }); err != nil {
		h.lab.t.Fatalf("lab: %s of %s: %v", SecondInterface, h.Name, err)
	}
	err := h.do(func() error {
		nl, err := route()
		if err != nil {
			return err
		}
		defer nl.Close()
		link, err := nl.LinkByName(SecondInterface)
		if err != nil {
			return err
		}
		if err := nl.LinkSetUp(link); err != nil {
			return err
		}
		return addAddress(SecondInterface, prefix)
	})
	if err != nil {
		h.lab.t.Fatalf("lab: %s of %s: %v", SecondInterface, h.Name, err)
	}
	return n
}

// plug runs in the switch's namespace.
func (n *NIC) plug() error {
	nl, err := route()
	if err != nil {
		return err
	}
	defer nl.Close()
	if _, err := nl.LinkByName(secondBridge); err != nil {
		off := false
		attrs := netlink.NewLinkAttrs()
		attrs.Name = secondBridge
		br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
		if err := nl.LinkAdd(br); err != nil {
			return fmt.Errorf("second bridge: %w", err)
		}
		if err := noIPv6(secondBridge); err != nil {
			return err
		}
		if err := nl.LinkSetUp(br); err != nil {
			return fmt.Errorf("second bridge: %w", err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.port
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: SecondInterface, PeerNamespace: netlink.NsFd(n.host.fd("net")),
		PeerHardwareAddr: macOf(n.host.Name + "/" + SecondInterface)}
	if err := nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("port: %w", err)
	}
	if err := noIPv6(n.port); err != nil {
		return err
	}
	if err := setMaster(nl, n.port, secondBridge); err != nil {
		return err
	}
	return nl.LinkSetUp(veth)
}

// Detach takes the second interface out of its network without the host noticing.
func (n *NIC) Detach() { n.move("detaching", false) }

// Attach undoes Detach.
func (n *NIC) Attach() { n.move("attaching", true) }

func (n *NIC) move(what string, attach bool) {
	n.host.lab.t.Helper()
	err := n.host.lab.sw.do(func() error {
		nl, err := route()
		if err != nil {
			return err
		}
		defer nl.Close()
		if attach {
			return setMaster(nl, n.port, secondBridge)
		}
		link, err := nl.LinkByName(n.port)
		if err != nil {
			return err
		}
		return nl.LinkSetNoMaster(link)
	})
	if err != nil {
		n.host.lab.t.Fatalf("lab: %s %s of %s: %v", what, SecondInterface, n.host.Name, err)
	}
}
