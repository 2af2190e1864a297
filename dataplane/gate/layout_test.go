package gate

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"lbcluster/internal/nstest"
)

// The VIP may sit on an interface that others carry. Frames then meet the gate
// on each of them.
var layouts = map[string]struct {
	// build makes the interface "top" over eth0.
	build func() error
	to    [6]byte
	tags  []uint32
}{
	"bridge": {build: func() error {
		return errors.Join(nstest.Add(bridge("top")), nstest.Enslave("eth0", "top"))
	}, to: macA},
	"macvlan": {build: func() error {
		return nstest.Add(&netlink.Macvlan{LinkAttrs: over("top", "eth0", macM[:]), Mode: netlink.MACVLAN_MODE_BRIDGE})
	}, to: macM},
	"private macvlan": {build: func() error {
		return nstest.Add(&netlink.Macvlan{LinkAttrs: over("top", "eth0", macM[:]), Mode: netlink.MACVLAN_MODE_PRIVATE})
	}, to: macM},
	"macvlan on a bridge": {build: func() error {
		return errors.Join(nstest.Add(bridge("br0")), nstest.Enslave("eth0", "br0"),
			nstest.Add(&netlink.Macvlan{LinkAttrs: over("top", "br0", macM[:]), Mode: netlink.MACVLAN_MODE_BRIDGE}))
	}, to: macM},
	"vlan": {build: func() error {
		return nstest.Add(&netlink.Vlan{LinkAttrs: over("top", "eth0", nil), VlanId: 5})
	}, to: macA, tags: []uint32{vlan5}},
	"vlan in a vlan": {build: func() error {
		return errors.Join(
			nstest.Add(&netlink.Vlan{LinkAttrs: over("outer", "eth0", nil), VlanId: 9, VlanProtocol: netlink.VLAN_PROTOCOL_8021AD}),
			nstest.Add(&netlink.Vlan{LinkAttrs: over("top", "outer", nil), VlanId: 5}))
	}, to: macA, tags: []uint32{qinq9, vlan5}},
	"vlan on a bridge": {build: func() error {
		return errors.Join(nstest.Add(bridge("br0")), nstest.Enslave("eth0", "br0"),
			nstest.Add(&netlink.Vlan{LinkAttrs: over("top", "br0", nil), VlanId: 5}))
	}, to: macA, tags: []uint32{vlan5}},
	"bond": {build: func() error { return bond("top") }, to: macA},
	"vlan on a bond": {build: func() error {
		return errors.Join(bond("bond0"), nstest.Add(&netlink.Vlan{LinkAttrs: over("top", "bond0", nil), VlanId: 5}))
	}, to: macA, tags: []uint32{vlan5}},
}

// over are the attributes of an interface on another one.
func over(name, lower string, mac net.HardwareAddr) netlink.LinkAttrs {
	return netlink.LinkAttrs{Name: name, ParentIndex: nstest.Index(lower), HardwareAddr: mac}
}

func bridge(name string) netlink.Link {
	return &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: macA[:]}}
}

// bond makes an active-backup bond of eth0.
func bond(name string) error {
	b := netlink.NewLinkBond(netlink.LinkAttrs{Name: name})
	b.Mode, b.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 10
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return errors.Join(nstest.Add(b), netlink.LinkSetDown(l), nstest.Enslave("eth0", name), nstest.Up("eth0"))
}

// moveToTop moves the site's addresses to the layout's interface.
func moveToTop(s *site) {
	all := []string{node.String() + "/24", vip.String() + "/32", node6.String() + "/64", vip6.String() + "/128"}
	s.Do(func() error {
		for _, a := range all {
			_ = nstest.DelAddr("eth0", a) // IPv6 ones may have gone with the link
		}
		return nstest.AddAddr("top", all...)
	})
}

func TestLayouts(t *testing.T) {
	for name, l := range layouts {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				err := s.Try(l.build)
				if errors.Is(err, nstest.ErrNoKind) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
				moveToTop(s)
				s.client.to, s.client.tags = l.to, l.tags
				s.mustAnswer("without a gate")
				g := s.open(Config{Known: vips})
				s.mustBeDark("closed")
				armVIPs(t, g, in(10*time.Second))
				s.mustAnswer("armed")
				if err := g.Close(vips); err != nil {
					t.Fatal(err)
				}
				s.mustBeDark("closed again")
				for _, a := range vips {
					if c := g.Counters()[a]; c.NeighbourIn.Passed == 0 || c.NeighbourOut.Passed == 0 || c.IPIn.Passed == 0 || c.IPOut.Passed == 0 ||
						[6]byte(c.PassedBy.MAC) != macB || [6]byte(c.DroppedBy.MAC) != macB {
						t.Errorf("%s: counters %+v", a, c)
					}
				}
			})
		})
	}
}

// Interfaces are rebuilt while the gate runs: a port joins a bridge, the address
// moves up.
func TestLayoutsUnderARunningGate(t *testing.T) {
	for name, l := range layouts {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				g := s.open(Config{Known: vips})
				s.run(g)
				err := s.Try(l.build)
				if errors.Is(err, nstest.ErrNoKind) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
				nstest.Eventually(t, "the gate is on top", func() bool { return s.attached(g, "top") })
				moveToTop(s)
				s.client.to, s.client.tags = l.to, l.tags
				// Who asks makes himself known: on a VLAN the node cannot find the client.
				nstest.Eventually(t, "the node answers", func() bool {
					return s.client.arp(node, silent) && s.client.solicit(node6, silent) && s.client.ping(node, silent) && s.client.ping6(node6, silent)
				})
				s.mustBeDark("rebuilt")
				armVIPs(t, g, in(10*time.Second))
				s.mustAnswer("armed")
			})
		})
	}
}
