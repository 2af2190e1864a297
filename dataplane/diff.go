package dataplane

import (
	"errors"
	"fmt"
	"slices"

	"lbcluster/dataplane/ipvs"
)

// Ownership is the set of services that lbcluster made or took over and has
// not removed since.
type Ownership map[ipvs.Key]bool

// Diff returns the operations that turn the kernel's table have into want. What
// ours holds and want lacks is removed; other services are left alone.
//
// First everything is added and changed, service by service in order of keys
// and in each the destinations to add before those to change, then destinations
// are removed, then services: at no moment has a service fewer destinations
// than the poorer of the two tables gives it. Equal tables give no operations.
func Diff(have, want []ipvs.Service, ours Ownership) []ipvs.Op {
	var sets, dests, services []ipvs.Op
	has := byKey(have)
	wanted := byKey(want)
	for _, key := range keys(wanted) {
		w := wanted[key]
		h, exists := has[key]
		switch {
		case !exists:
			sets = append(sets, ipvs.Op{Verb: ipvs.AddService, Service: bare(w)})
		case !h.Same(w):
			sets = append(sets, ipvs.Op{Verb: ipvs.UpdateService, Service: bare(w)})
		}
		set, gone := diffDests(h, w)
		sets, dests = append(sets, set...), append(dests, gone...)
	}
	for _, key := range keys(has) {
		if _, stays := wanted[key]; !stays && ours[key] {
			services = append(services, ipvs.Op{Verb: ipvs.RemoveService, Service: bare(has[key])})
		}
	}
	return slices.Concat(sets, dests, services)
}

// Foreign lists the services that lbcluster never made, in order of keys.
func Foreign(have, want []ipvs.Service, ours Ownership) []ipvs.Service {
	wanted := byKey(want)
	var out []ipvs.Service
	for _, s := range have {
		if _, ok := wanted[s.Key]; !ok && !ours[s.Key] {
			out = append(out, s)
		}
	}
	ipvs.Sort(out)
	return out
}

// diffDests gives the destinations to set (additions first) and to remove.
func diffDests(have, want ipvs.Service) (set, gone []ipvs.Op) {
	op := func(v ipvs.Verb, d ipvs.Dest) ipvs.Op {
		return ipvs.Op{Verb: v, Service: bare(want), Dest: d}
	}
	has := map[ipvs.DestKey]ipvs.Dest{}
	for _, d := range have.Dests {
		has[d.DestKey] = d
	}
	var change []ipvs.Op
	for _, w := range want.Canonical().Dests {
		h, exists := has[w.DestKey]
		switch {
		case !exists:
			set = append(set, op(ipvs.AddDest, w))
		case !h.Same(w):
			change = append(change, op(ipvs.UpdateDest, w))
		}
		delete(has, w.DestKey)
	}
	for _, d := range have.Canonical().Dests {
		if _, left := has[d.DestKey]; left {
			gone = append(gone, op(ipvs.RemoveDest, d))
		}
	}
	return append(set, change...), gone
}

// bare is the service without its destinations, as operations carry it.
func bare(s ipvs.Service) ipvs.Service {
	s = s.Canonical()
	s.Dests = nil
	return s
}

func byKey(services []ipvs.Service) map[ipvs.Key]ipvs.Service {
	m := make(map[ipvs.Key]ipvs.Service, len(services))
	for _, s := range services {
		m[s.Key] = s
	}
	return m
}

func keys(m map[ipvs.Key]ipvs.Service) []ipvs.Key {
	out := make([]ipvs.Key, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, ipvs.Key.Compare)
	return out
}

// outcome is what became of a list of operations.
type outcome struct {
	done []ipvs.Op
	errs []error // in order; operations that were skipped are not among them
	// failed are the services of errs.
	failed map[ipvs.Key]bool
}

// err joins the errors; nil: everything was done.
func (o outcome) err() error { return errors.Join(o.errs...) }

// refusedOnly reports that there were errors, and that all were the kernel's
// refusal of a scheduler it lacks: trying again will not help, and the rest of
// the table stands.
func (o outcome) refusedOnly() bool {
	for _, err := range o.errs {
		if !errors.Is(err, ipvs.ErrScheduler) {
			return false
		}
	}
	return len(o.errs) > 0
}

// carryOut does ops, which Diff made from have, in order. One that fails does
// not hold up the others, but for two cases: nothing is done to a service that
// could not be added, and a service to which a destination could not be added
// keeps its last one, because a wrong server is better than none. (A server
// that is down goes even then: waiting for another's addition would send
// clients to it.) stop is asked before each operation.
func carryOut(k Kernel, have []ipvs.Service, ops []ipvs.Op, stop func() bool) outcome {
	out := outcome{failed: map[ipvs.Key]bool{}}
	dests := map[ipvs.Key]int{}
	for _, s := range have {
		dests[s.Key] = len(s.Dests)
	}
	absent, short := map[ipvs.Key]bool{}, map[ipvs.Key]bool{}
	for _, op := range ops {
		key := op.Service.Key
		if stop() {
			out.errs = append(out.errs, errStopped)
			return out
		}
		if absent[key] || op.Verb == ipvs.RemoveDest && short[key] && dests[key] == 1 {
			continue
		}
		if err := k.Do(op); err != nil {
			absent[key] = op.Verb == ipvs.AddService
			short[key] = short[key] || op.Verb == ipvs.AddDest
			out.errs = append(out.errs, fmt.Errorf("%s: %w", key, err))
			out.failed[key] = true
			continue
		}
		out.done = append(out.done, op)
		dests[key] += map[ipvs.Verb]int{ipvs.AddDest: 1, ipvs.RemoveDest: -1}[op.Verb]
	}
	return out
}

var errStopped = errors.New("stopped on the way")
