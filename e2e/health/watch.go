package health

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/e2e/lab"
)

// poll is how often a kernel is asked; a measured time may be so much too long, and a
// spread so much too large or small.
const poll = 5 * time.Millisecond

// watch follows one real server in one director's kernel.
type watch struct {
	host *lab.Host

	mu      sync.Mutex
	in      bool
	changed time.Time // when it was first seen as it is now
}

// watchServer watches until the lab ends.
func watchServer(t lab.T, h *lab.Host, service ipvs.Key, server netip.Addr) *watch {
	k := ipvs.New(fmt.Sprintf("/proc/self/fd/%d", h.NetNS()))
	w := &watch{host: h}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer k.Close()
		tick := time.NewTicker(poll)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if dests, err := k.Dests(service); err == nil {
				w.see(has(dests, server))
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return w
}

func has(dests []ipvs.Dest, server netip.Addr) bool {
	for _, d := range dests {
		if d.Addr == server {
			return true
		}
	}
	return false
}

func (w *watch) see(in bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if in != w.in || w.changed.IsZero() {
		w.in, w.changed = in, time.Now()
	}
}

func (w *watch) state() (in bool, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.in, w.changed
}

// change is when the tables of one system changed.
type change struct{ first, last time.Time }

func (c change) spread() time.Duration { return c.last.Sub(c.first) }

// changes is when each system's tables were as wanted, all of them.
func changes(watches []*watch, in bool) (change, error) {
	var c change
	for _, w := range watches {
		is, at := w.state()
		if is != in {
			return c, fmt.Errorf("%s: in the table: %v", w.host.Name, is)
		}
		if c.first.IsZero() || at.Before(c.first) {
			c.first = at
		}
		if at.After(c.last) {
			c.last = at
		}
	}
	return c, nil
}
