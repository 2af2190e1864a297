package cluster

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
)

// contact is what this member knows of another one from greeting it.
type contact struct {
	Last  time.Time // of its last answer
	Since time.Time // answering without a break since then
	Hello hello
	Err   string // of the last attempt; empty: it answered
}

// contacts greets every member all the time and remembers who answered when.
type contacts struct {
	every time.Duration
	// members lists whom to greet; greet does it.
	members func() []fsm.MemberID
	greet   func(ctx context.Context, id fsm.MemberID) (hello, error)

	mu   sync.Mutex
	seen map[fsm.MemberID]contact
}

// run greets until ctx ends: a member that does not answer holds up no other.
func (c *contacts) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	busy := make(map[fsm.MemberID]bool)
	over := make(chan fsm.MemberID)
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for ctx.Err() == nil {
		for _, id := range c.members() {
			if busy[id] {
				continue
			}
			busy[id] = true
			g.Go(func() error {
				c.once(ctx, id)
				select {
				case over <- id:
				case <-ctx.Done():
				}
				return nil
			})
		}
		for waiting := true; waiting; {
			select {
			case id := <-over:
				delete(busy, id)
			case <-tick.C:
				waiting = false
			case <-ctx.Done():
				waiting = false
			}
		}
	}
	return g.Wait()
}

func (c *contacts) once(ctx context.Context, id fsm.MemberID) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.every)
	defer cancel()
	h, err := c.greet(ctx, id)
	c.note(id, h, err, time.Now())
}

// note records an answer or its absence. Contact that paused for three rounds
// was broken.
func (c *contacts) note(id fsm.MemberID, h hello, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[fsm.MemberID]contact)
	}
	k := c.seen[id]
	if err != nil {
		k.Err = err.Error()
		c.seen[id] = k
		return
	}
	if k.Since.IsZero() || now.Sub(k.Last) > 3*c.every {
		k.Since = now
	}
	k.Last, k.Hello, k.Err = now, h, ""
	c.seen[id] = k
}

// all returns a copy of what is known.
func (c *contacts) all() map[fsm.MemberID]contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[fsm.MemberID]contact, len(c.seen))
	for id, k := range c.seen {
		out[id] = k
	}
	return out
}

// greet says hello to one member.
func (s *session) greet(ctx context.Context, id fsm.MemberID) (hello, error) {
	var h hello
	_, err := s.call(ctx, id, http.MethodGet, "/v1/hello", nil, &h)
	switch {
	case errors.Is(err, ErrRemoved):
		if !s.removed.Swap(true) {
			s.log.Warn("this machine was removed from the cluster: it serves nothing; run `lbcluster leave` here, and join again if it shall be a member",
				"told_by", string(id))
		}
	case err == nil:
		s.removed.Store(false) // whoever said so did not know better
	}
	return h, err
}

// others lists the members but this one.
func (s *session) others() []fsm.MemberID {
	t, _ := s.n.board.latest()
	members := t.Members
	if len(members) == 0 {
		members = s.id.Members
	}
	var ids []fsm.MemberID
	for _, m := range members {
		if m.ID != s.id.ID {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// othersNow is others, with a channel that is closed when the table changes.
func (s *session) othersNow() ([]fsm.MemberID, <-chan struct{}) {
	_, changed := s.n.board.latest() // first, so that no change is missed
	return s.others(), changed
}
