package api

import (
	"cmp"
	"fmt"
	"net/netip"

	"lbcluster/fsm"
)

// service reports one virtual server.
func (v *view) service(s fsm.VirtualServer) ServiceReport {
	out := ServiceReport{
		Key: s.ServiceKey, Set: s.Set, Scheduler: s.Scheduler, Method: s.Method, Group: s.Group,
		Persistence: s.Persistence, PersistenceMask: s.PersistenceMask, PersistenceEngine: s.PersistenceEngine,
		OnePacket: s.OnePacket, HashPort: s.HashPort, HashFallback: s.HashFallback, Matches: s.Matches,
		Servers: []ServerReport{}, Sorry: s.Sorry, Pool: v.table.PoolState(s.ServiceKey),
	}
	for _, a := range s.Addrs() {
		out.Router = cmp.Or(out.Router, v.routerOf(a))
	}
	for i, state := range v.table.ServerStates(s.ServiceKey) { // in the order of the real servers
		r := ServerReport{ServerState: state, Method: s.MethodOf(s.RealServers[i]), Votes: v.votes(state.Target)}
		if state.Admin == fsm.Drained {
			if r.Left = v.left(out.Router, s.ServiceKey, state.Server); r.Left != nil {
				r.Why += "; " + r.Left.text()
			}
		}
		out.Servers = append(out.Servers, r)
	}
	return out
}

// left finds the connections of a drained server. The owner of the address counts
// those that are alive; what others have been told of them may lag behind.
func (v *view) left(router string, key fsm.ServiceKey, server netip.AddrPort) *DrainStatus {
	var owner fsm.MemberID
	if r, ok := v.table.RouterByName(router); ok {
		if u, ok := v.table.UnitOf(r.ID); ok {
			owner, _, _ = v.owner(u.ID)
		}
	}
	var most *DrainStatus
	for _, m := range v.table.Members {
		st := v.statuses[m.ID]
		if st == nil {
			continue
		}
		for i, d := range st.Kernel.Draining {
			if d.Service != key.String() || d.Server != server {
				continue
			}
			if m.ID == owner {
				return &st.Kernel.Draining[i]
			}
			if most == nil || d.Active+d.Inactive > most.Active+most.Inactive {
				most = &st.Kernel.Draining[i]
			}
		}
	}
	return most
}

func (d DrainStatus) text() string {
	closing := ""
	if d.Inactive > 0 {
		closing = fmt.Sprintf(", %d closing", d.Inactive)
	}
	switch d.Active {
	case 0:
		return "no connection left" + closing
	case 1:
		return "1 connection left" + closing
	}
	return fmt.Sprintf("%d connections left%s", d.Active, closing)
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
