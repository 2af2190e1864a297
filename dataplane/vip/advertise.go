package vip

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

// allNodes hears unsolicited neighbour advertisements (RFC 4861 section 7.2.6).
var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1} // RFC 2464 section 7
)

const (
	ipv6HeaderLen = 40
	protoICMPv6   = 58
	ndpHopLimit   = 255 // RFC 4861 section 7.1.2: anything less is discarded
)

// advertisement is the frame of an unsolicited neighbour advertisement: the
// override flag makes neighbours replace the MAC they know. It comes from the
// VIP itself, so that the gate, which judges IPv6 by its source, stands over it.
// router says whether this interface forwards: a neighbour that used the VIP as
// a default router drops it when the flag goes (RFC 4861 section 7.2.5), so it
// is what the kernel's own advertisements carry.
func (s *sender) advertisement(addr netip.Addr, router bool) ([][]byte, error) {
	na := &ndp.NeighborAdvertisement{
		Router: router, Override: true, TargetAddress: addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: s.mac}},
	}
	body, err := ndp.MarshalMessageChecksum(na, addr, allNodes)
	if err != nil {
		return nil, fmt.Errorf("write a neighbour advertisement: %w", err)
	}
	ip := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(body))
	ip[0] = 6 << 4
	binary.BigEndian.PutUint16(ip[4:], uint16(len(body)))
	ip[6], ip[7] = protoICMPv6, ndpHopLimit
	copy(ip[8:], addr.AsSlice())
	copy(ip[24:], allNodes.AsSlice())
	f := ethernet.Frame{Destination: allNodesMAC, Source: s.mac, EtherType: ethernet.EtherTypeIPv6, Payload: append(ip, body...)}
	b, err := f.MarshalBinary()
	return [][]byte{b}, err
}

// forwards reports whether the kernel forwards IPv6 that comes in on the
// interface; false also if it cannot tell.
func (h *Host) forwards(name string) bool {
	var b []byte
	err := h.inside(func() (err error) {
		b, err = os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/forwarding")
		return err
	})
	return err == nil && strings.TrimSpace(string(b)) != "0"
}
