package conf

import (
	"fmt"
	"net/netip"
	"strings"

	"lbcluster/fsm"
)

var (
	yamlProtocols = textsOf(fsm.Protocols)
	yamlMethods   = textsOf(fsm.Methods)
)

func textsOf[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, w := range all {
		out[i] = string(w)
	}
	return out
}

func (y *yamlReader) placeService(path string, s fsm.VirtualServer) {
	element := servicePath(s.ServiceKey)
	y.places.element(element, y.key(path))
	for word, key := range map[string]string{
		"protocol": "protocol", "port": "address", "scheduler": "scheduler", "forwarding": "method",
		"persistence": "persistence", "persistence mask": "persistence_mask", "persistence engine": "persistence_engine",
		"one-packet": "one_packet", "hash": "hash_port", "group": "group", "marks": "mark", "match": "match",
	} {
		y.places.value(element, word, y.key(path+"."+key))
	}
	for i := range s.Matches {
		y.places.value(element, fmt.Sprintf("match #%d", i+1), y.key(fmt.Sprintf("%s.match[%d]", path, i)))
	}
	for i, r := range s.RealServers {
		at := fmt.Sprintf("%s.real_servers[%d]", path, i)
		server := serverPath(s.ServiceKey, r.AddrPort())
		y.places.element(server, y.key(at))
		for word, key := range map[string]string{
			"weight": "weight", "lower": "lower_threshold", "its": "address", "direct": "address", "a": "address", "forwarding": "method",
		} {
			y.places.value(server, word, y.key(at+"."+key))
		}
		for j := range r.Checks {
			y.places.element(checkPath(server, j), y.key(fmt.Sprintf("%s.checks[%d]", at, j)))
		}
	}
}

func (y *yamlReader) service(path string, s yamlService) fsm.VirtualServer {
	out := fsm.VirtualServer{
		Scheduler: s.Scheduler, Method: fsm.Method(s.Method), Group: s.Group,
		HashPort: s.HashPort, HashFallback: s.HashFallback, OnePacket: s.OnePacket,
		Persistence: y.duration(path+".persistence", s.Persistence, 0), PersistenceEngine: s.PersistenceEngine,
	}
	if out.Scheduler == "" {
		out.Scheduler = "wlc"
	}
	out.ServiceKey = y.serviceKey(path, s)
	y.required(path, "method", s.Method, yamlMethods...)
	switch {
	case s.PersistenceMask != nil:
		out.PersistenceMask = uint8(y.bounded(path+".persistence_mask", s.PersistenceMask, out.BitLen(), 1, out.BitLen()))
		if out.Persistence == 0 {
			y.wrong(path+".persistence_mask", "has no meaning without persistence")
		}
	case out.Persistence > 0:
		out.PersistenceMask = uint8(out.BitLen())
	}
	for i, m := range s.Match {
		out.Matches = append(out.Matches, y.match(fmt.Sprintf("%s.match[%d]", path, i), m))
	}
	if out.Quorum, out.Hysteresis = s.Quorum, s.Hysteresis; out.Quorum == 1 {
		out.Quorum = 0
	}
	out.Panic = s.Panic
	out.Notify = fsm.UpDown{Up: s.QuorumUp.read(), Down: s.QuorumDown.read()}
	out.SlowStart = y.duration(path+".slow_start", s.SlowStart, 0)
	out.Sorry = y.sorry(path+".sorry_server", s.Sorry, out)
	for i, r := range s.RealServers {
		out.RealServers = append(out.RealServers, y.server(fmt.Sprintf("%s.real_servers[%d]", path, i), r, out))
	}
	return out
}

// serviceKey reads address and protocol, or mark and family.
func (y *yamlReader) serviceKey(path string, s yamlService) fsm.ServiceKey {
	if s.Mark == 0 {
		if s.Family != "" {
			y.wrong(path+".family", "is for a mark: an address has its family")
		}
		y.required(path, "address", s.Address)
		y.required(path, "protocol", s.Protocol, yamlProtocols...)
		at := y.addrPort(path+".address", s.Address, -1)
		return fsm.ServiceKey{Addr: at.Addr(), Port: at.Port(), Protocol: fsm.Protocol(s.Protocol)}
	}
	for key, value := range map[string]string{"address": s.Address, "protocol": s.Protocol} {
		if value != "" {
			y.wrong(path+"."+key, "a mark has none: say in match which packets get it")
		}
	}
	if s.Family != "" {
		y.required(path, "family", s.Family, "ipv4", "ipv6")
	}
	if len(s.Match) == 0 {
		at := y.key(path + ".mark")
		y.notice(at.pos, at.keyword, "lbcluster sets no rule for this firewall mark: have one on every director, or say in match which packets get it")
	}
	return fsm.ServiceKey{Mark: s.Mark, V6: s.Family == "ipv6"}
}

func (y *yamlReader) match(path string, m yamlMatch) fsm.Match {
	y.required(path, "protocol", m.Protocol, yamlProtocols...)
	out := fsm.Match{Protocol: fsm.Protocol(m.Protocol)}
	var err error
	if m.Address == "" {
		y.wrong(path, "address is missing")
	} else if out.Addr, err = prefix(m.Address); err != nil {
		y.wrong(path+".address", "%v", err)
	}
	if m.Ports == "" {
		return out
	}
	from, to, ranged := strings.Cut(m.Ports, "-")
	if !ranged {
		to = from
	}
	low, errLow := number(from, 1, 65535)
	high, errHigh := number(to, 1, 65535)
	if errLow != nil || errHigh != nil || low > high {
		y.wrong(path+".ports", "%q is neither a port nor a range such as 80-443", m.Ports)
	}
	out.FromPort, out.ToPort = uint16(low), uint16(high)
	return out
}

func (y *yamlReader) server(path string, s yamlServer, v fsm.VirtualServer) fsm.RealServer {
	if s.Address == "" {
		y.wrong(path, "address is missing")
	}
	at := y.addrPort(path+".address", s.Address, int(v.Port))
	out := fsm.RealServer{
		Addr: at.Addr(), Port: at.Port(), Method: fsm.Method(s.Method), Weight: y.bounded(path+".weight", s.Weight, 1, 0, 65535),
		UpperThreshold: s.UpperThreshold, LowerThreshold: s.LowerThreshold, Inhibit: s.Inhibit, Backup: s.Backup,
		Notify: fsm.UpDown{Up: s.NotifyUp.read(), Down: s.NotifyDown.read()},
	}
	if s.Method != "" {
		y.required(path, "method", s.Method, yamlMethods...)
	}
	if fixed := v.MethodOf(out) != fsm.Masquerade; fixed && at.IsValid() && at.Port() != v.Port && (v.Addr.IsValid() || v.Mark != 0) {
		out.Port = v.Port
		if v.Mark != 0 {
			y.wrong(path+".address", "with a mark only nat changes the port: leave it out")
		} else {
			y.wrong(path+".address", "%s cannot change the port: leave it out, or say the service's %d", v.MethodOf(out), v.Port)
		}
	}
	if len(s.Checks) == 0 {
		at := y.key(path)
		y.notice(at.pos, at.keyword, "no checks: always taken as up")
	}
	for i, c := range s.Checks {
		out.Checks = append(out.Checks, y.check(fmt.Sprintf("%s.checks[%d]", path, i), c, out.AddrPort(), netip.AddrPortFrom(v.Addr, v.Port)))
	}
	return out
}
