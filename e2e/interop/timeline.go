package interop

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// PeerHost is the name of the host that is the peer; all others are directors.
const PeerHost = "peer"

// Change is an address that a host gained or lost.
type Change struct {
	At         time.Time
	Host, Addr string
	On         bool
}

// Timeline collects changes, from any goroutine.
type Timeline struct {
	mu      sync.Mutex
	changes []Change
}

// Add adds a change.
func (l *Timeline) Add(c Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
}

// Off notes that a host has lost its power, and with it all addresses, whatever
// its kernel says.
func (l *Timeline) Off(at time.Time, host string) {
	for addr := range l.addresses() {
		l.Add(Change{At: at, Host: host, Addr: addr})
	}
}

func (l *Timeline) addresses() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]bool{}
	for _, c := range l.changes {
		out[c.Addr] = true
	}
	return out
}

// Seen is what became of one address in a stretch of time.
type Seen struct {
	Holders Holders
	// After is how long it took until the holders were those for the rest of it;
	// 0: they did not change.
	After time.Duration
	// Both, Nobody and Twice are the longest times that both sides, that no host,
	// and that two directors had it.
	Both, Nobody, Twice time.Duration
	// Taken is how often the peer gained it.
	Taken int
}

// Look sums up a stretch of time for an address.
func (l *Timeline) Look(addr string, from, to time.Time) Seen {
	l.mu.Lock()
	changes := slices.Clone(l.changes)
	l.mu.Unlock()
	slices.SortStableFunc(changes, func(a, b Change) int { return a.At.Compare(b.At) })
	v := viewer{on: map[string]bool{}, since: map[string]time.Time{}}
	for _, c := range changes {
		if c.Addr != addr || c.At.After(to) {
			continue
		}
		if !c.At.Before(from) {
			v.enter(from)
			v.change(c, from)
			continue
		}
		v.on[c.Host] = c.On
	}
	v.enter(from)
	v.close(to)
	v.seen.Holders = v.holders()
	return v.seen
}

// viewer walks through the changes of one address.
type viewer struct {
	seen    Seen
	on      map[string]bool
	entered bool
	since   map[string]time.Time // when each thing that is measured began
}

// enter begins the stretch with what was before it.
func (v *viewer) enter(from time.Time) {
	if !v.entered {
		v.entered = true
		v.begin(from)
	}
}

func (v *viewer) change(c Change, from time.Time) {
	before, had := v.holders(), v.on[c.Host]
	v.close(c.At)
	v.on[c.Host] = c.On
	v.begin(c.At)
	if v.holders() != before {
		v.seen.After = c.At.Sub(from)
	}
	if c.Host == PeerHost && c.On && !had {
		v.seen.Taken++
	}
}

func (v *viewer) holders() (h Holders) {
	for host, on := range v.on {
		h.Peer = h.Peer || on && host == PeerHost
		h.Cluster = h.Cluster || on && host != PeerHost
	}
	return h
}

func (v *viewer) directors() (n int) {
	for host, on := range v.on {
		if on && host != PeerHost {
			n++
		}
	}
	return n
}

// measured are the things that go on now, and where the longest is kept.
func (v *viewer) measured() map[string]*time.Duration {
	h, out := v.holders(), map[string]*time.Duration{}
	if h.Cluster && h.Peer {
		out["both"] = &v.seen.Both
	}
	if !h.Cluster && !h.Peer {
		out["nobody"] = &v.seen.Nobody
	}
	if v.directors() > 1 {
		out["twice"] = &v.seen.Twice
	}
	return out
}

// close counts what went on until now, and begin goes on with what still does.
func (v *viewer) close(at time.Time) {
	for what, longest := range v.measured() {
		*longest = max(*longest, at.Sub(v.since[what]))
	}
}

func (v *viewer) begin(at time.Time) {
	now := v.measured()
	for what := range maps.Clone(v.since) {
		if now[what] == nil {
			delete(v.since, what)
		}
	}
	for what := range now {
		if _, ok := v.since[what]; !ok {
			v.since[what] = at
		}
	}
}
