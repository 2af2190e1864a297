package fsm

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

func (o Override) same(p Override) bool { return o.Service == p.Service && o.Server == p.Server }

func compareOverrides(a, b Override) int {
	return cmp.Or(cmp.Compare(a.Service.String(), b.Service.String()), a.Server.Compare(b.Server))
}

// String is "drain", "weight 5", "drain for at most 10m0s, weight 5".
func (o Override) String() string {
	var parts []string
	switch {
	case o.Within != 0:
		parts = append(parts, fmt.Sprintf("%s for at most %v", o.State, o.Within))
	case o.State != Enabled:
		parts = append(parts, string(o.State))
	}
	if o.Weight != nil {
		parts = append(parts, fmt.Sprintf("weight %d", *o.Weight))
	}
	return strings.Join(parts, ", ")
}

// where is "real server 1.2.3.5:80" with the virtual server if it is for one.
func (o Override) where() string {
	if o.Service == (ServiceKey{}) {
		return "real server " + o.Server.String()
	}
	return fmt.Sprintf("real server %s of %s", o.Server, o.Service)
}

func (o Override) equal(p Override) bool {
	sameWeight := (o.Weight == nil) == (p.Weight == nil) && (o.Weight == nil || *o.Weight == *p.Weight)
	return o.same(p) && o.State == p.State && o.Within == p.Within && sameWeight
}

// How long a drain can take.
const (
	leastDrain = Duration(time.Second)
	mostDrain  = Duration(31 * 24 * time.Hour)
)

func (o Override) problem() string {
	if o.State != Enabled && o.State != Drained && o.State != Disabled {
		return fmt.Sprintf("state %q is neither %s nor %s", o.State, Drained, Disabled)
	}
	if o.Within != 0 && (o.State != Drained || o.Within < leastDrain || o.Within > mostDrain) {
		return fmt.Sprintf("only a drain ends by itself, after %v to %v: not %q after %v", leastDrain, mostDrain, o.State, o.Within)
	}
	if o.Weight != nil && (*o.Weight < 0 || *o.Weight > MaxWeight) {
		return fmt.Sprintf("weight %d is not within 0 to %d", *o.Weight, MaxWeight)
	}
	return ""
}

func (e *edit) setOverride(s SetOverride) error {
	if s.Over {
		return e.endDrain(s)
	}
	o := Override{Service: s.Service, Server: s.Server, State: s.State, By: e.cmd.By, Within: s.Within}
	if s.State != Enabled && e.cmd.Version >= 3 {
		o.Since = e.cmd.At
	}
	if s.Weight != nil {
		weight := *s.Weight
		o.Weight = &weight
	}
	if bad := o.problem(); bad != "" {
		return invalid("%s: %s", o.where(), bad)
	}
	if !serverIn(e.Services, o) {
		return notFound("%s: no such real server is configured", o.where())
	}
	i := slices.IndexFunc(e.Overrides, o.same)
	switch gone := o.String() == ""; {
	case gone && i < 0, i >= 0 && e.Overrides[i].equal(o):
		return nil
	case gone:
		e.event("override", "%s is as configured again (was: %s)", o.where(), e.Overrides[i])
		e.Overrides = slices.Delete(slices.Clone(e.Overrides), i, i+1)
		return nil
	}
	if i >= 0 && e.Overrides[i].State == o.State && e.Overrides[i].Within == o.Within {
		o.Since = e.Overrides[i].Since // the weight alone changes
	}
	e.event("override", "%s is set by hand: %s", o.where(), o)
	rest := slices.DeleteFunc(slices.Clone(e.Overrides), o.same)
	e.Overrides = append(rest, o)
	slices.SortFunc(e.Overrides, compareOverrides)
	return nil
}

// endDrain disables a server whose drain's time is over. A drain that was taken
// back, or asked for anew, since the command was made goes on.
func (e *edit) endDrain(s SetOverride) error {
	i := slices.IndexFunc(e.Overrides, Override{Service: s.Service, Server: s.Server}.same)
	if i < 0 || e.Overrides[i].Within == 0 || !e.Overrides[i].Since.Equal(s.Since) {
		return notFound("%s: no such drain waits for its end any more", Override{Service: s.Service, Server: s.Server}.where())
	}
	e.Overrides = slices.Clone(e.Overrides)
	o := &e.Overrides[i]
	e.event("override", "%s: its drain by %s has taken %v: it is disabled, and what connections it has left end", o.where(), o.By, o.Within)
	o.State, o.Within, o.Since = Disabled, 0, e.cmd.At
	return nil
}

// serverIn reports whether o is about a server that services have.
func serverIn(services []VirtualServer, o Override) bool {
	for _, v := range services {
		if o.Service != (ServiceKey{}) && o.Service != v.ServiceKey {
			continue
		}
		if slices.ContainsFunc(v.RealServers, func(r RealServer) bool { return r.AddrPort() == o.Server }) {
			return true
		}
	}
	return false
}

// byHand is what operators want of the servers of a table.
type byHand map[ServiceKey]map[netip.AddrPort]Override

func handsOf(overrides []Override) byHand {
	h := byHand{}
	for _, o := range overrides {
		if h[o.Service] == nil {
			h[o.Service] = map[netip.AddrPort]Override{}
		}
		h[o.Service][o.Server] = o
	}
	return h
}

// on is the word on one server of one virtual server. Of an override for this
// virtual server and one for all, the stricter state holds, and the weight of
// the closer one.
func (h byHand) on(key ServiceKey, server netip.AddrPort) Override {
	if len(h) == 0 {
		return Override{}
	}
	o, general := h[key][server], h[ServiceKey{}][server]
	if strictness(general.State) > strictness(o.State) {
		o.State, o.By, o.Since, o.Within = general.State, general.By, general.Since, general.Within
	}
	if o.Weight == nil {
		o.Weight = general.Weight
	}
	o.By = cmp.Or(o.By, general.By)
	return o
}

func strictness(s AdminState) int { return slices.Index([]AdminState{Enabled, Drained, Disabled}, s) }

// overrideKey is what an override is about.
type overrideKey struct {
	service ServiceKey
	server  netip.AddrPort
}
