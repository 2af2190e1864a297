package hold

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Every is the pause between two requests on one connection. An emulated
	// machine that answers two a second on each of 600 has no time for anything
	// else.
	Every = 2 * time.Second
	// Patience is how long an answer may take; after that the connection is
	// broken.
	Patience = 10 * time.Second

	turn = 10 * time.Millisecond // between two looks at all connections
)

// Connections are held open until Close.
type Connections struct {
	in     func(func() error) error // runs something where the client is
	target netip.AddrPort
	words  []byte // the request

	mu     sync.Mutex
	open   []*conn
	total  map[string]int            // opened, by group
	broken map[string]map[string]int // by group and cause

	stop  chan struct{}
	close sync.Once
	done  sync.WaitGroup
}

// conn is one connection that is not broken.
type conn struct {
	socket
	group    string
	asked    time.Time // when the last request was sent
	answered time.Time // when that was sent whose answer came last
}

// New returns a holder without connections. in runs a function in the network of
// the client ([lab.Host.Do]), target is "172.25.88.100:80".
func New(in func(func() error) error, target string) (*Connections, error) {
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, fmt.Errorf("holding connections to %q: %w", target, err)
	}
	c := &Connections{in: in, target: to, total: map[string]int{}, broken: map[string]map[string]int{}, stop: make(chan struct{})}
	c.words = fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", to)
	c.done.Go(c.talk)
	return c, nil
}

// Open opens n connections of a group, one each pace, or all at once, and sends
// the first request on each. The first that cannot be opened is an error.
func (c *Connections) Open(group string, n int, pace time.Duration) error {
	return c.in(func() error {
		begun := time.Now()
		var dialled []socket
		for i := range n {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * pace)))
			s, err := dial(c.target)
			if err != nil {
				return fmt.Errorf("%s connection %d of %d: %w", group, i+1, n, err)
			}
			if dialled = append(dialled, s); pace == 0 && i < n-1 {
				continue
			}
			if err := c.add(group, dialled); err != nil {
				return err
			}
			dialled = nil
		}
		return nil
	})
}

// add waits for the sockets to be connected and holds them from now on.
func (c *Connections) add(group string, dialled []socket) error {
	for _, s := range dialled {
		if err := s.connected(); err != nil {
			return fmt.Errorf("%s connection: %w", group, err)
		}
		one := &conn{socket: s, group: group}
		c.mu.Lock()
		c.total[group]++
		err := c.ask(one, time.Now())
		c.open = append(c.open, one)
		c.mu.Unlock()
		if err != nil {
			return fmt.Errorf("%s connection: %w", group, err)
		}
	}
	return nil
}

// talk serves the connections until they are to be closed.
func (c *Connections) talk() {
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case now := <-tick.C:
			c.mu.Lock()
			c.open = slices.DeleteFunc(c.open, func(one *conn) bool { return !c.serve(one, now) })
			c.mu.Unlock()
		}
	}
}

// serve reads an answer that is due and sends the next request, and says whether
// the connection goes on.
func (c *Connections) serve(one *conn, now time.Time) bool {
	if now.Sub(one.asked) < Every {
		return true
	}
	came, err := one.answer()
	switch {
	case err == nil && came:
		one.answered = one.asked
		err = c.ask(one, now)
	case err == nil && now.Sub(one.asked) > Patience:
		err = fmt.Errorf("no answer within %v", Patience)
	}
	if err == nil {
		return true
	}
	one.shut()
	if c.broken[one.group] == nil {
		c.broken[one.group] = map[string]int{}
	}
	c.broken[one.group][err.Error()]++
	return false
}

// ask sends a request.
func (c *Connections) ask(one *conn, now time.Time) error {
	one.asked = now
	return one.send(c.words)
}

// Left is how many connections of a group go on, and of how many.
func (c *Connections) Left(group string) (left, of int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.open {
		if one.group == group {
			left++
		}
	}
	return left, c.total[group]
}

// Text says of each group how many go on, and why the others do not.
func (c *Connections) Text() string {
	c.mu.Lock()
	groups := make([]string, 0, len(c.total))
	for g := range c.total {
		groups = append(groups, g)
	}
	c.mu.Unlock()
	slices.Sort(groups)
	var parts []string
	for _, g := range groups {
		left, of := c.Left(g)
		text := fmt.Sprintf("%d of %d %s connections go on", left, of, g)
		if left < of {
			c.mu.Lock()
			text += fmt.Sprintf(" %v", c.broken[g])
			c.mu.Unlock()
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// Drop closes a group's connections and forgets them.
func (c *Connections) Drop(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = slices.DeleteFunc(c.open, func(one *conn) bool {
		if one.group == group {
			one.shut()
		}
		return one.group == group
	})
	delete(c.total, group)
	delete(c.broken, group)
}

// Settle waits until every connection has answered a request that was sent from
// now on, or is broken: what has just happened has then shown on all of them.
func (c *Connections) Settle() {
	from := time.Now()
	for deadline := from.Add(2 * Patience); time.Now().Before(deadline); time.Sleep(turn) {
		if c.allAnsweredSince(from) {
			return
		}
	}
}

func (c *Connections) allAnsweredSince(from time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(c.open, func(one *conn) bool { return one.answered.Before(from) })
}

// Close closes all that are left; it may be called again.
func (c *Connections) Close() {
	c.close.Do(func() { close(c.stop) })
	c.done.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.open {
		one.shut()
	}
	c.open = nil
}
