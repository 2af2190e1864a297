package checks

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"lbcluster/fsm"
)

// A connector makes the TCP checks of all targets, on one goroutine. Most directors
// make hardly any others, and a goroutine for each of them wakes twice a check, with
// all that the Go runtime does to find it a thread: that cost three times what the
// system calls do. Here whatever is due within a grain is begun together, and what is
// over is looked at together at the next. So a check may begin, and be found over, a
// grain too late. The pause behind one that passed counts from its beginning, for
// nobody saw its end, so that its beat is kept.
type connector struct {
	net sockets
	// over takes a result and returns the pause before the next check.
	over func(*probing, error, time.Time) time.Duration

	mu    sync.Mutex
	fresh []*attempt
	woken chan struct{} // 1 slot: there are fresh ones

	// What follows belongs to run.
	queue queue
	open  map[int]*attempt // connections that are under way
	last  time.Time        // when one was begun last
}

const (
	// grain is how far apart looks are while checks begin.
	grain = 20 * time.Millisecond
	// slow is how far apart they are once what is under way has not been answered
	// for young.
	slow  = 50 * time.Millisecond
	young = 200 * time.Millisecond
)

// attempt is a check that a connector makes.
type attempt struct {
	*probing
	at    time.Time // when to begin; while under way, when to give up
	fd    int       // -1: not under way
	began time.Time
	index int // in the queue
}

func newConnector(net sockets, over func(*probing, error, time.Time) time.Duration) *connector {
	return &connector{net: net, over: over, woken: make(chan struct{}, 1), open: map[int]*attempt{}}
}

// connects reports whether a connector can make the check.
func connects(c fsm.Check) bool {
	return c.Kind == fsm.CheckTCP && !c.DSR && c.Dest.Addr().Zone() == ""
}

// add makes a check from then on, the first time at a moment, until its context ends.
func (c *connector) add(p *probing, at time.Time) {
	c.mu.Lock()
	c.fresh = append(c.fresh, &attempt{probing: p, at: at, fd: -1})
	c.mu.Unlock()
	poke(c.woken)
}

// run makes checks until ctx ends.
func (c *connector) run(ctx context.Context) {
	defer func() {
		for fd := range c.open {
			c.net.drop(fd)
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.woken:
		case <-timer.C:
		}
		now := time.Now()
		next := c.look(now)
		timer.Reset(next - time.Since(now))
	}
}

// look does what is due and returns how long to wait for the next look.
func (c *connector) look(now time.Time) time.Duration {
	c.mu.Lock()
	for _, a := range c.fresh {
		heap.Push(&c.queue, a)
	}
	c.fresh = nil
	c.mu.Unlock()
	c.net.ended(func(fd int, err error) {
		a := c.open[fd]
		delete(c.open, fd)
		c.end(a, err, now)
	})
	for len(c.queue) > 0 && !c.queue[0].at.After(now) {
		c.due(c.queue[0], now)
	}
	return c.pause(now)
}

// due begins an attempt, or gives it up if it is under way.
func (c *connector) due(a *attempt, now time.Time) {
	switch {
	case a.fd >= 0:
		c.net.drop(a.fd)
		delete(c.open, a.fd)
		c.end(a, context.DeadlineExceeded, now)
	case a.ctx.Err() != nil:
		heap.Remove(&c.queue, a.index)
	default:
		a.began, c.last = now, now
		fd, done, err := c.net.begin(a.check)
		if done {
			c.end(a, err, now)
			return
		}
		a.fd, c.open[fd] = fd, a
		c.wait(a, now.Add(a.check.ConnectTimeout.D()))
	}
}

// end takes in what became of an attempt. What is found for a target that has gone
// means nothing.
func (c *connector) end(a *attempt, err error, now time.Time) {
	a.fd = -1
	if a.ctx.Err() != nil {
		heap.Remove(&c.queue, a.index)
		return
	}
	over := now
	if err != nil {
		err = explain(err, a.check)
	} else {
		over = a.began // it was sooner over than found so
	}
	at := over.Add(c.over(a.probing, err, a.began))
	if !at.After(now) {
		at = now.Add(1) // at the next look: whoever has no delay must not keep this one
	}
	c.wait(a, at)
}

func (c *connector) wait(a *attempt, until time.Time) {
	a.at = until
	heap.Fix(&c.queue, a.index)
}

func (c *connector) pause(now time.Time) time.Duration {
	next := time.Hour // until somebody wakes us
	if len(c.queue) > 0 {
		next = c.queue[0].at.Sub(now)
	}
	if len(c.open) > 0 && now.Sub(c.last) < young {
		next = min(next, grain)
	} else if len(c.open) > 0 {
		next = min(next, slow)
	}
	return max(next, grain)
}

// queue is a heap of attempts by time.
type queue []*attempt

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	a := x.(*attempt)
	a.index = len(*q)
	*q = append(*q, a)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return a
}
