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
	if c.Dest != server {
		b.WriteString(" to " + c.Dest.String())
	}
	if c.Bind.IsValid() {
		b.WriteString(" from " + c.Bind.String())
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
}

func newIndex(services []VirtualServer) *index {
	found := map[Target]TargetInfo{}
	for _, v := range services {
		for _, r := range v.RealServers {
			if target := r.Target(); target != "" {
				if _, ok := found[target]; !ok {
					found[target] = TargetInfo{Target: target, Server: r.AddrPort(), Checks: r.Checks}
				}
			}
		}
	}
	x := &index{byTarget: make(map[Target]int, len(found))}
	for i, target := range slices.Sorted(maps.Keys(found)) {
		x.targets = append(x.targets, found[target])
		x.byTarget[target] = i
	}
	return x
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
	return newIndex(t.Services)
}

// Targets are all things to probe, each once, sorted.
func (t *Table) Targets() []TargetInfo { return slices.Clone(t.index().targets) }
