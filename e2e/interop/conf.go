package interop

import (
	"fmt"
	"strings"
)

// Prefixes are the addresses of the n-th director, from 0.
func Prefixes(n int) []string {
	return []string{fmt.Sprintf("172.25.88.%d/24", 11+n), fmt.Sprintf("2001:db8::%d/64", 11+n)}
}

// PeerPrefixes are those of the peer: of each family one below and one above all
// directors' addresses; and the same of the link-local ones.
func PeerPrefixes() []string {
	return []string{"172.25.88.5/24", "172.25.88.30/24", "2001:db8::5/64", "2001:db8::30/64", "fe80::5/64", "fe80::ffff:ffff:ffff:30/64"}
}

// peer is where the peer's adverts for a cell come from.
func (b Batch) peer(c Cell) string {
	low, high := "172.25.88.5", "172.25.88.30"
	switch {
	case b.IPv6 && b.Unicast:
		low, high = "2001:db8::5", "2001:db8::30"
	case b.IPv6:
		low, high = "fe80::5", "fe80::ffff:ffff:ffff:30"
	}
	if c.peerIsHigh() {
		return high
	}
	return low
}

// directors are where the cluster's unicast adverts come from.
func (b Batch) directors(n int) (addrs []string) {
	for i := range n {
		which := 0
		if b.IPv6 {
			which = 1
		}
		addr, _, _ := strings.Cut(Prefixes(i)[which], "/")
		addrs = append(addrs, addr)
	}
	return addrs
}

// Ours is the cluster's configuration.
func (b Batch) Ours() string {
	return b.conf(func(c Cell) (int, string) {
		ours, _ := c.Priorities()
		if b.Unicast {
			return ours, unicastPeers(b.peer(c))
		}
		return ours, "    @lbcluster lbcluster_peers " + b.peer(c) + "\n"
	})
}

// Theirs is the peer's, beside a cluster of so many directors.
func (b Batch) Theirs(directors int) string {
	return b.conf(func(c Cell) (int, string) {
		_, theirs := c.Priorities()
		if b.Unicast {
			return theirs, "    unicast_src_ip " + b.peer(c) + "\n" + unicastPeers(b.directors(directors)...)
		}
		return theirs, "    mcast_src_ip " + b.peer(c) + "\n"
	})
}

func unicastPeers(addrs ...string) string {
	return "    unicast_peer {\n        " + strings.Join(addrs, "\n        ") + "\n    }\n"
}

// conf is a router for each cell; side gives the priority and the lines that
// only one of the two has.
func (b Batch) conf(side func(Cell) (priority int, lines string)) string {
	var s strings.Builder
	for i, c := range Cells {
		priority, lines := side(c)
		fmt.Fprintf(&s, "vrrp_instance %s {\n    state BACKUP\n    interface eth0\n    version %d\n    virtual_router_id %d\n    priority %d\n    advert_int 1\n",
			Router(i), b.Version, 51+i, priority)
		if c.NoPreempt {
			s.WriteString("    nopreempt\n")
		}
		if b.Pass {
			s.WriteString("    authentication {\n        auth_type PASS\n        auth_pass 1111\n    }\n")
		}
		fmt.Fprintf(&s, "%s    virtual_ipaddress {\n        %s\n    }\n}\n", lines, b.VIP(i))
	}
	return s.String()
}
