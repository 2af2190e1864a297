package apitest

import (
	"context"
	"net/netip"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// Local is what the member that the Fake plays says.
func (f *Fake) Local() api.DirectorStatus {
	t := f.Table()
	if t == nil {
		return api.DirectorStatus{Name: "dir1", Version: "test", Started: Now.Add(-time.Minute)}
	}
	f.mu.Lock()
	self := f.self
	f.mu.Unlock()
	m, _ := t.Member(self)
	return f.status(t, m)
}

// Others is what the rest says.
func (f *Fake) Others(context.Context) map[fsm.MemberID]api.DirectorReply {
	t := f.Table()
	if t == nil {
		return nil
	}
	f.mu.Lock()
	self := f.self
	f.mu.Unlock()
	replies := map[fsm.MemberID]api.DirectorReply{}
	for _, m := range t.Members {
		if m.ID == self {
			continue
		}
		if why, dead := f.dead(m.ID); dead {
			replies[m.ID] = api.DirectorReply{Error: why}
			continue
		}
		s := f.status(t, m)
		replies[m.ID] = api.DirectorReply{Status: &s}
	}
	return replies
}

// status is a member to whom nothing bad has happened: the first of each
// router's order that is not dead owns it, all tables are applied.
func (f *Fake) status(t *fsm.Table, m fsm.Member) api.DirectorStatus {
	s := api.DirectorStatus{
		Enrolled: true, ID: m.ID, Name: m.Name, Role: m.Role, Version: "test", Started: Now.Add(-time.Hour), TableRevision: t.Revision,
		Raft:   api.RaftStatus{State: api.RaftFollower, Leader: "m1", Term: 2, Applied: uint64(t.Revision) + 3, LastContactMS: 40},
		Leases: []api.LeaseStatus{}, VRRP: []api.VRRPStatus{}, Addresses: []api.AddressStatus{}, Checks: []api.CheckStatus{}, Peers: []api.PeerStatus{},
	}
	for _, v := range t.Members {
		s.Raft.Voters = append(s.Raft.Voters, v.ID)
	}
	if m.ID == "m1" {
		s.Raft.State = api.RaftLeader
	}
	if m.Role == fsm.Director {
		s.Kernel = api.KernelStatus{Applied: true, Revision: t.Revision, Services: len(t.Services), Foreign: []api.Foreign{}}
		s.Gate = api.GateStatus{Mode: api.GateTCX, Interfaces: []string{"eth0"}, Addresses: []api.GateAddress{}}
		for _, r := range t.Routers {
			f.addRouter(&s, t, r)
		}
	}
	if f.Edit != nil {
		f.Edit(&s)
	}
	return s
}

// addRouter fills in lease, gate, VRRP and addresses of one router.
func (f *Fake) addRouter(s *api.DirectorStatus, t *fsm.Table, r fsm.Router) {
	var owner fsm.MemberID
	rank := 0
	u, _ := t.UnitOf(r.ID)
	if reported, ok := t.Owners[u.ID]; ok {
		if _, dead := f.dead(reported); !dead {
			owner = reported
		}
	}
	for i, id := range t.Order(u.ID) {
		if _, dead := f.dead(id); owner == "" && !dead {
			owner = id
		}
		if id == s.ID {
			rank = i + 1
		}
	}
	lease := api.LeaseStatus{Router: u.ID, State: api.LeaseIdle, Holder: owner, RemainingMS: 640, Rank: rank}
	speaker := api.VRRPStatus{Router: r.ID, State: "BACKUP", Source: sourceOf(t, s.ID), Heard: []api.Speaker{}}
	owns := owner == s.ID
	if owns {
		lease.State, lease.HeldSince, lease.Acquired = api.LeaseHolder, Now.Add(-130*time.Second), 1
		speaker.State, speaker.Sent = "MASTER", 131
	} else if owner != "" {
		speaker.Heard = append(speaker.Heard, api.Speaker{Addr: sourceOf(t, owner), Version: 2, Priority: r.Priority, Count: 131, AgeMS: 400})
	}
	if u.Routers[0] == r.ID { // one lease for all of a group
		s.Leases = append(s.Leases, lease)
	}
	s.VRRP = append(s.VRRP, speaker)
	for _, a := range r.Addresses {
		s.Addresses = append(s.Addresses, api.AddressStatus{Router: r.ID, Prefix: a.Prefix, Interface: "eth0", On: owns})
		g := api.GateAddress{Addr: a.Prefix.Addr(), Open: owns, LastPassedAgeMS: -1, LastDropAgeMS: -1}
		if owns {
			g.ARPPassed, g.InPassed, g.LastMAC, g.LastPassedAgeMS = 12, 3400, "02:00:00:00:00:99", 5
		}
		s.Gate.Addresses = append(s.Gate.Addresses, g)
	}
}

// sourceOf is where a member's adverts come from: not its cluster address.
func sourceOf(t *fsm.Table, id fsm.MemberID) netip.Addr {
	m, _ := t.Member(id)
	b := m.Addr.Addr().As4()
	return netip.AddrFrom4([4]byte{172, 25, 88, b[3]})
}

// dead is why a member does not answer; false: it does.
func (f *Fake) dead(id fsm.MemberID) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	why, dead := f.Dead[id]
	return why, dead
}
