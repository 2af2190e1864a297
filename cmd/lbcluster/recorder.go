package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lbcluster/cluster"
	"lbcluster/cluster/lease"
	"lbcluster/dataplane/gate"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// askJournal is the question for a member's record; its arguments are from and
// to, in RFC 3339.
const (
	askJournal   = "journal"
	journalLimit = 3 * time.Second
	mostEntries  = 20000 // that one member tells
)

// note records what happened on this member. It never waits.
func (d *theDaemon) note(e journal.Entry) {
	if id, ok := d.node.Identity(); ok {
		e.Node = id.ID
	}
	d.journal.Note(e)
}

// noteStart says how the process before this one ended, as its record tells.
func (d *theDaemon) noteStart(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	before, _ := d.journal.Read(ctx, time.Time{}, time.Time{}, 0) // without it, this is the first start
	d.note(journal.Entry{Kind: journal.Started, Cause: startCause(before, journal.BootID()), Text: "lbcluster " + buildVersion()})
}

// startCause is how the process that wrote the entries ended.
func startCause(before []journal.Entry, bootID string) journal.Cause {
	if len(before) == 0 {
		return journal.FirstStart
	}
	if last := before[len(before)-1]; last.BootID != "" && last.BootID != bootID {
		return journal.AfterBoot
	}
	for _, e := range slices.Backward(before) {
		switch e.Kind {
		case journal.Stopped:
			return journal.AfterStop
		case journal.Reloaded:
			return journal.AfterReload
		case journal.Started:
			return journal.AfterCrash
		}
	}
	return journal.AfterCrash
}

// Standstills: a watcher that should wake every beat and did not for longer
// than stillAfter has been frozen, with the whole process or machine, or
// starved.
const (
	beat       = 50 * time.Millisecond
	stillAfter = 300 * time.Millisecond
	diskBeats  = 20 // the disk's counters are looked at each so many beats
)

// watch records what nobody reports: standstills of the process, and trouble
// with the disk.
func (d *theDaemon) watch(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	last := gate.BootNow()
	disk := d.node.Status().Disk
	forced := map[uint64]string{}
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := gate.BootNow()
		if still := time.Duration(now - last); still > stillAfter {
			d.note(journal.Entry{Kind: journal.Paused, Boot: now, For: still})
		}
		last = now
		if n%diskBeats == 0 {
			d.noteForces(forced)
			was := disk
			disk = d.node.Status().Disk
			if text := diskTrouble(was, disk); text != "" {
				d.note(journal.Entry{Kind: journal.Disk, Text: text})
			}
		}
	}
}

// noteForces records the end of each forced ownership; over is what was recorded.
func (d *theDaemon) noteForces(over map[uint64]string) {
	m := d.part.Load()
	if m == nil {
		return
	}
	routers := m.lease.Status().Routers
	maps.DeleteFunc(over, func(id uint64, _ string) bool { // it is gone
		return !slices.ContainsFunc(routers, func(r lease.RouterStatus) bool { return r.ID == id })
	})
	for _, r := range routers {
		if r.ForceOver != "" && r.ForceOver != over[r.ID] {
			d.log.Warn("a forced ownership is over", "router", r.ID, "why", r.ForceOver)
			d.note(journal.Entry{Kind: journal.ForceEnded, Unit: r.ID, Text: r.ForceOver})
		}
		over[r.ID] = r.ForceOver
	}
}

// diskTrouble says what was added to the counters.
func diskTrouble(was, now cluster.DiskStatus) string {
	if now.AppendErrors+now.AppendTimeouts+now.Retries > was.AppendErrors+was.AppendTimeouts+was.Retries {
		return or(now.LastError, "an operation failed")
	}
	return ""
}

// answerJournal is this member's record for another's question.
func (d *theDaemon) answerJournal(ctx context.Context) ([]byte, error) {
	args := cluster.Arguments(ctx)
	from, err := parseTime(args.Get("from"))
	if err != nil {
		return nil, err
	}
	to, err := parseTime(args.Get("to"))
	if err != nil {
		return nil, err
	}
	return json.Marshal(d.record(ctx, from, to))
}

func parseTime(word string) (time.Time, error) {
	if word == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, word)
	if err != nil {
		return at, fmt.Errorf("%w: %w", fsm.ErrInvalid, err)
	}
	return at, nil
}

// record is this member's own.
func (d *theDaemon) record(ctx context.Context, from, to time.Time) journal.Record {
	ctx, cancel := context.WithTimeout(ctx, journalLimit/2)
	defer cancel()
	id, _ := d.node.Identity()
	r := journal.Record{Node: id.ID, Name: d.cfg.Name, BootID: journal.BootID(), Dropped: d.journal.Dropped(), Trouble: d.journal.Trouble()}
	entries, err := d.journal.Read(ctx, from, to, mostEntries)
	if err != nil && r.Trouble == "" {
		r.Trouble = err.Error()
	}
	r.Entries, r.Now, r.NowBoot = entries, time.Now(), gate.BootNow()
	return r
}

// Journal implements api.Observer.
func (d *theDaemon) Journal(ctx context.Context, from, to time.Time) []journal.Record {
	self, _ := d.node.Identity()
	ctx, cancel := context.WithTimeout(ctx, journalLimit)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	records := map[fsm.MemberID]journal.Record{self.ID: {}}
	for _, m := range d.node.Table().Members {
		if m.ID == self.ID {
			continue
		}
		wg.Go(func() {
			r := d.askRecord(ctx, m, from, to)
			mu.Lock()
			defer mu.Unlock()
			records[m.ID] = r
		})
	}
	own := d.record(ctx, from, to)
	wg.Wait()
	records[self.ID] = own
	var out []journal.Record
	for _, id := range slices.Sorted(maps.Keys(records)) {
		out = append(out, records[id])
	}
	return out
}

// askRecord asks one member, and measures how far its clock is from ours: its
// answer was made between the question and the answer's arrival.
func (d *theDaemon) askRecord(ctx context.Context, m fsm.Member, from, to time.Time) journal.Record {
	args := url.Values{}
	for name, at := range map[string]time.Time{"from": from, "to": to} {
		if !at.IsZero() {
			args.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	asked := time.Now()
	b, err := d.node.Ask(ctx, m.ID, askJournal+"?"+args.Encode())
	took := time.Since(asked)
	var r journal.Record
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return journal.Record{Node: m.ID, Name: m.Name, Error: noAnswer(ctx, err)}
	}
	r.Node, r.Name = m.ID, m.Name
	r.Margin = took / 2
	r.Offset = r.Now.Sub(asked.Add(r.Margin))
	return r
}

// noAnswer says in few words why a member gave none.
func noAnswer(ctx context.Context, err error) string {
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return fmt.Sprintf("no answer within %v", journalLimit)
	case errors.As(err, &op):
		return op.Err.Error() // without the request that it was
	}
	return err.Error()
}

// noteFit passes a judgement of fitness on and records each change of it.
func (d *theDaemon) noteFit(set func(ok bool, why string)) func(ok bool, why string) {
	var mu sync.Mutex
	said := "" // fit; a member that never was records its first reason
	return func(ok bool, why string) {
		set(ok, why)
		mu.Lock()
		defer mu.Unlock()
		if ok {
			why = ""
		}
		if why == said {
			return
		}
		said = why
		d.note(fitEntry(0, why))
	}
}

// fitEntry records that a unit, or with 0 the whole member, became unfit for a
// reason, or fit without one.
func fitEntry(unit uint64, why string) journal.Entry {
	if why == "" {
		return journal.Entry{Kind: journal.Fit, Unit: unit}
	}
	return journal.Entry{Kind: journal.Unfit, Unit: unit, Text: why}
}

// lostCause reads the lease's reason for the end of a tenure.
func lostCause(why string) journal.Cause {
	for start, cause := range map[string]journal.Cause{
		"the lease ran out":              journal.Expired,
		"the daemon stops":               journal.Stopping,
		"not fit":                        journal.Unable,
		"unfit":                          journal.Unable,
		"the gate cannot be opened":      journal.NoGate,
		"the router has other addresses": journal.Readdress,
		"the router is gone":             journal.Unwanted,
		"the router has no address":      journal.Unwanted,
		"this member does not stand":     journal.Unwanted,
		"handed over":                    journal.Yielded,
	} {
		if strings.HasPrefix(why, start) {
			return cause
		}
	}
	return ""
}

// unitName names a unit as people know it.
func unitName(t *fsm.Table, unit uint64) string {
	for _, r := range t.Routers {
		if r.ID == unit {
			return r.Name
		}
	}
	return "router " + strconv.FormatUint(unit, 10)
}
