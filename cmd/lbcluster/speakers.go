package main

import (
	"log/slog"

	"lbcluster/cluster/api"
	"lbcluster/dataplane"
	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/gate"
	"lbcluster/dataplane/vrrp"
	"lbcluster/fsm"
)

// speakers lets the data plane drive the VRRP listener, which counts and shows
// what it could not do; here it is only logged.
type speakers struct {
	listener *vrrp.Listener
	log      *slog.Logger
}

// SetRouters translates the data plane's words.
func (s speakers) SetRouters(list []dataplane.Speaker) {
	var out []vrrp.Router
	for _, sp := range list {
		r := vrrp.Router{
			ID: sp.Router.ID, Name: sp.Router.Name, VRID: sp.Router.VRID, Interface: sp.Interface, Via: sp.Via,
			Version: sp.Router.Version, Priority: sp.Router.Priority,
			Interval: sp.Router.AdvertInterval.D(), AuthPass: sp.Router.AuthPass,
		}
		r.Addresses, r.Down = sp.Router.Advertised(), sp.Down
		addPeering(&r, sp.Router.Peering)
		out = append(out, r)
	}
	if err := s.listener.SetRouters(out); err != nil {
		s.log.Warn("some routers are not advertised", "err", err)
	}
}

// addPeering translates what a router has to do with peers.
func addPeering(r *vrrp.Router, p fsm.Peering) {
	r.Unicast, r.Source, r.PlainChecksum, r.AnyAddrs = p.Unicast, p.Source, p.V3ChecksumAsV2, p.SkipCheckAdvAddr
	for _, o := range p.Peers {
		r.Peers = append(r.Peers, vrrp.Listed{Addr: o.Addr, MinTTL: o.MinTTL, MaxTTL: o.MaxTTL})
	}
	r.Rules = vrrp.Rules{
		DownAdverts: p.DownTimerAdverts, NoPreempt: p.NoPreempt, PreemptDelay: p.PreemptDelay.D(), StartupDelay: p.StartupDelay.D(),
		LowerPrioNoAdvert: p.LowerPrioNoAdvert, HigherPrioSendAdvert: p.HigherPrioSendAdvert,
	}
}

// Acquired implements dataplane.VRRP.
func (s speakers) Acquired(router uint64, p fence.Permit) {
	if err := s.listener.Acquired(router, p); err != nil {
		s.log.Warn("a router is not advertised", "router", router, "err", err)
	}
}

// Lost implements dataplane.VRRP.
func (s speakers) Lost(router uint64, sendZero bool) { s.listener.Lost(router, sendZero) }

// fillVRRP adds what is sent and heard.
func (m *member) fillVRRP(out *api.DirectorStatus) {
	now := gate.BootNow()
	st := m.vrrp.Status()
	addDropped(out.Dropped, "vrrp_", st.Unknown)
	for _, r := range st.Routers {
		s := api.VRRPStatus{Router: r.ID, State: string(r.State), Source: r.Source, Sent: r.Sent, Rejected: r.Rejected,
			Stand: string(r.Stand), Barred: r.Barred, LastRejected: map[string]api.Rejection{}}
		for key, last := range r.LastRejected {
			s.LastRejected[key] = api.Rejection{From: last.From, Reason: last.Reason, AgeMS: (now - last.At) / 1e6}
		}
		for _, p := range r.Peers {
			s.Heard = append(s.Heard, api.Speaker{
				Addr: p.Addr, Version: p.Version, Priority: p.Priority, Count: p.Count, AgeMS: (now - p.LastSeen) / 1e6,
				Interval: fsm.Duration(p.Interval), Listed: p.Listed, Reason: p.Reason, Warnings: p.Warnings,
			})
		}
		out.VRRP = append(out.VRRP, s)
	}
}
