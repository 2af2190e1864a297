package fsm

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Target names what is probed for r: "" without checks. Servers that have the
// same address, port and checks (in whatever order) have the same target, and
// only they.
func (r RealServer) Target() Target {
	if len(r.Checks) == 0 {
		return ""
	}
	texts := make([]string, len(r.Checks))
	for i, c := range r.Checks {
		texts[i] = c.text(r.AddrPort())
	}
	slices.Sort(texts)
	return Target(r.AddrPort().String() + " " + strings.Join(texts, " + "))
}

// text describes c completely; the destination is left out if it is the server.
func (c Check) text(server netip.AddrPort) string {
	var b strings.Builder
	b.WriteString(string(c.Kind))
	switch {
	case c.Ported() && c.Dest != server:
		b.WriteString(" to " + c.Dest.String())
	case !c.Ported() && c.Dest.Addr() != server.Addr():
		b.WriteString(" to " + c.Dest.Addr().String())
	}
	if c.Bind.IsValid() {
		b.WriteString(" from " + c.Bind.String())
	}
	if c.BindPort != 0 {
		b.WriteString(" from port " + itoa(int(c.BindPort)))
	}
	if c.BindIf != "" {
		b.WriteString(" dev " + quoted(c.BindIf))
	}
	if c.Mark != 0 {
		b.WriteString(" fwmark " + itoa(int(c.Mark)))
	}
	if c.DSR {
		b.WriteString(" dsr")
	}
	if c.Alpha {
		b.WriteString(" alpha")
	}
	if q := c.question(); q != "" {
		b.WriteString(" " + q)
	}
	b.WriteString(" connect_timeout " + c.ConnectTimeout.String())
	b.WriteString(" retry " + itoa(c.Retry))
	b.WriteString(" delay_before_retry " + c.DelayBeforeRetry.String())
	b.WriteString(" delay_loop " + c.DelayLoop.String())
	b.WriteString(" warmup " + c.Warmup.String())
	return b.String()
}

// TargetInfo is a target with what it stands for.
type TargetInfo struct {
	Target Target         `json:"target"`
	Server netip.AddrPort `json:"server"`
	Checks []Check        `json:"checks"`
}

// index is what is derived from Services and costly to find again; it is made
// by whoever changes Services and shared by the tables that follow.
type index struct {
	targets  []TargetInfo // by Target
	byTarget map[Target]int
	of       [][]Target // of each service's real servers, in the order of both
}

// newIndex makes the index of services; was, that of services before, is used
// where they are the same. was may be nil.
func newIndex(services []VirtualServer, was *index, before []VirtualServer) *index {
	x := &index{of: make([][]Target, len(services))}
	known := map[*RealServer][]Target{}
	if was != nil {
		for i, v := range before {
			if len(v.RealServers) > 0 {
				known[&v.RealServers[0]] = was.of[i]
			}
		}
	}
	for i, v := range services {
		if len(v.RealServers) > 0 {
			if x.of[i] = known[&v.RealServers[0]]; len(x.of[i]) != len(v.RealServers) {
				x.of[i] = targetsOf(v.RealServers)
			}
		}
	}
	if was != nil && slices.EqualFunc(x.of, was.of, slices.Equal) {
		x.targets, x.byTarget = was.targets, was.byTarget
		return x
	}
	x.sort(services)
	return x
}

func targetsOf(servers []RealServer) []Target {
	all := make([]Target, len(servers))
	for i, r := range servers {
		all[i] = r.Target()
	}
	return all
}

// sort makes targets and byTarget of what services' servers have.
func (x *index) sort(services []VirtualServer) {
	found := map[Target]TargetInfo{}
	for i, v := range services {
		for j, target := range x.of[i] {
			if _, ok := found[target]; !ok && target != "" {
				r := v.RealServers[j]
				found[target] = TargetInfo{Target: target, Server: r.AddrPort(), Checks: r.Checks}
			}
		}
	}
	x.byTarget = make(map[Target]int, len(found))
	for i, target := range slices.Sorted(maps.Keys(found)) {
		x.targets = append(x.targets, found[target])
		x.byTarget[target] = i
	}
}

func (x *index) has(target Target) bool {
	_, ok := x.byTarget[target]
	return ok
}

// index is t's, made afresh for a table that has none.
func (t *Table) index() *index {
	if t.idx != nil {
		return t.idx
	}
	return newIndex(t.Services, nil, nil)
}

// Targets are all things to probe, each once, sorted.
func (t *Table) Targets() []TargetInfo { return slices.Clone(t.index().targets) }
