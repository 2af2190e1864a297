package dataplane

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// reconcileLoop applies each new table at once and looks for drift every
// driftEvery, for services that went every glanceEvery; after an error it tries
// again sooner, then less and less often.
func (p *Plane) reconcileLoop(ctx context.Context) error {
	timer, glance := time.NewTimer(0), time.NewTimer(glanceEvery)
	defer timer.Stop()
	defer glance.Stop()
	fails := 0
	for {
		var have []ipvs.Service
		var browsing time.Duration
		select {
		case <-ctx.Done():
			return nil
		case <-p.wakeTable:
			if fails == 0 && p.quick(ctx) {
				continue
			}
		case <-timer.C:
			if began := time.Now(); fails == 0 {
				have = p.browse(ctx)
				browsing = time.Since(began)
			}
		case <-glance.C:
			began := time.Now()
			gone := fails == 0 && p.servicesGone()
			glance.Reset(max(glanceEvery, glanceShare*time.Since(began)))
			if !gone {
				continue
			}
		}
		began := time.Now()
		err := p.reconcile(ctx, have)
		wait := min(max(driftEvery, driftShare*(browsing+time.Since(began))), driftSlowest)
		if err != nil && ctx.Err() == nil {
			p.retrying("apply the table", err)
			wait = min(firstRetry<<min(fails, 10), driftEvery)
			fails++
		} else if err == nil {
			p.succeeded()
			fails = 0
		}
		timer.Reset(wait)
	}
}

// reconcile makes one pass: gate, record, IPVS, marks. A mark is put on packets
// once its service stands, and no more before the service goes. have is what IPVS has;
// nil: it is to be listed.
func (p *Plane) reconcile(ctx context.Context, have []ipvs.Service) error {
	t, why := p.current()
	if t == nil {
		p.setWaiting(why)
		return nil
	}
	p.setWaiting("")
	ls, served, err := p.lookLocal(t)
	if err != nil {
		return err
	}
	gateErr := p.setGate(t, p.stillLocal(served))
	table := p.wanted(t)
	ways := pathsFor(t)
	wayMarks := markPaths(ways)
	want := slices.Concat(table, markServices(ls), pathServices(wayMarks))
	ours := p.record.get().owns()
	were := maps.Clone(ours)
	for _, s := range want {
		ours[s.Key] = true
	}
	ours.own(nil)
	marks := Marks(t)
	p.record.update(func(r *recorded) {
		r.setServices(ours)
		r.Marks = r.Marks || len(marks) > 0 && p.cfg.Marks != nil
	})
	recordErr := p.record.save(recordLimit) // not fatal: this process knows by itself

	if have == nil {
		if have, err = p.cfg.IPVS.List(); err != nil {
			return errors.Join(gateErr, recordErr, err)
		}
	}
	ours.own(have)
	p.share(want, have, were)
	want = append(want, p.hold(t, want, ls)...)
	ops := Diff(have, want, ours)
	drift := p.drift(t, have, ours, ops)
	marksErr := errors.Join(p.narrowMarks(marks), p.makeRoom(want))
	p.settled = settled{}
	out := carryOut(p.cfg.IPVS, have, ops, func() bool { return ctx.Err() != nil })
	p.report(t, out, drift)
	p.standPaths(ways, wayMarks, out)
	if marksErr == nil && ctx.Err() == nil {
		marksErr = p.setMarks(standing(marks, out))
	}
	if ctx.Err() == nil {
		p.tune(t, want)
	}
	if gateErr == nil && ctx.Err() == nil {
		for vip := range served {
			if out.failed[ipvs.Key{Mark: LocalMark, V6: vip.Is6()}] {
				delete(served, vip) // a member's packet would be balanced once more
			}
		}
		gateErr = p.setGate(t, served)
	}
	if len(out.errs) == 0 {
		have = after(have, want, ours)
	}
	p.listed(have, want, ours)
	if len(out.errs) > 0 && len(out.done) > 0 {
		p.relist(want, ours)
	}
	if gateErr != nil {
		return errors.Join(gateErr, recordErr, out.err(), marksErr)
	}
	if len(out.errs) == 0 || out.refusedOnly() {
		p.setReady()
	}
	if len(out.errs) == 0 && marksErr == nil {
		p.applied(t, want)
		p.settle(t, table, len(ls) > 0)
	}
	return errors.Join(recordErr, out.err(), marksErr)
}

// servicesGone reports whether a service that stood is there no more. IPVS tells
// nobody, and a keepalived that ran here before removes its services when it is
// stopped: the connections that come until they are back find no server.
func (p *Plane) servicesGone() bool {
	if len(p.stood) == 0 {
		return false
	}
	all, err := p.cfg.IPVS.Services()
	if err != nil {
		return false // the next whole pass says so
	}
	there := make(map[ipvs.Key]bool, len(all))
	for _, s := range all {
		there[s.Key] = true
	}
	return slices.ContainsFunc(p.stood, func(s ipvs.Service) bool { return !there[s.Key] })
}

// relist reads the table again so that status shows what now stands.
func (p *Plane) relist(want []ipvs.Service, ours Ownership) {
	if have, err := p.cfg.IPVS.List(); err == nil {
		p.listed(have, want, ours)
	}
}

// drift is what would bring the kernel back to what stood there at the last
// good pass: what somebody changed since. A newer table often comes before the
// next look, so that it cannot be told from the revision; those among ops, the
// operations for the new table, that are the same repair it.
func (p *Plane) drift(t *fsm.Table, have []ipvs.Service, ours Ownership, ops []ipvs.Op) map[string]bool {
	p.mu.Lock()
	known := p.status.Whole && p.status.Cluster == t.Cluster
	p.mu.Unlock()
	if !known || len(ops) == 0 {
		return nil
	}
	if p.settled.table != t {
		ops = Diff(have, p.stood, ours)
	}
	drift := map[string]bool{}
	for _, op := range ops {
		drift[op.String()] = true
	}
	return drift
}

// opsTold is how many operations of one pass are logged.
const opsTold = 100

// count counts what was done.
func (p *Plane) count(done []ipvs.Op) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, op := range done {
		if hidden(op.Service.Key) {
			continue
		}
		if p.status.Operations == nil {
			p.status.Operations = map[string]uint64{}
		}
		p.status.Operations[op.Verb.String()]++
	}
}

// report logs what was done and counts the repair of drift.
func (p *Plane) report(t *fsm.Table, out outcome, drift map[string]bool) {
	p.count(out.done)
	if more := len(out.done) - opsTold; more > 0 {
		defer p.log.Info("dataplane: IPVS, and so on", "further_operations", more, "revision", t.Revision)
	}
	for i, op := range out.done {
		if i >= opsTold && len(drift) == 0 {
			return
		}
		text := op.String()
		if hidden(op.Service.Key) {
			p.log.Debug("dataplane: IPVS, hidden", "ipvsadm", text)
			continue
		}
		switch {
		case i >= opsTold:
		case drift[text]:
			p.log.Warn("dataplane: repaired what somebody changed in IPVS", "ipvsadm", text)
		default:
			p.log.Info("dataplane: IPVS", "ipvsadm", text, "revision", t.Revision)
		}
		if !drift[text] {
			continue
		}
		p.mu.Lock()
		p.status.DriftRepaired++
		p.status.LastRepair, p.status.RepairedAt = "ipvsadm "+text, time.Now()
		p.mu.Unlock()
	}
}

// applied notes that the whole table stands.
func (p *Plane) applied(t *fsm.Table, want []ipvs.Service) {
	ours := Ownership{}
	for _, s := range want {
		ours[s.Key] = true
	}
	p.record.update(func(r *recorded) {
		r.setServices(ours)
		r.Cluster, r.Revision = t.Cluster, t.Revision
	})
	p.stood = want
	p.noteWhole(t)
}

// noteWhole notes that the whole table stands in the kernel.
func (p *Plane) noteWhole(t *fsm.Table) {
	p.mu.Lock()
	fresh := !p.status.Whole || p.status.Applied != t.Revision || p.status.Cluster != t.Cluster
	p.status.Whole, p.status.Applied, p.status.Cluster = true, t.Revision, t.Cluster
	p.mu.Unlock()
	if fresh && p.cfg.OnApplied != nil {
		p.cfg.OnApplied(t.Revision)
	}
}

func (p *Plane) setReady() {
	p.mu.Lock()
	first := !p.status.Ready
	p.status.Ready = true
	p.mu.Unlock()
	if first {
		close(p.ready)
		poke(p.wakeRouters) // Fit changes; the router loop tells of it
	}
}
