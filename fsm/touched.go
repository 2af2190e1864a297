package fsm

import "net/netip"

// Touched are the virtual servers that may be otherwise in t's [Table.Effective]
// than in before's: those that are new, gone or changed, and those that have a
// server of which an operator, or the directors, say something else. before may be
// any table; one from which t was made shares what is equal, which makes it quick.
func (t *Table) Touched(before *Table) map[ServiceKey]bool {
	touched := map[ServiceKey]bool{}
	old := make(map[ServiceKey]VirtualServer, len(before.Services))
	for _, v := range before.Services {
		old[v.ServiceKey] = v
	}
	for _, v := range t.Services {
		if was, ok := old[v.ServiceKey]; !ok || !was.equal(v) {
			touched[v.ServiceKey] = true
		}
		delete(old, v.ServiceKey)
	}
	for key := range old {
		touched[key] = true
	}
	t.touchedByHealth(before, touched)
	t.touchedByHand(before, touched)
	t.touchedByPools(before, touched)
	return touched
}

func (t *Table) touchedByPools(before *Table, touched map[ServiceKey]bool) {
	if same(t.Short, before.Short) {
		return
	}
	is, was := t.short(), before.short()
	for key := range is {
		touched[key] = touched[key] || !was[key]
	}
	for key := range was {
		touched[key] = touched[key] || !is[key]
	}
	for key, yes := range touched {
		if !yes {
			delete(touched, key)
		}
	}
}

func (t *Table) touchedByHealth(before *Table, touched map[ServiceKey]bool) {
	turned := map[Target]bool{}
	for target, h := range t.Health {
		if h.inKernel() != before.Health[target].inKernel() {
			turned[target] = true
		}
	}
	for target, h := range before.Health {
		if h.inKernel() != t.Health[target].inKernel() {
			turned[target] = true
		}
	}
	if len(turned) == 0 {
		return
	}
	x := t.index()
	for i, v := range t.Services {
		for _, target := range x.of[i] {
			if turned[target] {
				touched[v.ServiceKey] = true
				break
			}
		}
	}
}

func (t *Table) touchedByHand(before *Table, touched map[ServiceKey]bool) {
	if same(t.Overrides, before.Overrides) {
		return
	}
	was := map[overrideKey]Override{}
	for _, o := range before.Overrides {
		was[overrideKey{o.Service, o.Server}] = o
	}
	anywhere := map[netip.AddrPort]bool{}
	changed := func(k overrideKey) {
		if k.service == (ServiceKey{}) {
			anywhere[k.server] = true
		} else {
			touched[k.service] = true
		}
	}
	for _, o := range t.Overrides {
		k := overrideKey{o.Service, o.Server}
		if p, ok := was[k]; !ok || !o.equal(p) {
			changed(k)
		}
		delete(was, k)
	}
	for k := range was {
		changed(k)
	}
	if len(anywhere) == 0 {
		return
	}
	for _, v := range t.Services {
		for _, r := range v.RealServers {
			if anywhere[r.AddrPort()] {
				touched[v.ServiceKey] = true
				break
			}
		}
	}
}
