package tell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
)

const (
	// Settle is how long a teller waits for more before it makes a batch.
	Settle = 3 * time.Second
	// batchMost bounds the notices of one mail.
	batchMost = 200
	// giveUp is how often a mail server may refuse a mail for good.
	giveUp = 10
	// passAfter failures another director tries.
	passAfter = 2
	// retryFirst doubles with each failure up to retryMost.
	retryFirst = 2 * time.Second
	retryMost  = 5 * time.Minute
	// proposeLimit bounds one proposal, proposeRetry is the pause after a failed one.
	proposeLimit = 3 * time.Second
	proposeRetry = time.Second
)

// Config is what a Runner needs.
type Config struct {
	Self    fsm.MemberID
	Name    string // of this member
	Propose func(context.Context, fsm.Command) (fsm.Result, error)
	Send    func(context.Context, Mail) error // nil: Send
	Post    func(context.Context, Hook) error // nil: Post
	// Run runs the programs of a batch of notices of servers and pools, and writes
	// their lines; what fails it logs itself. nil: this member is no director.
	Run func(context.Context, *fsm.Table, []fsm.Notice)
	Log *slog.Logger
}

// Runner tells what is this member's to tell.
type Runner struct {
	cfg Config

	mu      sync.Mutex
	table   *fsm.Table
	changed chan struct{}        // closed and replaced with each table
	outs    map[fsm.Channel]*out // by keyOf
	wake    chan struct{}        // one slot: somebody should look again
}

// keyOf is what stays the same of a channel.
func keyOf(c fsm.Channel) fsm.Channel {
	return fsm.Channel{Kind: c.Kind, Set: c.Set, To: c.To, Of: c.Of}
}

// out is what this process knows of one channel.
type out struct {
	busy      bool   // a goroutine works on it
	sent      uint64 // the claim whose mail was accepted; its record may be missing
	failures  int    // since the last mail that was accepted
	refused   int    // how many of them were for good
	err       error  // the last of them; nil: none
	errAt     time.Time
	next      time.Time // not before
	alerts    []fsm.Notice
	batch     int    // how many of alerts are in the mail under way
	id        string // its Message-ID
	localBusy bool
	lost      int // alerts that there was no room for
}

// New starts nothing: see [Runner.Run].
func New(cfg Config) *Runner {
	if cfg.Send == nil {
		cfg.Send = Send
	}
	if cfg.Post == nil {
		cfg.Post = Post
	}
	return &Runner{cfg: cfg, table: fsm.New(), changed: make(chan struct{}), outs: map[fsm.Channel]*out{}, wake: make(chan struct{}, 1)}
}

// Update hands it the latest table. It never waits.
func (r *Runner) Update(t *fsm.Table) {
	r.mu.Lock()
	r.table = t
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	r.poke()
}

func (r *Runner) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// of is the channel's out; the lock is held.
func (r *Runner) of(c fsm.Channel) *out {
	o := r.outs[keyOf(c)]
	if o == nil {
		o = &out{}
		r.outs[keyOf(c)] = o
	}
	return o
}

// Run tells until ctx ends; a mail that is being sent then is given up.
func (r *Runner) Run(ctx context.Context) error {
	var g errgroup.Group
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.wake:
			r.start(ctx, &g)
		}
	}
	return g.Wait()
}

// start gives each channel with something to do a goroutine.
func (r *Runner) start(ctx context.Context, g *errgroup.Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.table.Channels {
		o := r.of(c)
		if !o.busy && r.pending(c) {
			o.busy = true
			g.Go(func() error {
				r.work(ctx, c)
				r.mu.Lock()
				o.busy = false
				r.mu.Unlock()
				r.poke()
				return nil
			})
		}
		if !o.localBusy && len(o.alerts) > 0 {
			o.localBusy = true
			g.Go(func() error {
				r.workAlerts(ctx, c)
				r.mu.Lock()
				o.localBusy = false
				r.mu.Unlock()
				r.poke()
				return nil
			})
		}
	}
}

// pending reports whether this member has something to tell on c; the lock is held.
func (r *Runner) pending(c fsm.Channel) bool {
	if c.Teller != r.cfg.Self {
		return false
	}
	list, _ := r.table.Untold(c)
	return c.Claim > c.Told || len(list) > 0
}

// mine is the latest table and the channel in it; false: there is nothing for this
// member to tell.
func (r *Runner) mine(was fsm.Channel) (*fsm.Table, fsm.Channel, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.table.Channel(was)
	return r.table, c, ok && r.pending(c)
}

// work tells batch after batch until nothing is left that is this member's to tell.
func (r *Runner) work(ctx context.Context, channel fsm.Channel) {
	for ctx.Err() == nil {
		t, c, ok := r.mine(channel)
		if !ok {
			return
		}
		if c.Claim > c.Told {
			r.tellBatch(ctx, t, c)
			continue
		}
		if c.Kind != fsm.ChannelRun && !pause(ctx, Settle) {
			return
		}
		if t, c, ok = r.mine(channel); !ok || c.Claim > c.Told {
			continue
		}
		list, _ := t.Untold(c)
		r.propose(ctx, c, fsm.Tell{Claim: list[min(len(list), batchMost)-1].Seq})
	}
}

// tellBatch sends the mail of a claimed batch, unless this process has, and records
// it.
func (r *Runner) tellBatch(ctx context.Context, t *fsm.Table, c fsm.Channel) {
	r.mu.Lock()
	o := r.of(c)
	sent, wait := o.sent == c.Claim, time.Until(o.next)
	r.mu.Unlock()
	told := fsm.Tell{Told: c.Claim}
	if c.Kind == fsm.ChannelRun {
		if list := batch(t, c); !sent && r.cfg.Run != nil && len(list) > 0 {
			r.cfg.Run(ctx, t, list)
			if ctx.Err() != nil {
				return
			}
		}
	} else if send, any := r.letter(t, c); any && !sent {
		if wait > 0 {
			r.idle(ctx, wait)
			return // the duty may be another's by now
		}
		err := send(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			if told.GaveUp = r.failed(ctx, c, err); told.GaveUp == "" {
				return
			}
		}
	}
	r.mu.Lock()
	o.sent, o.failures, o.refused, o.next = c.Claim, 0, 0, time.Time{}
	if told.GaveUp == "" {
		o.err = nil
	}
	r.mu.Unlock()
	r.propose(context.WithoutCancel(ctx), c, told) // it was accepted: that must not be forgotten for haste
}

// letter is what goes out for a batch; false: nothing is left to tell.
func (r *Runner) letter(t *fsm.Table, c fsm.Channel) (send func(context.Context) error, any bool) {
	if c.Kind == fsm.ChannelWeb {
		h, any := ComposeHook(t, c, r.cfg.Name)
		return func(ctx context.Context) error { return r.cfg.Post(ctx, h) }, any
	}
	m, any := Compose(t, c, r.cfg.Name)
	return func(ctx context.Context) error { return r.cfg.Send(ctx, m) }, any
}

// failed notes that a mail failed, passes the duty on from time to time, and says
// why the mail is given up; "": it is not.
func (r *Runner) failed(ctx context.Context, c fsm.Channel, err error) (gaveUp string) {
	r.mu.Lock()
	o := r.of(c)
	o.failures++
	if errors.Is(err, ErrRefused) {
		o.refused++
	}
	o.err, o.errAt = err, time.Now()
	wait := min(retryFirst<<min(o.failures-1, 20), retryMost)
	o.next = time.Now().Add(wait)
	failures, refused := o.failures, o.refused
	r.mu.Unlock()
	r.cfg.Log.Warn("cannot be delivered", "what", c, "failures", failures, "again_in", wait, "err", err)
	if refused >= giveUp {
		return err.Error()
	}
	if failures%passAfter == 0 {
		r.propose(ctx, c, fsm.Tell{Pass: true})
	}
	return ""
}

// idle waits, but not longer than until the table changes.
func (r *Runner) idle(ctx context.Context, d time.Duration) {
	r.mu.Lock()
	changed := r.changed
	r.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
}

// propose proposes once, and waits until this member's table has what came of it.
func (r *Runner) propose(ctx context.Context, c fsm.Channel, w fsm.Tell) {
	w.Kind, w.Set, w.To, w.Of, w.Member = c.Kind, c.Set, c.To, c.Of, r.cfg.Self
	ctx, cancel := context.WithTimeout(ctx, proposeLimit)
	defer cancel()
	res, err := r.cfg.Propose(ctx, fsm.Command{Tell: &w})
	if err != nil { // the caller looks at the table again
		r.cfg.Log.Debug("what was told is not recorded yet", "set", w.Set, "err", err)
		pause(ctx, proposeRetry)
		return
	}
	for {
		r.mu.Lock()
		has, changed := r.table.Revision >= res.Revision, r.changed
		r.mu.Unlock()
		if has {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// Status says what cannot be told, a sentence for each channel; none: all is well.
func (r *Runner) Status() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, c := range r.table.Channels {
		o := r.of(c)
		list, lost := r.table.Untold(c)
		waits := len(list)
		if o.err == nil || waits+len(o.alerts) == 0 {
			continue
		}
		text := fmt.Sprintf("%s cannot be delivered: %v (last tried %s UTC; %s", c, o.err,
			o.errAt.UTC().Format(time.DateTime), count(waits+len(o.alerts)))
		if lost += uint64(o.lost); lost > 0 {
			text += fmt.Sprintf(", up to %d were dropped", lost)
		}
		out = append(out, text+")")
	}
	return out
}

// count is "1 event waits", "2 events wait".
func count(n int) string {
	if n == 1 {
		return "1 event waits"
	}
	return fmt.Sprintf("%d events wait", n)
}

// pause waits for d; false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
