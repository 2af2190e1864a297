package vrrp

import (
	"net/netip"
	"slices"
	"time"
)

// contestedEvery bounds how often a peer can make us tell the neighbours again.
const contestedEvery = time.Second

// electing is an Elect with its surroundings. Guarded by Listener.mu.
type electing struct {
	Elect
	barred    string
	told      bool  // barred was told
	member    int64 // when another member's advert was last heard; 0: never
	contested int64 // when OnContested was last called
	yielding  bool  // the last advert before silence is on its way
	logged    map[string]int64
}

// silences reports whether an advert must not leave: the cluster yields.
func (e *electing) silences(out Output) bool {
	return e != nil && out.Send && e.State != Master && !e.yielding
}

// setElect gives a router with peers its machine. mu is held.
func (l *Listener) setElect(r *router) {
	conf, now := r.speaker.Router, l.clock()
	switch {
	case len(conf.Peers) == 0:
		if r.elect != nil && r.elect.barred != "" {
			l.bar(r, "")
		}
		r.elect = nil
		return
	case r.elect != nil:
		r.elect.Elect = r.elect.Update(now, conf.rules())
	default:
		r.elect = &electing{logged: map[string]int64{}}
		if r.speaker.State == Master || slices.ContainsFunc(conf.Addresses, func(a netip.Addr) bool { return slices.Contains(l.cfg.Inherited, a) }) {
			r.elect.Elect = ContinueElect(now, conf.rules())
		} else {
			r.elect.Elect = NewElect(now, conf.rules())
		}
	}
	l.tickElect(r)
}

// voice says who of the cluster adverts the router. mu is held.
func (l *Listener) voice(r *router) Voice {
	switch now := l.clock(); {
	case r.speaker.State == Master && r.elect.State == Master:
		return OwnVoice
	case r.elect.member != 0 && now-r.elect.member < int64(r.elect.MasterDown()),
		l.cfg.Adverts != nil && l.cfg.Adverts(r.speaker.Router.ID):
		return OtherVoice
	}
	return NoVoice
}

// tickElect lets time pass for a router's machine, and returns how long it may
// sleep. mu is held.
func (l *Listener) tickElect(r *router) time.Duration {
	if r.elect == nil {
		return reopenEvery
	}
	now := l.clock()
	if s := l.links[r.speaker.Router.link()]; r.speaker.Router.Down || s != nil && s.wire == nil && s.err != "" {
		// What was not heard may have been said. An owner without a link loses its
		// lease by other means.
		if r.elect.State != Master || r.speaker.State != Master {
			r.elect.Elect = r.elect.Reset(now)
		}
		l.bar(r, r.elect.Why(now))
		return sampleEvery
	}
	var v Verdict
	r.elect.Elect, v = r.elect.Tick(now, l.voice(r))
	l.do(r, v)
	sleep := sampleEvery
	if due := r.elect.Due(); due != 0 {
		sleep = min(sleep, max(0, time.Duration(due-now)))
	}
	return sleep
}

// obey tells a router's machine of an advert, if its sender is listed and the
// advert is one that keepalived would accept. mu is held.
func (l *Listener) obey(r *router, src netip.Addr, a Advert, accepted bool) {
	if r.elect == nil || !accepted {
		return
	}
	now := l.clock()
	if l.ours(src) {
		r.elect.member = now
		if a.Priority == 0 {
			r.elect.member = 0
		}
		return
	}
	if _, ok := r.speaker.Router.listed(src); !ok {
		return
	}
	w := Word{From: src, Priority: a.Priority, Interval: a.Interval}
	w.Source, _ = l.source(r.speaker.Router)
	var v Verdict
	r.elect.Elect, v = r.elect.Heard(now, w, l.voice(r))
	r.elect.yielding = v.Answer && r.elect.State != Master
	l.do(r, v)
	r.elect.yielding = false
	l.poke()
}

// do carries out what a machine says, and tells what keeps this member from the
// router. mu is held.
func (l *Listener) do(r *router, v Verdict) {
	now, conf := l.clock(), r.speaker.Router
	if v.Log != "" {
		if last := r.elect.logged[v.Log]; last == 0 || now-last >= int64(logPeerEvery) {
			if len(r.elect.logged) > maxPeers {
				clear(r.elect.logged)
			}
			r.elect.logged[v.Log] = now
			l.log.Info("("+conf.Name+") "+v.Log, "vrid", conf.VRID, "interface", conf.Interface)
		}
	}
	if v.Answer {
		l.step(r, Event{Kind: Answer})
	}
	if v.Announce && l.cfg.OnContested != nil && (r.elect.contested == 0 || now-r.elect.contested >= int64(contestedEvery)) {
		r.elect.contested = now
		l.cfg.OnContested(conf.ID)
	}
	l.bar(r, r.elect.Why(now))
}

// bar tells what keeps this member from the router. mu is held.
func (l *Listener) bar(r *router, why string) {
	if r.elect.told && r.elect.barred == why {
		return
	}
	r.elect.barred, r.elect.told = why, true
	if l.cfg.OnBarred != nil {
		l.cfg.OnBarred(r.speaker.Router.ID, why)
	}
}

// Yields says to whom a router yields by what this member heard: higher says
// that it is a peer of higher priority, which an owner yields to as well.
func (l *Listener) Yields(id uint64) (why string, higher bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.routers[id]
	if r == nil || r.elect == nil {
		return "", false
	}
	now := l.clock()
	w, ok := r.elect.Yields(now)
	if !ok {
		return "", false
	}
	return r.elect.Why(now), w.Priority > r.speaker.Router.Priority
}

// Speaks reports whether this member adverts a router.
func (l *Listener) Speaks(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.routers[id]
	return r != nil && r.speaker.State == Master && (r.elect == nil || r.elect.State == Master)
}

// checkPath says whether a packet came the way that the router's adverts come:
// by multicast, or by unicast with the TTL that is expected of its sender.
func (r Router) checkPath(p Packet) *Reject {
	if p.Dst.IsMulticast() == r.Unicast {
		if r.Unicast {
			return reject(RejectKind, "it is sent by multicast, this router speaks unicast (unicast_peer)")
		}
		return reject(RejectKind, "it is sent by unicast (unicast_peer), this router speaks multicast")
	}
	o, ok := r.listed(p.Src)
	if !ok || !r.Unicast {
		return nil
	}
	if o.MinTTL != 0 && p.TTL < int(o.MinTTL) || o.MaxTTL != 0 && p.TTL > int(o.MaxTTL) {
		return reject(RejectTTL, "TTL %d is not within min_ttl %d and max_ttl %d", p.TTL, o.MinTTL, o.MaxTTL)
	}
	return nil
}
