package fsm

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestVMAC(t *testing.T) {
	with := func(v *VMAC, vrid uint8, addrs ...string) Router {
		r := Router{Name: "VI_1", Interface: "eth0", VRID: vrid, Priority: 100, Version: 2, AdvertInterval: Duration(time.Second), VMAC: v}
		for _, a := range addrs {
			p := netip.MustParsePrefix(a)
			if p.Addr().Is6() {
				r.Version = 3
			}
			r.Addresses = append(r.Addresses, Address{Prefix: p})
		}
		return r
	}
	for _, c := range []struct {
		r    Router
		name string
		mac  [6]byte
	}{
		{with(nil, 51, "10.0.0.1/32"), "", [6]byte{0, 0, 0x5e, 0, 1, 51}},
		{with(&VMAC{}, 51, "10.0.0.1/32"), "vrrp.51", [6]byte{0, 0, 0x5e, 0, 1, 51}},
		{with(&VMAC{}, 255, "2001:db8::1/128"), "vrrp6.255", [6]byte{0, 0, 0x5e, 0, 2, 255}},
		{with(&VMAC{Name: "web"}, 7, "10.0.0.1/32"), "web", [6]byte{0, 0, 0x5e, 0, 1, 7}},
	} {
		if c.r.VMACName() != c.name || c.r.VMACAddr() != c.mac {
			t.Errorf("%+v: %q %x, want %q %x", c.r.VMAC, c.r.VMACName(), c.r.VMACAddr(), c.name, c.mac)
		}
		if p := ValidateConfig(Config{Routers: []Router{c.r}}); len(p) > 0 {
			t.Errorf("%+v: %v", c.r.VMAC, p)
		}
	}
	onIt := with(&VMAC{}, 51, "10.0.0.1/32")
	onIt.Addresses[0].Dev = "vrrp.51"
	other := with(&VMAC{Name: "vrrp.51"}, 52, "10.0.0.2/32")
	other.Name = "VI_2"
	for _, c := range []struct {
		rs   []Router
		want string
	}{
		{[]Router{with(&VMAC{Name: "eth0"}, 51, "10.0.0.1/32")}, "that is the router's own interface"},
		{[]Router{with(&VMAC{Name: "much too long for a name"}, 51, "10.0.0.1/32")}, "is no interface name"},
		{[]Router{onIt}, "is on the use_vmac interface if it has no dev"},
		{[]Router{with(&VMAC{}, 51, "10.0.0.1/32"), other}, "vrrp.51 is the interface of virtual_router VI_1 already"},
	} {
		problems := ValidateConfig(Config{Routers: c.rs})
		if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.Text, c.want) }) {
			t.Errorf("problems %v, want %q", problems, c.want)
		}
	}
}
