package api

import (
	"cmp"
	"net/netip"

	"lbcluster/fsm"
)

// service reports one virtual server.
func (v *view) service(s fsm.VirtualServer) ServiceReport {
	out := ServiceReport{
		Key: s.ServiceKey, Set: s.Set, Scheduler: s.Scheduler, Method: s.Method, Group: s.Group,
		Persistence: s.Persistence, PersistenceMask: s.PersistenceMask, PersistenceEngine: s.PersistenceEngine,
		OnePacket: s.OnePacket, HashPort: s.HashPort, HashFallback: s.HashFallback, Matches: s.Matches,
		Servers: []ServerReport{},
	}
	for _, a := range s.Addrs() {
		out.Router = cmp.Or(out.Router, v.routerOf(a))
	}
	for i, state := range v.table.ServerStates(s.ServiceKey) { // in the order of the real servers
		out.Servers = append(out.Servers, ServerReport{ServerState: state, Method: s.MethodOf(s.RealServers[i]), Votes: v.votes(state.Target)})
	}
	return out
}

// routerOf names the router that has an address; empty: none.
func (v *view) routerOf(addr netip.Addr) string {
	for _, r := range v.table.Routers {
		for _, a := range r.Addresses {
			if a.Prefix.Addr() == addr {
				return r.Name
			}
		}
	}
	return ""
}

// votes lists what the directors say of a target.
func (v *view) votes(target fsm.Target) []VoteReport {
	out := []VoteReport{}
	for _, m := range v.table.Members {
		vote, ok := v.table.Votes[target][m.ID]
		if !ok {
			continue
		}
		out = append(out, VoteReport{Member: m.ID, Name: m.Name, Up: vote.Up, Detail: vote.Detail, Counted: !m.Silent})
	}
	return out
}

// Disagree reports whether counted votes differ.
func (s ServerReport) Disagree() bool {
	up, down := false, false
	for _, v := range s.Votes {
		if v.Counted {
			up, down = up || v.Up, down || !v.Up
		}
	}
	return up && down
}
