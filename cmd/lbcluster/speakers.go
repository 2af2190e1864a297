package main

import (
	"log/slog"

	"lbcluster/cluster/api"
	"lbcluster/dataplane"
	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/gate"
	"lbcluster/dataplane/vrrp"
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
			ID: sp.Router.ID, Name: sp.Router.Name, VRID: sp.Router.VRID, Interface: sp.Interface,
			Version: sp.Router.Version, Priority: sp.Router.Priority,
			Interval: sp.Router.AdvertInterval.D(), AuthPass: sp.Router.AuthPass,
		}
		for _, a := range sp.Router.Addresses {
			r.Addresses = append(r.Addresses, a.Prefix.Addr())
		}
		out = append(out, r)
	}
	if err := s.listener.SetRouters(out); err != nil {
		s.log.Warn("some routers are not advertised", "err", err)
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
		s := api.VRRPStatus{Router: r.ID, State: string(r.State), Source: r.Source, Sent: r.Sent, Rejected: r.Rejected}
		for _, p := range r.Peers {
			s.Heard = append(s.Heard, api.Speaker{
				Addr: p.Addr, Version: p.Version, Priority: p.Priority, Count: p.Count, AgeMS: (now - p.LastSeen) / 1e6,
			})
		}
		out.VRRP = append(out.VRRP, s)
	}
}
