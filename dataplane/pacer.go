package dataplane

import (
	"time"

	"lbcluster/fsm"
)

// pacer spaces what all routers announce on an interface, as keepalived's
// vrrp_garp_interval and vrrp_gna_interval ask for: switches and neighbours drop what
// comes in a burst. Who comes while others have just spoken gets the next free turn,
// in the order of asking; the first on an interface that was silent does not wait.
type pacer struct {
	free map[voice]time.Duration // when the next may speak
}

// voice is an interface and a family, which do not wait for each other.
type voice struct {
	index int
	v6    bool
}

// intervals are how long nobody else announces after an announcement; 0: no time.
type intervals struct{ garp, gna time.Duration }

// intervalsOf are those of the set that owns the router.
func intervalsOf(t *fsm.Table, r fsm.Router) intervals {
	for _, s := range t.Sets {
		if s.Name == r.Set {
			return intervals{s.Globals.GARPInterval.D(), s.Globals.GNAInterval.D()}
		}
	}
	return intervals{}
}

func (i intervals) of(h *held) (voice, time.Duration) {
	if h.prefix.Addr().Is6() {
		return voice{h.link.Index, true}, i.gna
	}
	return voice{h.link.Index, false}, i.garp
}

// turn reports whether h, whose announcement is due, may make it now. If not, it is
// due at its turn.
func (p *pacer) turn(now time.Duration, h *held, i intervals) bool {
	v, every := i.of(h)
	if h.turn || every == 0 {
		h.turn = false
		return true
	}
	at := max(now, p.free[v])
	p.free[v] = at + every
	h.announce, h.turn = at, at > now
	return at == now
}

// yield gives back the turn that h waits for, if it does. Who waits for a later one
// is not moved up, so that the next to ask may speak together with the last in line.
func (p *pacer) yield(h *held, i intervals) {
	if v, every := i.of(h); h.turn {
		p.free[v] -= every
		h.turn = false
	}
}
