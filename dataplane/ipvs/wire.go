package ipvs

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Commands and attributes of the generic netlink family IPVS (linux/ip_vs.h).
const (
	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdGetDest    = 8
	cmdNewDaemon  = 9
	cmdDelDaemon  = 10
	cmdGetDaemon  = 11
	cmdSetConfig  = 12
	cmdGetConfig  = 13

	attrService       = 1
	attrDest          = 2
	attrDaemon        = 3
	attrTimeoutTCP    = 4
	attrTimeoutTCPFIN = 5
	attrTimeoutUDP    = 6

	svcFamily   = 1
	svcProtocol = 2
	svcAddr     = 3
	svcPort     = 4
	svcMark     = 5
	svcSched    = 6
	svcFlags    = 7
	svcTimeout  = 8
	svcNetmask  = 9
	svcStats    = 10
	svcEngine   = 11
	svcStats64  = 12

	destAddr     = 1
	destPort     = 2
	destMethod   = 3
	destWeight   = 4
	destUpper    = 5
	destLower    = 6
	destActive   = 7
	destInactive = 8
	destStats    = 10
	destFamily   = 11
	destStats64  = 12

	statsConns      = 1
	statsInPackets  = 2
	statsOutPackets = 3
	statsInBytes    = 4
	statsOutBytes   = 5

	daemonState  = 1
	daemonDev    = 2
	daemonID     = 3
	daemonMaxLen = 4
	daemonGroup  = 5
	daemonGroup6 = 6
	daemonPort   = 7 // in the machine's order, unlike other ports
	daemonTTL    = 8

	// methodMask is IP_VS_CONN_F_FWD_MASK.
	methodMask = 0x7
	// typeMask leaves out the flags of an attribute's number (NLA_TYPE_MASK).
	typeMask = 0x3fff
)

// genl is the header of a generic netlink message: command, version, reserved.
type genl [4]byte

// Len and Serialize make it part of a request.
func (g genl) Len() int { return len(g) }

// Serialize is the header's bytes.
func (g genl) Serialize() []byte { return g[:] }

func u16(v uint16) []byte { return binary.NativeEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// port is in network order.
func port(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func family(is6 bool) uint16 {
	if is6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// serviceAttr is a service as the kernel takes it.
func serviceAttr(s Service) *nl.RtAttr {
	s = s.Canonical()
	a := nl.NewRtAttr(attrService, nil)
	a.AddRtAttr(svcFamily, u16(family(s.Is6())))
	if s.Mark != 0 {
		a.AddRtAttr(svcMark, u32(s.Mark))
	} else {
		a.AddRtAttr(svcProtocol, u16(uint16(s.Protocol)))
		a.AddRtAttr(svcAddr, s.Addr.AsSlice())
		a.AddRtAttr(svcPort, port(s.Port))
	}
	a.AddRtAttr(svcSched, nl.ZeroTerminated(s.Scheduler))
	if s.Engine != "" {
		a.AddRtAttr(svcEngine, nl.ZeroTerminated(s.Engine))
	}
	a.AddRtAttr(svcFlags, append(u32(uint32(s.Flags)), u32(0xffff_ffff)...)) // flags, and which of them are meant
	a.AddRtAttr(svcTimeout, u32(s.Timeout))
	a.AddRtAttr(svcNetmask, u32(netmask(s)))
	return a
}

// netmask is the persistence mask as the kernel keeps it: of IPv6 its length, of
// IPv4 the mask in network order in a native word.
func netmask(s Service) uint32 {
	if s.Is6() {
		return uint32(s.Mask)
	}
	return binary.NativeEndian.Uint32(net.CIDRMask(min(int(s.Mask), 32), 32))
}

// destAttrs is a destination as the kernel takes it. Its family is said, for a
// tunnel may lead to the other one.
func destAttrs(d Dest) *nl.RtAttr {
	a := nl.NewRtAttr(attrDest, nil)
	a.AddRtAttr(destAddr, d.Addr.AsSlice())
	a.AddRtAttr(destPort, port(d.Port))
	a.AddRtAttr(destMethod, u32(uint32(d.Method)))
	a.AddRtAttr(destWeight, u32(uint32(d.Weight)))
	a.AddRtAttr(destUpper, u32(d.Upper))
	a.AddRtAttr(destLower, u32(d.Lower))
	a.AddRtAttr(destFamily, u16(family(d.Addr.Is6())))
	return a
}

// attrs are the attributes of one service or destination by their numbers.
type attrs [maxAttr][]byte

// maxAttr is above all numbers of attributes that are read here.
const maxAttr = 24

var errShort = errors.New("the kernel's answer is too short")

// parseAttrs reads what stands in a message's first attribute.
func parseAttrs(msg []byte) (a attrs, err error) {
	if len(msg) < len(genl{}) {
		return a, errShort
	}
	_, inner, _, ok := next(msg[len(genl{}):])
	if !ok {
		return a, errShort
	}
	return split(inner)
}

// split reads attributes that stand one behind the other.
func split(inner []byte) (out attrs, err error) {
	for len(inner) > 0 {
		kind, value, rest, ok := next(inner)
		if !ok {
			return out, errShort
		}
		if kind < maxAttr {
			out[kind] = value
		}
		inner = rest
	}
	return out, nil
}

// next takes one attribute (length, number, value, padding to 4 bytes) off b.
func next(b []byte) (kind int, value, rest []byte, ok bool) {
	if len(b) < unix.SizeofRtAttr {
		return 0, nil, nil, false
	}
	length := int(binary.NativeEndian.Uint16(b))
	if length < unix.SizeofRtAttr || length > len(b) {
		return 0, nil, nil, false
	}
	kind = int(binary.NativeEndian.Uint16(b[2:]) & typeMask)
	return kind, b[unix.SizeofRtAttr:length], b[min((length+3)&^3, len(b)):], true
}

// u16 and u32 read a native number; 0 if it is not there.
func (a *attrs) u16(i int) uint16 {
	if len(a[i]) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(a[i])
}

func (a *attrs) u32(i int) uint32 {
	if len(a[i]) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(a[i])
}

func (a *attrs) u64(i int) uint64 {
	if len(a[i]) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(a[i])
}

func (a *attrs) port(i int) uint16 {
	if len(a[i]) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(a[i])
}

func (a *attrs) u8(i int) uint8 {
	if len(a[i]) < 1 {
		return 0
	}
	return a[i][0]
}

func (a *attrs) text(i int) string { return unix.ByteSliceToString(a[i]) }

// addr reads an address, for which the kernel always sends 16 bytes.
func (a *attrs) addr(i int, family uint16) netip.Addr {
	n := 4
	if family == unix.AF_INET6 {
		n = 16
	}
	if len(a[i]) < n {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(a[i][:n])
	return addr
}

func parseService(msg []byte) (Service, error) {
	a, err := parseAttrs(msg)
	if err != nil {
		return Service{}, err
	}
	family, mask := a.u16(svcFamily), a.u32(svcNetmask)
	s := Service{
		Scheduler: a.text(svcSched), Flags: Flags(a.u32(svcFlags)), Timeout: a.u32(svcTimeout),
		Engine: a.text(svcEngine), Mask: uint8(bits.OnesCount32(mask)),
	}
	if family == unix.AF_INET6 {
		s.Mask = uint8(mask)
	}
	if s.Mark = a.u32(svcMark); s.Mark != 0 {
		s.V6 = family == unix.AF_INET6
	} else {
		s.Protocol, s.Port, s.Addr = Protocol(a.u16(svcProtocol)), a.port(svcPort), a.addr(svcAddr, family)
	}
	return s.Canonical(), nil
}

// parseDest reads a destination of a service whose family is given, for kernels
// before 3.18 that do not say the destination's.
func parseDest(msg []byte, service uint16) (Dest, error) {
	a, err := parseAttrs(msg)
	if err != nil {
		return Dest{}, err
	}
	family := a.u16(destFamily)
	if family == 0 {
		family = service
	}
	return Dest{
		DestKey: DestKey{Addr: a.addr(destAddr, family), Port: a.port(destPort)},
		Method:  Method(a.u32(destMethod) & methodMask),
		Weight:  int(a.u32(destWeight)), Upper: a.u32(destUpper), Lower: a.u32(destLower),
		Active: a.u32(destActive), Inactive: a.u32(destInactive),
	}, nil
}
