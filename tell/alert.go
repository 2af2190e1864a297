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
		if c.Kind == fsm.ChannelRun || !r.table.Hears(c, n) || c.Kind == fsm.ChannelMail && n.State == "FAULT" && r.table.Globals(c.Set).NoEmailFaults {
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
		send, ok := r.alertLetter(c)
		if !ok {
			return
		}
		err := send(ctx)
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
			r.cfg.Log.Warn("cannot be delivered", "what", c, "err", err)
		}
	}
}

func backoff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(retryFirst<<min(failures-1, 20), retryMost)
}

// alertLetter is the mail, or post, of the alerts that wait; one that failed stays as it was.
func (r *Runner) alertLetter(c fsm.Channel) (send func(context.Context) error, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(c)
	if _, ok := r.table.Channel(c); !ok {
		o.alerts, o.batch = nil, 0 // the settings are gone
	}
	if len(o.alerts) == 0 {
		return nil, false
	}
	if o.batch == 0 {
		o.batch = len(o.alerts)
	}
	batch := o.alerts[:o.batch]
	if c.Kind == fsm.ChannelWeb {
		if o.id == "" {
			o.id = hookID(r.cfg.Self, time.Now().UnixNano())
		}
		h := composeHook(r.table.Cluster, c.To, o.id, batch, r.cfg.Name, 0)
		return func(ctx context.Context) error { return r.cfg.Post(ctx, h) }, true
	}
	m := compose(r.table.Globals(c.Set), batch, r.cfg.Name)
	if o.id == "" {
		o.id = messageID(m.From, r.cfg.Self, time.Now().UnixNano())
	}
	m.ID = o.id
	return func(ctx context.Context) error { return r.cfg.Send(ctx, m) }, true
}
