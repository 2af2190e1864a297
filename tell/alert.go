package tell

import (
	"context"
	"slices"
	"time"

	"lbcluster/fsm"
)

// alertsKept bounds the alerts that wait for one set's mail.
const alertsKept = 100

// alertTries is how often an alert's mail is tried: for over an hour.
const alertTries = 20

// Alert tells what only this member can: see the package's comment. It never waits.
func (r *Runner) Alert(n fsm.Notice) {
	n.At, n.Node, n.Mail = time.Now().UTC().Truncate(time.Second), r.cfg.Name, true
	r.mu.Lock()
	for _, c := range r.table.Channels {
		if c.Kind != fsm.ChannelMail || !r.table.Hears(c, n) || n.State == "FAULT" && r.table.Globals(c.Set).NoEmailFaults {
			continue
		}
		o := r.of(c)
		if o.alerts = append(o.alerts, n); len(o.alerts) > alertsKept { // the mail under way keeps its own
			o.alerts = slices.Delete(o.alerts, o.batch, o.batch+1)
			o.lost++
		}
	}
	r.mu.Unlock()
	r.poke()
}

// workAlerts sends this member's own alerts until none is left.
func (r *Runner) workAlerts(ctx context.Context, c fsm.Channel) {
	failures := 0
	for pause(ctx, max(Settle, backoff(failures))) {
		m, ok := r.alertMail(c)
		if !ok {
			return
		}
		err := r.cfg.Send(ctx, m)
		if ctx.Err() != nil {
			return
		}
		failures++
		r.mu.Lock()
		o := r.of(c)
		if o.err, o.errAt = err, time.Now(); err == nil || failures >= alertTries {
			o.alerts, o.batch, o.id = slices.Clone(o.alerts[o.batch:]), 0, ""
			failures = 0
		}
		r.mu.Unlock()
		if err != nil {
			r.cfg.Log.Warn("mail cannot be delivered", "set", c.Set, "err", err)
		}
	}
}

func backoff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(retryFirst<<min(failures-1, 20), retryMost)
}

// alertMail is the mail of the alerts that wait; one that failed stays as it was.
func (r *Runner) alertMail(c fsm.Channel) (Mail, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(c)
	if _, ok := r.table.Channel(c); !ok {
		o.alerts, o.batch = nil, 0 // the settings are gone
	}
	if len(o.alerts) == 0 {
		return Mail{}, false
	}
	if o.batch == 0 {
		o.batch = len(o.alerts)
	}
	batch := o.alerts[:o.batch]
	m := compose(r.table.Globals(c.Set), batch, r.cfg.Name)
	if o.id == "" {
		o.id = messageID(m.From, r.cfg.Self, time.Now().UnixNano())
	}
	m.ID = o.id
	return m, true
}
