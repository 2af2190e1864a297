package vrrp

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// maxPeers bounds the sources that are shown of one router, besides members and
	// listed peers, who are few and whom strangers must not crowd out.
	maxPeers = 32
	// logPeerEvery bounds how often one source can make us log.
	logPeerEvery = 10 * time.Second
)

// Peer is a source of adverts for one of our VRIDs, that is not us.
type Peer struct {
	Addr     netip.Addr
	Version  uint8
	Priority uint8
	Interval time.Duration
	Addrs    []netip.Addr
	Count    uint64
	// LastSeen is CLOCK_BOOTTIME ns.
	LastSeen int64
	// Accepted: a keepalived configured like us would take the last advert.
	Accepted bool
	Listed   bool     // it is obeyed, if its adverts are accepted
	Ours     bool     // it is another member
	Reason   string   // why not
	Warnings []string // differences that are accepted
}

// peer is a Peer with what only the Listener needs.
type peer struct {
	Peer
	logged int64 // when it was last logged
}

// forget drops the speakers whose adverts were refused, if those may be right by
// the settings to come: one that is silent since would else go on being told of.
func (r *router) forget(next Router) {
	if was := r.speaker.Router; sameAdvert(was, next) && was.Unicast == next.Unicast && was.PlainChecksum == next.PlainChecksum {
		return
	}
	maps.DeleteFunc(r.heard, func(_ netip.Addr, p *peer) bool { return !p.Accepted })
}

// RouterStatus is what an operator wants to know of one router.
type RouterStatus struct {
	ID        uint64
	Name      string
	VRID      uint8
	Interface string
	State     State
	// Stand is the cluster's state toward the peers, as far as this member heard;
	// "": the router has none. Barred says why the member does not stand for it.
	Stand  State
	Barred string
	// Source is the address that adverts come from; zero: see LinkError.
	Source netip.Addr
	// LinkError says why nothing can be sent: the interface is not open, or has no
	// address to send from. Empty: it can.
	LinkError string
	Sent      uint64 // adverts
	Farewells uint64 // priority-0 adverts
	Refused   uint64 // not sent because the lease did not hold
	LastError string // of the last send; empty: it went well
	Peers     []Peer // by address
	Rejected  map[string]uint64
	// LastRejected is the last of each key in Rejected.
	LastRejected map[string]Rejection
}

// Rejection is an advert that was rejected.
type Rejection struct {
	From   netip.Addr // as the packet says
	Reason string     // for people
	At     int64      // CLOCK_BOOTTIME ns
}

// reject counts an advert from src.
func (r *router) reject(src netip.Addr, why *Reject, now int64) {
	r.rejected[why.Key]++
	r.last[why.Key] = Rejection{From: src, Reason: why.Reason, At: now}
}

// Status is the state of all routers, by id, and the packets of protocol 112
// that belong to none, by the key of their rejection.
type Status struct {
	Routers []RouterStatus
	Unknown map[string]uint64
}

// Status reports what is sent and heard.
func (l *Listener) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := Status{Unknown: maps.Clone(l.unknown)}
	for _, r := range l.routers {
		conf := r.speaker.Router
		rs := RouterStatus{
			ID: conf.ID, Name: conf.Name, VRID: conf.VRID, Interface: conf.Interface, State: r.speaker.State,
			Sent: r.sent, Farewells: r.farewell, Refused: r.refused, LastError: r.lastErr, Rejected: maps.Clone(r.rejected), LastRejected: maps.Clone(r.last),
		}
		if r.elect != nil {
			rs.Stand, rs.Barred = r.elect.State, r.elect.barred
		}
		rs.Source, rs.LinkError = l.source(conf)
		for _, p := range r.heard {
			rs.Peers = append(rs.Peers, p.Peer)
		}
		slices.SortFunc(rs.Peers, func(a, b Peer) int { return a.Addr.Compare(b.Addr) })
		st.Routers = append(st.Routers, rs)
	}
	slices.SortFunc(st.Routers, func(a, b RouterStatus) int { return cmp.Compare(a.ID, b.ID) })
	return st
}

// source is where the router's adverts come from, or why they cannot be sent.
func (l *Listener) source(conf Router) (netip.Addr, string) {
	s := l.links[conf.link()]
	switch {
	case s == nil || s.wire == nil && s.err == "":
		return netip.Addr{}, "not open"
	case s.wire == nil:
		return netip.Addr{}, s.err
	}
	src, err := s.wire.Source(conf.route())
	if err != nil {
		return netip.Addr{}, err.Error()
	}
	return src, ""
}

// packet records what came in on an interface and tells the router's machine.
func (l *Listener) packet(link linkKey, p Packet) {
	a, rej := Parse(p.Payload, p.Src, p.Dst, p.TTL)
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.find(link, a.VRID)
	if r == nil {
		key := RejectUnknownVRID
		if rej != nil {
			key = rej.Key
		}
		l.unknown[key]++
		return
	}
	if rej != nil {
		r.reject(p.Src, rej, l.clock()) // broken on the wire: says nothing about a peer's settings
		return
	}
	conf := r.speaker.Router
	warnings, rej := conf.Expect().Check(a)
	if rej == nil {
		rej = conf.checkPath(p)
	}
	l.note(r, p.Src, a, warnings, rej)
	before := r.speaker.Next
	l.obey(r, p.Src, a, rej == nil)
	l.step(r, Event{Kind: Heard, Accepted: rej == nil, Priority: a.Priority})
	if r.speaker.Next != before {
		l.poke()
	}
}

// find is the router for a VRID on an interface and of a family. Invariant of
// the table: there is at most one.
func (l *Listener) find(link linkKey, vrid uint8) *router {
	for _, r := range l.routers {
		if c := r.speaker.Router; c.link() == link && c.VRID == vrid {
			return r
		}
	}
	return nil
}

// note keeps the table of sources, and logs a new one, and one that changed.
func (l *Listener) note(r *router, src netip.Addr, a Advert, warnings []string, rej *Reject) {
	p := r.heard[src]
	if rej != nil {
		r.reject(src, rej, l.clock())
	}
	_, listed := r.speaker.Router.listed(src)
	ours := l.ours(src)
	if p == nil && len(r.heard) >= maxPeers && !listed && !ours {
		r.reject(src, reject(RejectMoreSpeakers, "%d other senders are shown already", maxPeers), l.clock())
		return
	}
	next := Peer{Addr: src, Version: a.Version, Priority: a.Priority, Interval: a.Interval, Addrs: a.Addrs,
		LastSeen: l.clock(), Accepted: rej == nil, Warnings: warnings, Ours: ours, Listed: listed}
	if rej != nil {
		next.Reason = rej.Reason
	}
	if p == nil {
		p = &peer{}
		r.heard[src] = p
	}
	next.Count = p.Count + 1
	changed := p.Accepted != next.Accepted || p.Reason != next.Reason || p.Priority != next.Priority
	p.Peer = next
	if p.logged == 0 || changed && next.LastSeen-p.logged >= int64(logPeerEvery) {
		p.logged = next.LastSeen
		level, what := slog.LevelWarn, "another VRRP speaker has our VRID; it is not obeyed"
		switch {
		case next.Ours:
			level, what = slog.LevelDebug, "another member adverts"
		case next.Listed && next.Accepted:
			level, what = slog.LevelInfo, "a VRRP peer adverts"
		case next.Listed:
			what = "a VRRP peer adverts, but its settings are not ours: both sides ignore each other"
		}
		l.log.Log(context.Background(), level, what, "router", r.speaker.Router.Name,
			"from", src, "version", a.Version, "priority", a.Priority, "accepted", next.Accepted, "why_not", next.Reason, "warnings", warnings)
	}
}
