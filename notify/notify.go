package notify

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
	"lbcluster/script"
)

// State is a virtual router's state on one director, in keepalived's words.
type State string

const (
	Master State = "MASTER"
	Backup State = "BACKUP"
	Fault  State = "FAULT"
	Stop   State = "STOP"
)

// StateOf is the state of a router that this director owns or not, and could
// hold or not.
func StateOf(owned, fault bool) State {
	switch {
	case owned:
		return Master
	case fault:
		return Fault
	}
	return Backup
}

// Limit is how long one script may take.
const Limit = 30 * time.Second

// Subject is what has a state: a virtual router or a sync group.
type Subject struct {
	Group    bool
	Name     string
	Priority int // as the last argument of notify
	Scripts  fsm.Notify
	Pipes    []string // that get a line of each change
}

// kind is keepalived's word for what it is.
func (s Subject) kind() string {
	if s.Group {
		return "GROUP"
	}
	return "INSTANCE"
}

// id tells a group from a router of the same name.
type id struct {
	group bool
	name  string
}

// queued bounds the changes of one subject that wait for its scripts. What does
// not fit any more is the oldest: a script that hangs for minutes needs the
// latest state most.
const queued = 64

// change is a new state of a subject.
type change struct {
	Subject
	state State
}

// Runner tells changes. Set may be called any time from anywhere and never waits.
type Runner struct {
	log   *slog.Logger
	pipes *Pipes
	run   func(context.Context, script.Job) (int, error)

	mu     sync.Mutex
	states map[id]State
	queues map[id]*queue
	wake   chan struct{} // one slot: a queue has appeared
	closed bool
}

// queue is the changes of one subject. Invariant: at most one goroutine runs
// its scripts.
type queue struct {
	changes []change
	busy    bool
}

// New starts nothing: see [Runner.Run].
func New(pipes *Pipes, log *slog.Logger) *Runner {
	return &Runner{log: log, pipes: pipes, run: script.Run, states: map[id]State{}, queues: map[id]*queue{}, wake: make(chan struct{}, 1)}
}

// Set tells the state of a subject. Only a change counts.
func (r *Runner) Set(s Subject, state State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := id{s.Group, s.Name}
	if r.closed || r.states[k] == state {
		return
	}
	r.states[k] = state
	if state == Stop {
		delete(r.states, k)
	}
	r.pipes.Write(s.Pipes, fmt.Sprintf("%s \"%s\" %s %d\n", s.kind(), s.Name, state, s.Priority))
	if s.Scripts == (fsm.Notify{}) {
		return
	}
	q := r.queues[k]
	if q == nil {
		q = &queue{}
		r.queues[k] = q
	}
	if len(q.changes) == queued {
		r.log.Warn("a notify script is too slow: a change of state is not told", "name", s.Name, "state", q.changes[0].state)
		q.changes = q.changes[1:]
	}
	q.changes = append(q.changes, change{s, state})
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// farewell is how long scripts may go on after Run was told to end.
const farewell = 5 * time.Second

// Run runs the scripts until ctx ends, and then those that are queued, for a few
// seconds: a STOP is told at the end.
func (r *Runner) Run(ctx context.Context) error {
	var g errgroup.Group
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.wake:
		}
		r.serve(running, &g)
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.serve(running, &g)
	last := time.AfterFunc(farewell, kill)
	defer last.Stop()
	return g.Wait()
}

// serve starts a goroutine for each queue that has none.
func (r *Runner) serve(ctx context.Context, g *errgroup.Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, q := range r.queues {
		if q.busy {
			continue
		}
		q.busy = true
		g.Go(func() error {
			r.drain(ctx, k, q)
			return nil
		})
	}
}

// drain runs the scripts of one subject until no change is left.
func (r *Runner) drain(ctx context.Context, k id, q *queue) {
	for {
		r.mu.Lock()
		if len(q.changes) == 0 {
			delete(r.queues, k)
			r.mu.Unlock()
			return
		}
		c := q.changes[0]
		q.changes = q.changes[1:]
		r.mu.Unlock()
		for _, j := range c.jobs() {
			if _, err := r.run(ctx, j); err != nil {
				r.log.Warn("a notify script failed", "name", c.Name, "state", c.state, "command", j.Command, "err", err)
			}
		}
	}
}

// jobs are the executions that tell a change, in order.
func (c change) jobs() []script.Job {
	own := map[State]*fsm.Script{Master: c.Scripts.Master, Backup: c.Scripts.Backup, Fault: c.Scripts.Fault, Stop: c.Scripts.Stop}[c.state]
	var jobs []script.Job
	if own != nil {
		jobs = append(jobs, script.Job{Command: own.Command, User: own.User, Timeout: Limit})
	}
	if all := c.Scripts.Any; all != nil {
		jobs = append(jobs, script.Job{Command: all.Command, User: all.User, Timeout: Limit,
			Args: []string{c.kind(), c.Name, string(c.state), strconv.Itoa(c.Priority)}})
	}
	return jobs
}

// Priority is what a router's priority comes to with its trackers' score:
// keepalived keeps it within 1 to 254, unless it is 255.
func Priority(base uint8, score int) int {
	if base == 255 {
		return 255
	}
	return min(max(int(base)+score, 1), 254)
}
