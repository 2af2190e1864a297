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
	if slices.EqualFunc(have.Dests, want.Dests, ipvs.Dest.Same) {
		return nil, nil // the rule: both are sorted where they come from
	}
	service := bare(want)
	op := func(v ipvs.Verb, d ipvs.Dest) ipvs.Op { return ipvs.Op{Verb: v, Service: service, Dest: d} }
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
	s.Dests = nil
	return s.Canonical()
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
// clients to it.) stop is asked now and then.
func carryOut(k Kernel, have []ipvs.Service, ops []ipvs.Op, stop func() bool) outcome {
	c := carrying{k: k, outcome: outcome{failed: map[ipvs.Key]bool{}}, dests: map[ipvs.Key]int{}, absent: map[ipvs.Key]bool{}, short: map[ipvs.Key]bool{}}
	for _, s := range have {
		c.dests[s.Key] = len(s.Dests)
	}
	for len(ops) > 0 {
		if stop() {
			c.errs = append(c.errs, errStopped)
			return c.outcome
		}
		n := stretch(ops)
		c.carry(ops[:n])
		ops = ops[n:]
	}
	return c.outcome
}

// atOnce is how many operations the kernel is given at a time.
const atOnce = 500

// stretch is how many of the first operations can be done at once: none of them
// depends on what becomes of another. Whether a destination is removed does: on
// the additions before.
func stretch(ops []ipvs.Op) int {
	n := 1
	for n < min(len(ops), atOnce) && (ops[n].Verb == ipvs.RemoveDest) == (ops[0].Verb == ipvs.RemoveDest) {
		n++
	}
	return n
}

// carrying is what carryOut knows on its way.
type carrying struct {
	outcome
	k             Kernel
	dests         map[ipvs.Key]int  // how many destinations a service has
	absent, short map[ipvs.Key]bool // services that could not be added; that lack a destination
}

// carry does a stretch of operations.
func (c *carrying) carry(ops []ipvs.Op) {
	todo := make([]ipvs.Op, 0, len(ops))
	for _, op := range ops {
		key := op.Service.Key
		last := op.Verb == ipvs.RemoveDest && c.short[key] && c.dests[key] == 1
		if c.absent[key] || last {
			continue
		}
		if op.Verb == ipvs.RemoveDest {
			c.dests[key]--
		}
		todo = append(todo, op)
	}
	for i, err := range c.k.DoAll(todo) {
		op := todo[i]
		key := op.Service.Key
		switch {
		case err == nil:
			c.done = append(c.done, op)
			if op.Verb == ipvs.AddDest {
				c.dests[key]++
			}
		case c.absent[key]: // what else would become of it
		default:
			c.absent[key] = op.Verb == ipvs.AddService
			c.short[key] = c.short[key] || op.Verb == ipvs.AddDest
			c.errs = append(c.errs, fmt.Errorf("%s: %w", key, err))
			c.failed[key] = true
		}
	}
}

var errStopped = errors.New("stopped on the way")
