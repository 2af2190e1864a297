package scale

import (
	"fmt"
	"net/netip"
	"strings"

	"lbcluster/dataplane/ipvs"
	"lbcluster/e2e/site"
)

// Size is how large a table is.
type Size struct{ Services, Servers int } // virtual servers, and real servers of each

// All is how many real servers there are in all.
func (s Size) All() int { return s.Services * s.Servers }

// String is "100 x 100".
func (s Size) String() string { return fmt.Sprintf("%d x %d", s.Services, s.Servers) }

// firstPort is that of the first virtual server.
const firstPort = 1000

// Change is what one version of the file has otherwise.
type Change struct {
	Weight int // of the middle server of the middle virtual server; 0: 1, as all
	Less   int // how many real servers the last virtual server lacks
}

// Conf is a keepalived.conf of that size: one virtual router, and virtual servers on
// its address, one a port.
func Conf(s Size, c Change) string {
	var b strings.Builder
	b.WriteString("vrrp_instance VI_1 {\n    state MASTER\n    interface eth0\n    virtual_router_id 51\n    priority 100\n    advert_int 1\n" +
		"    virtual_ipaddress {\n        " + site.VIP + "\n    }\n}\n")
	for i := range s.Services {
		fmt.Fprintf(&b, "virtual_server %s %d {\n    lb_algo rr\n    lb_kind DR\n    protocol TCP\n    delay_loop 60\n", site.VIP, firstPort+i)
		servers := s.Servers
		if i == s.Services-1 {
			servers -= c.Less
		}
		for j := range servers {
			weight := 1
			if i == s.Services/2 && j == s.Servers/2 && c.Weight != 0 {
				weight = c.Weight
			}
			fmt.Fprintf(&b, "    real_server %s %d {\n        weight %d\n    }\n", server(j), firstPort+i, weight)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// server is the address of the nth real server of each virtual server.
func server(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, byte(n / 250), byte(1 + n%250)})
}

func key(service int) ipvs.Key {
	return ipvs.Key{Addr: netip.MustParseAddr(site.VIP), Port: uint16(firstPort + service), Protocol: ipvs.TCP}
}

// middle names the real server whose weight changes.
func middle(s Size) (ipvs.Key, netip.AddrPort) {
	k := key(s.Services / 2)
	return k, netip.AddrPortFrom(server(s.Servers/2), k.Port)
}
