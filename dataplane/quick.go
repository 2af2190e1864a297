package dataplane

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// A whole pass lists what the kernel has: with ten thousand real servers that takes
// longer than all else, and most changes are of one of them. So a table that differs
// from the one of the last good pass in nothing but the real servers of services
// that stood then is applied after a look at those alone. Should the kernel have
// another opinion of one, a whole pass follows at once; what others changed elsewhere
// is found by the next look for drift, as ever.

// quickMost is how many services are looked at one by one.
const quickMost = 16

// settled is what the last good pass was of.
type settled struct {
	table *fsm.Table // nil: there was none, or the last one was not good
	want  []ipvs.Service
	at    map[ipvs.Key]int // where a service is in Plane.stood
	own   map[netip.Addr]bool
	local bool       // this host serves a VIP itself: what is on lo matters, too
	since []ipvs.Key // services that were applied without a whole pass
}

// settle notes a good pass.
func (p *Plane) settle(t *fsm.Table, want []ipvs.Service, local bool) {
	p.settled = settled{table: t, want: want, at: map[ipvs.Key]int{}, own: ownAddrs(t, p.cfg.Self, p.guard.host), local: local}
	for i, s := range p.stood {
		p.settled.at[s.Key] = i
	}
}

// browse is List in steps, so that a small change need not wait until all is read.
// nil: it cannot be so read, or something came up that takes a whole pass anyway.
func (p *Plane) browse(ctx context.Context) []ipvs.Service {
	if p.settled.table == nil {
		return nil
	}
	have, err := p.cfg.IPVS.Services()
	if err != nil {
		return nil // a whole pass tells of it
	}
	at := map[ipvs.Key]int{}
	for i, s := range have {
		at[s.Key] = i
	}
	p.settled.since = nil
	for i := range len(have) + 1 {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wakeTable:
			if !p.quick(ctx) {
				return nil
			}
		default:
		}
		if i == len(have) {
			break
		}
		if have[i].Dests, err = p.cfg.IPVS.Dests(have[i].Key); err != nil {
			return nil
		}
	}
	for _, key := range p.settled.since { // some were read before they changed
		i, ok := at[key]
		if !ok {
			return nil
		}
		if have[i].Dests, err = p.cfg.IPVS.Dests(key); err != nil {
			return nil
		}
	}
	return have
}

// wanted is Want of t, found again only for another table.
func (p *Plane) wanted(t *fsm.Table) []ipvs.Service {
	if p.settled.table == t {
		return p.settled.want
	}
	return Want(t)
}

// quick applies the current table without a look at the kernel, if that can be; false:
// a whole pass is needed.
func (p *Plane) quick(ctx context.Context) bool {
	t, _ := p.current()
	s := p.settled
	if t == nil || s.table == nil || t == s.table || s.local || !p.alike(t) {
		return false
	}
	fresh, ok := p.fresh(t)
	if !ok {
		return false
	}
	have, drift, err := p.lookAt(fresh)
	if err != nil {
		return false // a whole pass tells of it
	}
	out := carryOut(p.cfg.IPVS, have, Diff(have, fresh, nil), func() bool { return ctx.Err() != nil })
	p.report(t, out, drift)
	if len(out.errs) > 0 {
		p.settled = settled{}
		return false
	}
	p.stand(t, fresh)
	return true
}

// lookAt reads what the kernel has of services that stood; drift are the operations
// that undo what others did to them.
func (p *Plane) lookAt(services []ipvs.Service) (have []ipvs.Service, drift map[string]bool, err error) {
	var stood []ipvs.Service
	for _, s := range services {
		s = p.stood[p.settled.at[s.Key]]
		stood = append(stood, s)
		if s.Dests, err = p.cfg.IPVS.Dests(s.Key); err != nil {
			return nil, nil, err
		}
		have = append(have, s)
	}
	drift = map[string]bool{}
	for _, op := range Diff(have, stood, nil) {
		drift[op.String()] = true
	}
	return have, drift, nil
}

// alike reports whether t has all that a pass looks at, but for services, as the
// table of the last one.
func (p *Plane) alike(t *fsm.Table) bool {
	o := p.settled.table
	return t.Cluster == o.Cluster && reflect.DeepEqual(t.Routers, o.Routers) && reflect.DeepEqual(t.Groups, o.Groups) &&
		reflect.DeepEqual(t.Members, o.Members) && reflect.DeepEqual(p.wantSettings(t), p.tuning.told)
}

// fresh are the services of t that are not as they stood; false: there is one of
// which a whole pass must decide.
func (p *Plane) fresh(t *fsm.Table) ([]ipvs.Service, bool) {
	touched := t.Touched(p.settled.table)
	if len(touched) > quickMost {
		return nil, false
	}
	shared := p.record.get().Shared
	plain := func(key fsm.ServiceKey, of *fsm.Table) bool {
		v, there := of.Service(key)
		return there && v.Mark == 0 && v.Sorry == nil && !slices.Contains(shared, key.String()) &&
			!slices.ContainsFunc(v.RealServers, func(r fsm.RealServer) bool { return p.settled.own[r.Addr] })
	}
	for key := range touched {
		if !plain(key, t) || !plain(key, p.settled.table) {
			return nil, false
		}
		now, _ := t.Service(key)
		was, _ := p.settled.table.Service(key)
		if !maps.Equal(pathsOf(now), pathsOf(was)) {
			return nil, false
		}
	}
	var fresh []ipvs.Service
	for _, s := range t.EffectiveWhere(func(k fsm.ServiceKey) bool { return touched[k] }) {
		w := wantService(s)
		i, stood := p.settled.at[w.Key]
		if !stood || !p.stood[i].Same(w) || crosses(w) || crosses(p.stood[i]) {
			return nil, false
		}
		fresh = append(fresh, w)
	}
	return fresh, true
}

// stand notes that fresh stands now, and with it the table.
func (p *Plane) stand(t *fsm.Table, fresh []ipvs.Service) {
	p.stood = slices.Clone(p.stood)
	for _, s := range fresh {
		p.stood[p.settled.at[s.Key]] = s
		p.settled.since = append(p.settled.since, s.Key)
	}
	n := len(p.settled.want) // behind those of the table stand hidden ones
	p.settled.table, p.settled.want = t, p.stood[:n:n]
	p.record.update(func(r *recorded) { r.Revision = t.Revision })
	p.mu.Lock()
	p.status.Services = slices.Clone(p.status.Services)
	for _, s := range fresh {
		p.status.restate(s)
	}
	p.mu.Unlock()
	p.noteWhole(t)
}

// restate puts s in place of what the status has of it; connections are as they were
// counted last.
func (s *Status) restate(now ipvs.Service) {
	i := slices.IndexFunc(s.Services, func(o ServiceStatus) bool { return o.Service == now.Key.String() })
	if i < 0 {
		return
	}
	counted := map[netip.AddrPort]DestStatus{}
	for _, d := range s.Services[i].Dests {
		counted[d.Addr] = d
	}
	is := serviceStatus(now)
	for j := range is.Dests {
		is.Dests[j].Active, is.Dests[j].Inactive = counted[is.Dests[j].Addr].Active, counted[is.Dests[j].Addr].Inactive
	}
	s.Services[i] = is
}

// after is what the kernel has once all operations of a pass succeeded: what is
// wanted, with the connections counted before, and what is not ours.
func after(have, want []ipvs.Service, ours Ownership) []ipvs.Service {
	had := byKey(have)
	out := make([]ipvs.Service, 0, len(want))
	for _, w := range want {
		counted := map[ipvs.DestKey]ipvs.Dest{}
		for _, d := range had[w.Key].Dests {
			counted[d.DestKey] = d
		}
		w.Dests = slices.Clone(w.Dests)
		for i := range w.Dests {
			d := &w.Dests[i]
			d.Active, d.Inactive = counted[d.DestKey].Active, counted[d.DestKey].Inactive
		}
		out = append(out, w)
		delete(had, w.Key)
	}
	maps.DeleteFunc(had, func(k ipvs.Key, _ ipvs.Service) bool { return ours[k] })
	for _, s := range had {
		out = append(out, s)
	}
	ipvs.Sort(out)
	return out
}
