package fsm

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// The protocols, forwarding methods and persistence engines of IPVS.
const (
	SCTP Protocol = "sctp"

	// Tunnel wraps packets in IP (ipvsadm -i); servers may be of the other family.
	Tunnel Method = "tun"
	// Masquerade rewrites destination address and port (ipvsadm -m); replies must
	// come back through the director.
	Masquerade Method = "nat"

	// EngineSIP keeps the packets of one SIP Call-ID together (ip_vs_pe_sip).
	EngineSIP = "sip"
)

// Protocols and Methods are all that a virtual server can say.
var (
	Protocols = []Protocol{TCP, UDP, SCTP}
	Methods   = []Method{DirectRouting, Tunnel, Masquerade}
)

// ReservedMarks is the part of the firewall marks (the upper 16 bits) that the
// data plane keeps for itself.
const ReservedMarks = 0x6c62

// Limits of what a firewall mark service may match.
const (
	maxMatches    = 64   // of one service
	maxAllMatches = 1024 // of the whole table
)

// Match is one kind of packets that belong to a firewall mark service. Every
// director marks them.
type Match struct {
	// Addr is the destination, or a network of destinations.
	Addr     netip.Prefix `json:"addr"`
	Protocol Protocol     `json:"protocol"`
	// FromPort to ToPort are the destination ports; both 0: all.
	FromPort uint16 `json:"from_port,omitempty"`
	ToPort   uint16 `json:"to_port,omitempty"`
}

// String is "tcp/172.25.88.100", "udp/10.0.0.0/24:53" or "tcp/[2001:db8::1]:80-443".
func (m Match) String() string {
	addr := m.Addr.String()
	if m.Addr.IsSingleIP() {
		addr = m.Addr.Addr().String()
	}
	if m.FromPort == 0 && m.ToPort == 0 {
		return string(m.Protocol) + "/" + addr
	}
	if m.Addr.Addr().Is6() {
		addr = "[" + addr + "]"
	}
	return string(m.Protocol) + "/" + addr + ":" + m.Ports()
}

// Ports is "80", "80-443", or "" for all.
func (m Match) Ports() string {
	switch {
	case m.FromPort == 0 && m.ToPort == 0:
		return ""
	case m.FromPort == m.ToPort:
		return itoa(int(m.FromPort))
	}
	return fmt.Sprintf("%d-%d", m.FromPort, m.ToPort)
}

func (m Match) allPorts() bool { return m.FromPort == 0 && m.ToPort == 0 }

// overlaps reports whether a packet could be meant by both.
func (m Match) overlaps(o Match) bool {
	return m.Protocol == o.Protocol && m.Addr.Overlaps(o.Addr) &&
		(m.allPorts() || o.allPorts() || m.FromPort <= o.ToPort && o.FromPort <= m.ToPort)
}

// problem says what is wrong with m in a service of key k; "" if nothing is.
func (m Match) problem(k ServiceKey) string {
	switch {
	case !m.Addr.IsValid():
		return "its address is missing"
	case m.Addr != m.Addr.Masked():
		return fmt.Sprintf("%s has bits set beyond its length: %s is meant", m.Addr, m.Addr.Masked())
	case m.Addr.Bits() == 0:
		return "it would take every packet, also the cluster's own: name addresses"
	case hostProblem(m.Addr.Addr()) != "" && m.Addr.IsSingleIP():
		return m.Addr.Addr().String() + ": " + hostProblem(m.Addr.Addr())
	case m.Addr.Addr().Is6() != k.V6:
		return fmt.Sprintf("%s is not of the service's address family", m.Addr)
	case !slices.Contains(Protocols, m.Protocol):
		return fmt.Sprintf("protocol %q is none of %s", m.Protocol, joined(Protocols))
	case m.FromPort > m.ToPort, m.FromPort == 0 && m.ToPort != 0:
		return fmt.Sprintf("ports %d to %d: they must be from 1 to 65535, the lower first", m.FromPort, m.ToPort)
	}
	return ""
}

func joined[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = string(s)
	}
	return someOf(texts, len(texts))
}

// Is6 reports whether the service is of IPv6.
func (k ServiceKey) Is6() bool { return k.V6 || k.Addr.Is6() }

// BitLen is the length of an address of the service's family.
func (k ServiceKey) BitLen() int {
	if k.Is6() {
		return 128
	}
	return 32
}

// MethodOf is how packets reach r: its own method, or the virtual server's.
func (v VirtualServer) MethodOf(r RealServer) Method { return cmp.Or(r.Method, v.Method) }

// Addrs are the addresses to which a service's packets go: its own, or those of
// a firewall mark's matches that name one. None is known of a mark without a match.
func (v VirtualServer) Addrs() []netip.Addr {
	if v.Mark == 0 {
		return []netip.Addr{v.Addr}
	}
	var all []netip.Addr
	for _, m := range v.Matches {
		if m.Addr.IsSingleIP() && !slices.Contains(all, m.Addr.Addr()) {
			all = append(all, m.Addr.Addr())
		}
	}
	return all
}

// hashes reports whether the scheduler takes HashPort and HashFallback.
func (v VirtualServer) hashes() bool { return v.Scheduler == "sh" || v.Scheduler == "mh" }
