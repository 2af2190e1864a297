package fsm

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// SorryServer serves while too few real servers are up (keepalived: sorry_server).
type SorryServer struct {
	Addr   netip.Addr `json:"addr"`
	Port   uint16     `json:"port"`             // as a real server's
	Method Method     `json:"method,omitempty"` // empty: the virtual server's
	// Inhibit keeps it in the kernel's table with weight 0 while it is not needed.
	Inhibit bool `json:"inhibit,omitempty"`
}

// AddrPort is the server's own address.
func (s SorryServer) AddrPort() netip.AddrPort { return netip.AddrPortFrom(s.Addr, s.Port) }

// ShortPool is a virtual server of whose real servers too few are up: their weight
// fell below the quorum less the hysteresis, or to 0, and has not come to the quorum
// and the hysteresis since. Without a hysteresis that is simply "below the quorum".
type ShortPool struct {
	Service ServiceKey `json:"service"`
	Since   Revision   `json:"since"`
}

// quorum is the weight that must be up.
func (v VirtualServer) quorum() int { return max(1, int(v.Quorum)) }

// weightUp is the weight of the real servers that are up and not disabled, without
// the backups.
func (t *Table) weightUp(v VirtualServer, targets []Target, hands byHand) int {
	return t.weighUp(v, targets, hands, false)
}

// backedUp reports whether a backup could serve.
func (t *Table) backedUp(v VirtualServer, targets []Target, hands byHand) bool {
	return t.weighUp(v, targets, hands, true) > 0
}

func (t *Table) weighUp(v VirtualServer, targets []Target, hands byHand, backup bool) int {
	sum, panics := 0, t.panics(v, targets)
	for i, r := range v.RealServers {
		if r.Backup != backup {
			continue
		}
		h := t.Health[targets[i]].but(panics)
		if weight, there := effective(r, hands.on(v.ServiceKey, r.AddrPort()), h); there && !h.Down {
			sum += weight
		}
	}
	return sum
}

// leastPanic is how many real servers a pool has at least that can panic.
const leastPanic = 4

// panics reports whether so many of a virtual server's real servers are down that all
// are taken as up.
func (t *Table) panics(v VirtualServer, targets []Target) bool {
	if v.Panic == 0 || len(v.RealServers) < leastPanic {
		return false
	}
	down := 0
	for _, target := range targets {
		if t.Health[target].Down {
			down++
		}
	}
	return down*100 >= int(v.Panic)*len(v.RealServers)
}

// shortOf is keepalived's update_quorum_state.
func shortOf(v VirtualServer, up int, was bool) bool {
	if was {
		return up < v.quorum()+int(v.Hysteresis)
	}
	return up == 0 || up < v.quorum()-int(v.Hysteresis)
}

// pooled reports whether a virtual server has anything that could be short.
func (v VirtualServer) pooled() bool { return len(v.RealServers) > 0 || v.Sorry != nil }

// short has the pools that are short.
func (t *Table) short() map[ServiceKey]bool {
	if len(t.Short) == 0 {
		return nil
	}
	m := make(map[ServiceKey]bool, len(t.Short))
	for _, s := range t.Short {
		m[s.Service] = true
	}
	return m
}

// pools finds out anew of the pools that the command has touched. Where no command of
// version 3 has been, one of an older version does not: members that read it before
// knew of no pools.
func (e *edit) pools() {
	if e.cmd.Version < 3 && !e.Pooled {
		return
	}
	before := e.old
	if !e.Pooled {
		before, e.Pooled = &Table{}, true // all of them
	}
	touched := e.Touched(before)
	if len(touched) == 0 {
		return
	}
	was, hands, x := e.short(), handsOf(e.Overrides), e.index()
	all := slices.DeleteFunc(slices.Clone(e.Short), func(s ShortPool) bool { return touched[s.Service] })
	told := 0
	for i, v := range e.Services {
		if !touched[v.ServiceKey] || !v.pooled() {
			continue
		}
		up := e.weightUp(v, x.of[i], hands)
		short := shortOf(v, up, was[v.ServiceKey])
		if short {
			all = append(all, ShortPool{v.ServiceKey, e.shortSince(v.ServiceKey)})
		}
		if short != was[v.ServiceKey] {
			e.noticePool(v, short, v.poolText(short, up))
			if told++; told <= eventsPerCommand {
				e.event("pool", "%s: %s", servicePath(v.ServiceKey), v.poolText(short, up))
			}
		}
	}
	if told > eventsPerCommand {
		e.event("pool", "and likewise of %d more virtual servers", told-eventsPerCommand)
	}
	slices.SortFunc(all, func(a, b ShortPool) int { return a.Service.compare(b.Service) })
	if e.Short = nil; len(all) > 0 {
		e.Short = all
	}
}

// shortSince is when a pool that is short became so.
func (e *edit) shortSince(key ServiceKey) Revision {
	s, _ := find(e.old.Short, func(s ShortPool) bool { return s.Service == key })
	return cmp.Or(s.Since, e.rev)
}

// poolText says how a pool is, for people.
func (v VirtualServer) poolText(short bool, up int) string {
	if !short {
		return fmt.Sprintf("enough real servers are up again (weight %d)", up)
	}
	needs := v.quorum() + int(v.Hysteresis)
	text := fmt.Sprintf("too few real servers are up (weight %d, %d needed)", up, needs)
	backups := slices.ContainsFunc(v.RealServers, func(r RealServer) bool { return r.Backup })
	switch {
	case backups && v.Sorry != nil:
		text += ": the backups serve, or else the sorry server " + v.Sorry.AddrPort().String()
	case backups:
		text += ": the backups serve"
	case v.Sorry != nil:
		text += ": the sorry server " + v.Sorry.AddrPort().String() + " serves"
	}
	return text
}

// PoolState says since when, and how, the pool of a virtual server is short; "": it
// is not.
func (t *Table) PoolState(key ServiceKey) string {
	s, short := find(t.Short, func(s ShortPool) bool { return s.Service == key })
	i := slices.IndexFunc(t.Services, func(v VirtualServer) bool { return v.ServiceKey == key })
	if !short || i < 0 {
		return ""
	}
	v := t.Services[i]
	return fmt.Sprintf("since revision %d %s", s.Since, v.poolText(true, t.weightUp(v, t.index().of[i], handsOf(t.Overrides))))
}

// sorry puts the sorry server into a service's destinations. While it serves, which
// it does if no backup can, the real servers that are up are not there: those that are
// left have weight 0.
func (v VirtualServer) sorry(dests []Dest, short bool) []Dest {
	if v.Sorry == nil || !short && !v.Sorry.Inhibit {
		return dests
	}
	weight := 0
	if short {
		weight = 1
		dests = slices.DeleteFunc(dests, func(d Dest) bool { return d.Weight > 0 })
	}
	return append(dests, Dest{v.Sorry.Addr, v.Sorry.Port, cmp.Or(v.Sorry.Method, v.Method), weight, 0, 0})
}

func (p *problems) pool(path string, v VirtualServer) {
	if v.Hysteresis >= uint32(v.quorum()) && v.Hysteresis > 0 {
		p.add(path, "hysteresis %d must be below the quorum, %d", v.Hysteresis, v.quorum())
	}
	if len(v.RealServers) > 0 && !slices.ContainsFunc(v.RealServers, func(r RealServer) bool { return !r.Backup }) {
		p.add(path, "all its real servers are backups: one at least must not be")
	}
	if v.SlowStart != 0 && (v.SlowStart.D() < leastSlowStart || v.SlowStart.D() > mostSlowStart) {
		p.add(path, "slow_start %v is not within %v to %v", v.SlowStart, Duration(leastSlowStart), Duration(mostSlowStart))
	}
	if v.Panic > 99 {
		p.add(path, "panic_threshold %d is not within 1 to 99 percent", v.Panic)
	}
	if v.Quorum > maxQuorumWeight {
		p.add(path, "quorum %d is more than all real servers could weigh", v.Quorum)
	}
	s := v.Sorry
	if s == nil {
		return
	}
	p.addIf(path, prefixed("sorry_server: ", hostProblem(s.Addr)))
	if s.Method != "" && !slices.Contains(Methods, s.Method) {
		p.add(path, "sorry_server: forwarding method %q is unknown: there are %s", s.Method, joined(Methods))
	}
	method := cmp.Or(s.Method, v.Method)
	if s.Addr.IsValid() && s.Addr.Is6() != v.Is6() && method != Tunnel {
		p.add(path, "sorry_server: %s does not change the address family", methodName(method))
	}
	if s.Port != v.Port && method != Masquerade {
		p.add(path, "sorry_server: %s changes no port: it must have the virtual server's, %d", methodName(method), v.Port)
	}
	if s.Addr == v.Addr && s.Addr.IsValid() {
		p.add(path, "sorry_server: its address is the virtual server's")
	}
	if slices.ContainsFunc(v.RealServers, func(r RealServer) bool { return r.AddrPort() == s.AddrPort() }) {
		p.add(path, "sorry_server: %s is a real server of the same virtual server", s.AddrPort())
	}
}

// maxQuorumWeight bounds a quorum.
const maxQuorumWeight = 1 << 30

func (c *checker) checkPools() {
	c.must(c.t.Pooled || len(c.t.Short) == 0, "pools are short, and nobody has begun to look")
	for i, s := range c.t.Short {
		_, there := c.t.Service(s.Service)
		c.must(there && s.Since > 0 && s.Since <= c.t.Revision, "pool %s is short since revision %d", s.Service, s.Since)
		c.must(i == 0 || c.t.Short[i-1].Service.compare(s.Service) < 0, "pool %s is out of order", s.Service)
	}
}
