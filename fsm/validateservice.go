package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

func (p *problems) service(v VirtualServer) {
	path := servicePath(v.ServiceKey)
	if v.Mark != 0 {
		p.mark(path, v)
	} else {
		p.addressed(path, v)
	}
	if !slices.Contains(Schedulers, v.Scheduler) {
		p.add(path, "scheduler %q is unknown: the kernel has %s", v.Scheduler, someOf(Schedulers, len(Schedulers)))
	}
	if !slices.Contains(Methods, v.Method) {
		p.add(path, "forwarding method %q is unknown: there are %s", v.Method, joined(Methods))
	}
	p.persistence(path, v)
	if v.OnePacket && v.Mark == 0 && v.Protocol != UDP {
		p.add(path, "one-packet scheduling (ops) is for UDP only")
	}
	if (v.HashPort || v.HashFallback) && !v.hashes() {
		p.add(path, "hash flags (sh-port, sh-fallback, mh-port, mh-fallback) are for the schedulers sh and mh, not for %q", v.Scheduler)
	}
	if v.Group != "" {
		if bad := nameProblem(v.Group); bad != "" {
			p.add(path, "group: %s", bad)
		}
	}
	p.pool(path, v)
	p.script(path, "quorum_up", v.Notify.Up)
	p.script(path, "quorum_down", v.Notify.Down)
	seen := map[netip.AddrPort]bool{}
	for _, r := range v.RealServers {
		p.server(v, r)
		if seen[r.AddrPort()] {
			p.add(serverPath(v.ServiceKey, r.AddrPort()), "it is there twice")
		}
		seen[r.AddrPort()] = true
	}
}

// addressed checks the key of a service with an address.
func (p *problems) addressed(path string, v VirtualServer) {
	p.addIf(path, hostProblem(v.Addr))
	if !slices.Contains(Protocols, v.Protocol) {
		p.add(path, "protocol %q is none of %s", v.Protocol, joined(Protocols))
	}
	if v.Port == 0 && v.Persistence == 0 {
		p.add(path, "port 0 (all ports) works only with persistence: the kernel refuses it otherwise")
	}
	if v.V6 {
		p.add(path, "v6 is for firewall marks: an address has its family")
	}
	if len(v.Matches) > 0 {
		p.add(path, "match is for firewall marks: an address says itself which packets are meant")
	}
}

// mark checks the key and the matches of a firewall mark service.
func (p *problems) mark(path string, v VirtualServer) {
	if v.Addr.IsValid() || v.Port != 0 || v.Protocol != "" {
		p.add(path, "a service is named by a firewall mark or by address, port and protocol, not by both")
	}
	if v.Mark>>16 == ReservedMarks {
		p.add(path, "marks from %d to %d are kept for lbcluster itself: use another", ReservedMarks<<16, ReservedMarks<<16|0xffff)
	}
	if len(v.Matches) > maxMatches {
		p.add(path, "it has %d matches: at most %d are possible (name networks and port ranges)", len(v.Matches), maxMatches)
	}
	for i, m := range v.Matches {
		if bad := m.problem(v.ServiceKey); bad != "" {
			p.add(path, "match #%d: %s", i+1, bad)
		}
	}
}

func (p *problems) persistence(path string, v VirtualServer) {
	if d := v.Persistence.D(); d < 0 || d > MaxPersistence || d%time.Second != 0 {
		p.add(path, "persistence %v: it must be whole seconds, at most %v", d, MaxPersistence)
	}
	if (v.Addr.IsValid() || v.Mark != 0) && int(v.PersistenceMask) > v.BitLen() {
		p.add(path, "persistence mask /%d: an address of this family has %d bits", v.PersistenceMask, v.BitLen())
	}
	switch {
	case v.PersistenceEngine == "":
	case v.PersistenceEngine != EngineSIP:
		p.add(path, "persistence engine %q is unknown: the kernel has %s", v.PersistenceEngine, EngineSIP)
	case v.Persistence == 0:
		p.add(path, "persistence engine %s has no meaning without persistence", EngineSIP)
	case v.Mark == 0 && v.Protocol != UDP:
		p.add(path, "persistence engine %s is for UDP only: the kernel reads Call-IDs nowhere else", EngineSIP)
	}
}

func (p *problems) server(v VirtualServer, r RealServer) {
	var found problems
	found.serverItself(v, r)
	for i, c := range r.Checks {
		var one problems
		one.check(c)
		if c.DSR {
			one.dsr(v, r, c)
		}
		found.below(one, func() string { return fmt.Sprintf(" > check #%d", i+1) })
	}
	p.below(found, func() string { return serverPath(v.ServiceKey, r.AddrPort()) })
}

// dsr checks a check that goes through the VIP.
func (p *problems) dsr(v VirtualServer, r RealServer, c Check) {
	const path = "" // see below
	method := v.MethodOf(r)
	switch {
	case c.Kind != CheckTCP && c.Kind != CheckHTTP && c.Kind != CheckHTTPS:
		p.add(path, "dsr is for checks of the kinds tcp, http and https")
	case v.Mark != 0:
		p.add(path, "dsr needs a virtual server with an address: a firewall mark has none to ask")
	case v.Protocol != TCP:
		p.add(path, "dsr is for TCP: nothing answers a check of %s", v.Protocol)
	case method != DirectRouting && method != Tunnel:
		p.add(path, "dsr is for direct routing and tunnels: with %s a real server has no VIP", methodName(method))
	case r.Addr.Is6() != v.Is6():
		p.add(path, "dsr needs a real server of the virtual server's address family")
	case c.Dest.Addr() != v.Addr || v.Port != 0 && c.Dest.Port() != v.Port:
		p.add(path, "dsr asks the virtual server, %s, not %s", v.ServiceKey, c.Dest)
	case c.Bind.IsValid() || c.BindPort != 0 || c.BindIf != "" || c.Mark != 0:
		p.add(path, "dsr goes with none of bindto, bind_port, bind_if and fwmark: lbcluster chooses them")
	}
}

// serverItself checks all but the checks of a server.
func (p *problems) serverItself(v VirtualServer, r RealServer) {
	const path = "" // see below
	method := v.MethodOf(r)
	p.addIf(path, hostProblem(r.Addr))
	p.script(path, "notify_up", r.Notify.Up)
	p.script(path, "notify_down", r.Notify.Down)
	if r.Method != "" && !slices.Contains(Methods, r.Method) {
		p.add(path, "forwarding method %q is unknown: there are %s", r.Method, joined(Methods))
	}
	if r.Addr.IsValid() && r.Addr.Is6() != v.Is6() && method != Tunnel {
		p.add(path, "%s does not change the address family: the real server must be of the virtual server's", methodName(method))
	}
	if r.Port != v.Port && (method == DirectRouting || method == Tunnel) {
		p.add(path, "%s changes no port: the real server must have the virtual server's, %d", methodName(method), v.Port)
	}
	if r.Weight < 0 || r.Weight > MaxWeight {
		p.add(path, "weight %d is not within 0 to %d", r.Weight, MaxWeight)
	}
	if r.LowerThreshold > r.UpperThreshold {
		p.add(path, "lower threshold %d is above the upper one, %d", r.LowerThreshold, r.UpperThreshold)
	}
}

func methodName(m Method) string {
	switch m {
	case Tunnel:
		return "a tunnel"
	case Masquerade:
		return "NAT"
	}
	return "direct routing"
}

// marks is who marks what, in the order of the services.
type marks []marked

type marked struct {
	Match
	who string
	key ServiceKey
}

func (m *marks) take(v VirtualServer, who string) {
	for _, match := range v.Matches {
		*m = append(*m, marked{match, who, v.ServiceKey})
	}
}

// marksOnce finds packets that two services want to mark, of which one is among
// services. others are the matches of other sets.
func (p *problems) marksOnce(services []VirtualServer, others marks) {
	all := others
	for _, v := range services {
		if len(v.Matches) > maxMatches {
			return // said already
		}
		path := servicePath(v.ServiceKey)
		for i, m := range v.Matches {
			if m.problem(v.ServiceKey) != "" {
				continue
			}
			if len(all) >= maxAllMatches {
				p.add(path, "match #%d: the directors mark at most %d kinds of packets (name networks and port ranges)", i+1, maxAllMatches)
				return
			}
			for _, o := range all {
				if o.key != v.ServiceKey && o.overlaps(m) {
					p.add(path, "match #%d: %s would have two marks, for %s marks it too", i+1, m, o.who)
				}
			}
			all = append(all, marked{m, path, v.ServiceKey})
		}
	}
}
