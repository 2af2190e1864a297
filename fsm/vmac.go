package fsm

import "fmt"

// VMAC asks for a virtual MAC address (keepalived's use_vmac): on every director
// the VIPs live on an interface of their own, a macvlan over the router's, whose
// MAC belongs to the virtual router. Neighbours then learn one MAC for the VIP
// for good; a failover only moves it to another port of their switch.
type VMAC struct {
	// Name of the interface; empty: vrrp.VRID, or vrrp6.VRID for IPv6, as
	// keepalived calls it.
	Name string `json:"name,omitempty"`
	// XmitBase: adverts are sent from the interface below (vmac_xmit_base).
	XmitBase bool `json:"xmit_base,omitempty"`
}

// VMACName is the name of the router's macvlan interface; empty: it has none.
func (r Router) VMACName() string {
	switch {
	case r.VMAC == nil:
		return ""
	case r.VMAC.Name != "":
		return r.VMAC.Name
	case r.family() == familyIPv6:
		return fmt.Sprintf("vrrp6.%d", r.VRID)
	}
	return fmt.Sprintf("vrrp.%d", r.VRID)
}

// VMACAddr is the MAC address of the virtual router (RFC 9568, section 7.3).
func (r Router) VMACAddr() [6]byte {
	family := byte(1)
	if r.family() == familyIPv6 {
		family = 2
	}
	return [6]byte{0x00, 0x00, 0x5e, 0x00, family, r.VRID}
}

// vmac checks the interface's name; that two routers have the same is for the
// whole configuration to see.
func (p *problems) vmac(r Router, path string) {
	if r.VMAC == nil {
		return
	}
	p.device(path, "use_vmac", r.VMACName())
	if r.VMACName() == r.Interface {
		p.add(path, "use_vmac %s: that is the router's own interface; the name is for a new one", r.VMACName())
	}
	for _, a := range r.Addresses {
		if a.Dev == r.VMACName() {
			p.add(path, "address %s dev %s: an address is on the use_vmac interface if it has no dev", a.Prefix, a.Dev)
		}
	}
}

func (p *problems) vmacTaken(path, name, by string) {
	p.add(path, "use_vmac: %s is the interface of %s already: give each a name of its own (use_vmac NAME)", name, by)
}
