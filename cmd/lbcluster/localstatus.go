package main

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lbcluster/cluster"
	"lbcluster/cluster/api"
	"lbcluster/cluster/lease"
	"lbcluster/dataplane"
	"lbcluster/dataplane/gate"
)

// Local implements api.Observer: each part's own account, in the API's words.
func (d *theDaemon) Local() api.DirectorStatus {
	st := d.node.Status()
	out := api.DirectorStatus{
		Enrolled: st.Enrolled, ID: st.ID, Name: d.cfg.Name, Version: buildVersion(), Started: d.started,
		TableRevision: st.Revision, Raft: raftStatus(st), Dropped: map[string]uint64{},
	}
	addDropped(out.Dropped, "members_", map[string]uint64{"connection": st.Refused})
	for id, n := range st.RefusedVotes {
		addDropped(out.Dropped, "votes_of_", map[string]uint64{string(id): n})
	}
	for _, id := range st.Flooding {
		out.Warnings = append(out.Warnings, fmt.Sprintf("member %s sends votes that are not taken, %d so far: too often, or in another's name", id, st.RefusedVotes[id]))
	}
	if id, ok := d.node.Identity(); ok {
		out.Role = id.Role
	}
	for _, m := range st.Members {
		c := api.ContactStatus{Member: m.ID, Alive: m.Alive, HeardMS: -1}
		if m.Contact >= 0 {
			c.HeardMS = m.Contact.Milliseconds()
		}
		out.Contacts = append(out.Contacts, c)
	}
	for _, w := range []string{st.Trouble, st.Gossip} {
		if w != "" && w != out.Raft.Stalled {
			out.Warnings = append(out.Warnings, w)
		}
	}
	if m := d.part.Load(); m != nil {
		m.fill(&out)
	} else if st.Enrolled {
		out.Warnings = append(out.Warnings, "this member's parts are starting")
	}
	out.Warnings = append(out.Warnings, d.troubles.all()...)
	if why := d.refused.Load(); why != nil {
		out.Warnings = append(out.Warnings, "the last reload was refused, and the old program goes on: "+*why)
	}
	return out
}

func raftStatus(st cluster.Status) api.RaftStatus {
	contact := st.LastContact.Milliseconds()
	if st.LastContact == 0 && st.Leader != st.ID {
		contact = -1
	}
	state := map[string]string{"Leader": api.RaftLeader, "Follower": api.RaftFollower, "Candidate": api.RaftCandidate}[st.State]
	if state == "" {
		state = api.RaftStopped
	}
	return api.RaftStatus{
		State: state, Leader: st.Leader, Term: st.Term, Commit: st.Commit, Applied: st.Applied, LastContactMS: contact,
		Voters: st.Voters, Halted: st.Halted,
		Stalled:    stalled(st),
		DiskErrors: st.Disk.AppendErrors + st.Disk.AppendTimeouts + st.Disk.Retries,
		DiskError:  st.Disk.LastError,
	}
}

// stalled says why the Raft log takes nothing now; empty: it does. A log that
// failed is opened again before long; until then Raft does not run.
func stalled(st cluster.Status) string {
	switch {
	case st.Disk.Waiting > 0:
		return or(st.Disk.LastError, "an operation does not end")
	case st.Disk.AppendErrors+st.Disk.AppendTimeouts > 0:
		return st.Trouble // empty: it was opened again
	}
	return ""
}

// fill adds what the member's parts know.
func (m *member) fill(out *api.DirectorStatus) {
	ls := m.lease.Status()
	out.Leases = m.leaseStatus(ls)
	out.Peers, out.Clock = peerStatus(ls.Peers), clockStatus(ls.Clock)
	addDropped(out.Dropped, "lease_", ls.Dropped)
	out.Running = m.running
	t := m.d.node.Table()
	out.Warnings = append(out.Warnings, leaseWarnings(ls, t)...)
	if old := t.Behind(); old != "" {
		out.Warnings = append(out.Warnings, "lbcluster on "+old+" is older: what it could not read has to wait until it is upgraded there")
	}
	untold := m.teller.Status()
	out.MailFailing = len(untold)
	out.Warnings = append(out.Warnings, untold...)
	if m.broken != nil {
		out.Gate.Error = m.broken.Error()
	}
	if m.plane == nil {
		return
	}
	m.fillGate(out)
	m.fillKernel(out)
	m.fillVRRP(out)
	for _, c := range m.checks.Status() {
		s := api.CheckStatus{Target: c.Target, Known: c.Known, Up: c.Up, Since: c.Since}
		for _, one := range c.Checks {
			if one.Detail != "" {
				s.Detail = one.Detail
			}
		}
		if c.Held {
			s.Detail = c.Flaps.String()
		}
		out.Checks = append(out.Checks, s)
	}
}

// addDropped adds the counts above zero, their reasons behind the part's name.
func addDropped(to map[string]uint64, part string, counts map[string]uint64) {
	for why, n := range counts {
		if n > 0 {
			to[part+why] += n
		}
	}
}

func (m *member) leaseStatus(ls lease.Status) []api.LeaseStatus {
	var out []api.LeaseStatus
	for _, r := range ls.Routers {
		s := api.LeaseStatus{
			Router: r.ID, State: leaseState(r), Holder: r.Holder, RemainingMS: r.Remaining.Milliseconds(),
			Rank: r.Rank + 1, Unfit: r.Barred, Forced: r.Forced, EmbargoMS: ls.Embargo.Milliseconds(),
		}
		if r.Own && m.judges != nil {
			s.Waits = m.judges.waiting(r.ID)
		}
		if n := r.Margin.Renewals; r.Own && n > 0 {
			whole := float64(m.lease.Params().Usable())
			s.Renewals, s.LeastLeft, s.MeanLeft = n, part(r.Margin.Min, whole), part(r.Margin.Avg, whole)
		}
		if r.Denied != "" {
			s.Denial = string(r.By) + ": " + r.Denied
		}
		if m.tenure != nil {
			since, n := m.tenure.of(r.ID)
			s.HeldSince, s.Acquired, s.Lost = since, n.acquired, n.lost
		}
		out = append(out, s)
	}
	return out
}

// part is what d is of the whole, in hundredths, between 0 and 1.
func part(d time.Duration, whole float64) float64 {
	return math.Round(100*min(1, max(0, float64(d)/whole))) / 100
}

func peerStatus(peers []lease.PeerStatus) []api.PeerStatus {
	out := []api.PeerStatus{}
	for _, p := range peers {
		s := api.PeerStatus{Member: p.ID, Ways: []api.WayStatus{}}
		for _, w := range p.Paths {
			heard := int64(-1)
			if w.Heard >= 0 {
				heard = w.Heard.Milliseconds()
			}
			s.Ways = append(s.Ways, api.WayStatus{Way: w.String(), HeardMS: heard, Alive: w.Alive})
		}
		out = append(out, s)
	}
	return out
}

func clockStatus(c lease.ClockStatus) api.ClockStatus {
	const million = 1e6
	return api.ClockStatus{
		RatePPM: math.Round(c.Rate * million), WorstPPM: math.Round(c.Worst * million), AllowedPPM: math.Round(c.Eps * million),
		SuspendedMS: c.Suspended.Milliseconds(), Alarm: c.Alarm,
	}
}

func leaseState(r lease.RouterStatus) string {
	switch {
	case r.Own:
		return api.LeaseHolder
	case r.Rank < 0 || r.Barred != "" || r.State == "waiting":
		return api.LeaseIdle
	default:
		return api.LeaseCandidate
	}
}

func (m *member) fillGate(out *api.DirectorStatus) {
	gs := m.gate.Status()
	out.Gate.Mode, out.Gate.Interfaces = gs.Mode, gs.Interfaces
	for dev, why := range gs.Failing {
		out.Gate.Error = strings.TrimPrefix(dev+": "+why, ": ")
	}
	for _, dev := range gs.Displaced {
		out.Warnings = append(out.Warnings, "another program runs before the gate on "+dev)
	}
	addDropped(out.Dropped, "gate_", map[string]uint64{"unreadable_ipv6": gs.Obscure})
	now := gate.BootNow()
	for addr, c := range m.gate.Counters() {
		out.Gate.Addresses = append(out.Gate.Addresses, gateAddress(addr, c, gs.VIPs[addr], now))
	}
	slices.SortFunc(out.Gate.Addresses, func(a, b api.GateAddress) int { return a.Addr.Compare(b.Addr) })
}

func gateAddress(addr netip.Addr, c gate.Counters, left time.Duration, now int64) api.GateAddress {
	a := api.GateAddress{
		Addr: addr, Open: left > 0, LeftMS: left.Milliseconds(),
		ARPPassed: c.NeighbourIn.Passed + c.NeighbourOut.Passed, ARPDropped: c.NeighbourIn.Dropped + c.NeighbourOut.Dropped,
		InPassed: c.IPIn.Passed, InDropped: c.IPIn.Dropped, OutDropped: c.IPOut.Dropped + c.VRRPOut.Dropped,
		LastPassedAgeMS: age(c.PassedBy, now), LastDropAgeMS: age(c.DroppedBy, now),
	}
	last := c.DroppedBy
	if a.Open {
		last = c.PassedBy
	}
	if last.MAC != nil {
		a.LastMAC = last.MAC.String()
	}
	return a
}

// age is how many milliseconds ago it was; -1: never.
func age(s gate.Sender, now int64) int64 {
	if s.MAC == nil {
		return -1
	}
	return (now - s.When) / int64(time.Millisecond)
}

func (m *member) fillKernel(out *api.DirectorStatus) {
	ps := m.plane.Status()
	k := &out.Kernel
	k.Applied, k.Revision, k.Error = ps.Whole, ps.Applied, ps.Failing
	k.Operations, k.Errors = ps.Operations, ps.Errors
	k.Traffic = m.traffic.services(m.d.node.Table())
	k.Repairs, k.LastRepair, k.RepairedAt = ps.DriftRepaired, ps.LastRepair, ps.RepairedAt
	if k.Error == "" {
		k.Error = ps.Waiting
	}
	k.Services = len(ps.Services)
	for _, s := range ps.Services {
		k.Servers += len(s.Dests)
		for _, d := range s.Dests {
			if d.Weight == 0 {
				k.Draining = append(k.Draining, api.DrainStatus{Service: s.Service, Server: d.Addr, Active: d.Active, Inactive: d.Inactive})
			}
		}
	}
	for _, f := range ps.ForeignServices {
		k.Foreign = append(k.Foreign, api.Foreign{Kind: "service", What: f.Service, Fix: f.Remove, Rules: f.Rules})
	}
	out.Warnings = append(out.Warnings, ps.Tuning...)
	if s := ps.Sync; s != nil {
		k.Sync = &api.SyncStatus{Interface: s.Interface, ID: s.ID, Sends: s.Sends, Receives: s.Receives, LeftMS: m.plane.Syncing().Milliseconds(), Problem: s.Problem}
		if s.Problem != "" {
			out.Warnings = append(out.Warnings, s.Problem)
		}
	}
	for _, l := range ps.Locals {
		if l.Problem != "" {
			out.Warnings = append(out.Warnings, l.Problem)
		}
	}
	for _, f := range ps.ForeignVIPs {
		k.Foreign = append(k.Foreign, api.Foreign{Kind: "address", What: f.Prefix.String() + " on " + f.Interface, Fix: f.Remove})
	}
	for _, v := range ps.VIPs {
		out.Addresses = append(out.Addresses, api.AddressStatus{
			Router: v.Router, Prefix: v.Prefix, Interface: v.Interface, On: v.On, Restored: v.Restored, Error: v.Problem,
			Claims: claimStatus(ps.Claimed, v),
		})
	}
}

// claimStatus is who else answers for v.
func claimStatus(all []dataplane.Claimed, v dataplane.VIPStatus) (out []api.Claim) {
	for _, c := range all {
		if c.Router != v.Router || c.Addr != v.Prefix.Addr() {
			continue
		}
		for _, by := range c.By {
			out = append(out, api.Claim{MAC: by.MAC.String(), Addrs: by.Addrs})
		}
	}
	return out
}
