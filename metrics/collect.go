package metrics

import (
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// Facts is what a scrape is made from.
type Facts struct {
	// Local is what this member says of itself now.
	Local api.DirectorStatus
	// Report is the whole cluster, as asked for some seconds ago at most.
	Report api.StatusReport
	// Servers is the traffic of real servers here, and TrafficError why there is none.
	Servers      []Server
	TrafficError error
}

// Server is the traffic of one real server of one virtual server on this director.
type Server struct {
	Service string // as fsm.ServiceKey.String
	Server  string // address and port
	api.Traffic
	Active, Inactive uint32 // connections now
}

// samples takes samples, each series once: what is strange in the facts must not
// cost the whole scrape.
type samples struct {
	out  chan<- prometheus.Metric
	seen map[string]bool
}

func (s *samples) put(m *Metric, v float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	key := m.Name + "\xff" + strings.Join(labels, "\xff")
	if s.seen[key] {
		return
	}
	s.seen[key] = true
	s.out <- prometheus.MustNewConstMetric(m.desc, m.value, v, labels...)
}

func (s *samples) flag(m *Metric, v bool, labels ...string) { s.put(m, truth(v), labels...) }

func truth(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }

// collect turns facts into samples.
func collect(f Facts, out chan<- prometheus.Metric) {
	s := &samples{out: out, seen: map[string]bool{}}
	st := f.Local
	s.put(buildInfo, 1, st.Version, runtime.Version())
	s.put(started, float64(st.Started.UnixMilli())/1000)
	s.flag(enrolled, st.Enrolled)
	if !st.Enrolled {
		return
	}
	s.put(revision, float64(st.TableRevision))
	n := namesOf(f.Report)
	s.raft(st)
	s.members(f, n)
	s.leases(st, n)
	s.put(mailFailing, float64(st.MailFailing))
	for reason, count := range st.Dropped {
		s.put(packetsDropped, float64(count), reason)
	}
	s.put(clockRate, st.Clock.RatePPM/1e6)
	s.flag(clockAlarm, st.Clock.Alarm != "")
	s.put(clockSuspended, seconds(st.Clock.SuspendedMS))
	if st.Role != fsm.Director {
		return
	}
	s.gate(st)
	s.vrrp(st, n)
	s.kernel(st)
	s.health(f)
	s.traffic(f)
}

// names turns ids into what operators call things.
type names struct {
	units   map[uint64]string // of sync groups, and of routers in none
	routers map[uint64]string
	members map[fsm.MemberID]string
	sources map[string]bool // addresses that members advertise from
}

func namesOf(r api.StatusReport) names {
	n := names{units: map[uint64]string{}, routers: map[uint64]string{}, members: map[fsm.MemberID]string{}, sources: map[string]bool{}}
	for _, x := range r.Routers {
		n.routers[x.ID], n.units[x.Unit] = x.Name, x.Name
		if x.Group != "" {
			n.units[x.Unit] = x.Group
		}
		for _, sp := range x.Speakers {
			if sp.Member != "" {
				n.sources[sp.Addr.String()] = true
			}
		}
	}
	for _, m := range r.Members {
		n.members[m.ID] = m.Name
		n.sources[m.Addr.Addr().String()] = true
	}
	return n
}

func (s *samples) raft(st api.DirectorStatus) {
	for _, state := range []string{api.RaftLeader, api.RaftFollower, api.RaftCandidate, api.RaftStopped} {
		s.flag(raftState, st.Raft.State == state, state)
	}
	s.flag(raftLeader, st.Raft.Leader != "")
	s.put(raftTerm, float64(st.Raft.Term))
	s.put(raftCommit, float64(st.Raft.Commit))
	s.put(raftApplied, float64(st.Raft.Applied))
	if st.Raft.LastContactMS >= 0 {
		s.put(raftLastContact, seconds(st.Raft.LastContactMS))
	}
	s.flag(raftHalted, st.Raft.Halted != "")
	s.flag(raftStalled, st.Raft.Stalled != "")
	s.put(raftDiskErrors, float64(st.Raft.DiskErrors))
}

func (s *samples) members(f Facts, n names) {
	r := f.Report
	if !r.Enrolled {
		return
	}
	s.put(failuresLeft, float64(r.Survival.Failures))
	s.put(voters, float64(r.Survival.Voters))
	s.put(votersAnswering, float64(r.Survival.Answering))
	s.put(directorsAble, float64(r.Survival.Able))
	for _, m := range r.Members {
		s.flag(memberAnswers, m.Status != nil, m.Name, string(m.Role))
	}
	counts := map[string]int{api.Bad: 0, api.Warn: 0, api.Note: 0}
	for _, x := range r.Findings {
		counts[x.Severity]++
	}
	for severity, count := range counts {
		s.put(findingsCount, float64(count), severity)
	}
	for _, c := range f.Local.Contacts {
		name, known := n.members[c.Member]
		if !known {
			continue
		}
		s.flag(memberAlive, c.Alive, name)
		if c.HeardMS >= 0 {
			s.put(memberHeard, seconds(c.HeardMS), name)
		}
	}
	for _, p := range f.Local.Peers {
		if name, known := n.members[p.Member]; known {
			alive := 0
			for _, w := range p.Ways {
				if w.Alive {
					alive++
				}
			}
			s.put(peerWays, float64(alive), name)
		}
	}
	for _, x := range r.Routers {
		s.flag(routerOwner, x.Owner != "", n.units[x.Unit])
	}
}

func (s *samples) leases(st api.DirectorStatus, n names) {
	var embargo int64
	for _, l := range st.Leases {
		embargo = max(embargo, l.EmbargoMS)
		name, known := n.units[l.Router]
		if !known {
			continue // the report is older than the router
		}
		s.flag(routerOwned, l.State == api.LeaseHolder, name)
		s.put(leaseLeft, seconds(l.RemainingMS), name)
		s.flag(leaseUnfit, l.Unfit != "", name)
		s.put(leaseAcquired, float64(l.Acquired), name)
		s.put(leaseLost, float64(l.Lost), name)
		if l.State == api.LeaseHolder {
			s.put(leaseRenewals, float64(l.Renewals), name)
		}
		if l.Renewals > 0 {
			s.put(leaseLeast, l.LeastLeft, name)
			s.put(leaseMean, l.MeanLeft, name)
		}
	}
	s.put(leaseEmbargo, seconds(embargo))
}

func (s *samples) gate(st api.DirectorStatus) {
	s.flag(gateAttached, st.Gate.Mode != api.GateNone && st.Gate.Error == "", st.Gate.Mode)
	s.put(gateInterfaces, float64(len(st.Gate.Interfaces)))
	for _, a := range st.Gate.Addresses {
		vip := a.Addr.String()
		s.flag(gateOpen, a.Open, vip)
		s.put(gateLeft, seconds(a.LeftMS), vip)
		for _, p := range []struct {
			kind, verdict string
			n             uint64
		}{
			{"arp", "passed", a.ARPPassed}, {"arp", "dropped", a.ARPDropped},
			{"in", "passed", a.InPassed}, {"in", "dropped", a.InDropped}, {"out", "dropped", a.OutDropped},
		} {
			s.put(gatePackets, float64(p.n), vip, p.kind, p.verdict)
		}
		if a.LastPassedAgeMS >= 0 {
			s.put(gateLastPassed, seconds(a.LastPassedAgeMS), vip)
		}
		if a.LastDropAgeMS >= 0 {
			s.put(gateLastDrop, seconds(a.LastDropAgeMS), vip)
		}
	}
	for _, a := range st.Addresses {
		vip := a.Prefix.Addr().String()
		s.flag(vipOn, a.On, vip)
		s.put(vipRestored, float64(a.Restored), vip)
		s.flag(vipProblem, a.Error != "", vip)
	}
}

// spokeLately is how long a speaker counts after its last advert.
const spokeLately = 30 * time.Second

func (s *samples) vrrp(st api.DirectorStatus, n names) {
	for _, v := range st.VRRP {
		name, known := n.routers[v.Router]
		if !known {
			continue
		}
		for _, state := range []string{"INIT", "BACKUP", "MASTER", "FAULT"} {
			s.flag(vrrpState, v.State == state, name, state)
		}
		s.put(vrrpSent, float64(v.Sent), name)
		adverts, speakers := map[string]uint64{}, map[string]int{"member": 0, "peer": 0, "foreign": 0}
		for _, h := range v.Heard {
			from := "foreign"
			switch {
			case n.sources[h.Addr.String()]:
				from = "member"
			case h.Listed:
				from = "peer"
			}
			adverts[from] += h.Count
			if h.AgeMS <= spokeLately.Milliseconds() {
				speakers[from]++
			}
		}
		for from, count := range speakers {
			s.put(vrrpSpeakers, float64(count), name, from)
			s.put(vrrpHeard, float64(adverts[from]), name, from)
		}
		for reason, count := range v.Rejected {
			s.put(vrrpRejected, float64(count), name, reason)
		}
	}
}

func (s *samples) kernel(st api.DirectorStatus) {
	k := st.Kernel
	s.flag(ipvsApplied, k.Applied)
	s.put(ipvsRevision, float64(k.Revision))
	s.flag(ipvsFailing, k.Error != "")
	for op, count := range k.Operations {
		s.put(ipvsOperations, float64(count), op)
	}
	s.put(ipvsErrors, float64(k.Errors))
	s.put(ipvsRepairs, float64(k.Repairs))
	foreign := map[string]int{"service": 0, "address": 0}
	for _, f := range k.Foreign {
		foreign[f.Kind]++
	}
	for kind, count := range foreign {
		s.put(ipvsForeign, float64(count), kind)
	}
	s.put(ipvsServices, float64(k.Services))
	s.put(ipvsServers, float64(k.Servers))
}

func (s *samples) health(f Facts) {
	opinions := map[string]int{"up": 0, "down": 0, "unknown": 0}
	for _, c := range f.Local.Checks {
		switch {
		case !c.Known:
			opinions["unknown"]++
		case c.Up:
			opinions["up"]++
		default:
			opinions["down"]++
		}
	}
	for opinion, count := range opinions {
		s.put(checkTargets, float64(count), opinion)
	}
	for _, v := range f.Report.Services {
		service, taking := v.Key.String(), 0
		for _, r := range v.Servers {
			server := r.Server.String()
			if r.InKernel && r.Effective > 0 {
				taking++
			}
			s.flag(serverUp, !r.Health.Down, service, server)
			s.put(serverWeight, float64(r.Effective), service, server)
			s.put(serverVotes, float64(len(r.Up)), service, server, "up")
			s.put(serverVotes, float64(len(r.Down)), service, server, "down")
			s.flag(serverDisagree, r.Disagree(), service, server)
			for _, vote := range r.Votes {
				if vote.Member == f.Local.ID {
					s.flag(serverOpinion, vote.Up, service, server)
				}
			}
		}
		s.put(serviceServers, float64(len(v.Servers)), service)
		s.put(serviceAlive, float64(taking), service)
	}
}

func (s *samples) traffic(f Facts) {
	s.flag(trafficFailing, f.TrafficError != nil)
	for _, t := range f.Local.Kernel.Traffic {
		s.put(serviceConns, float64(t.Connections), t.Service)
		s.put(servicePackets, float64(t.InPackets), t.Service, "in")
		s.put(servicePackets, float64(t.OutPackets), t.Service, "out")
		s.put(serviceBytes, float64(t.InBytes), t.Service, "in")
		s.put(serviceBytes, float64(t.OutBytes), t.Service, "out")
	}
	for _, t := range f.Servers {
		s.put(serverConns, float64(t.Connections), t.Service, t.Server)
		s.put(serverPackets, float64(t.InPackets), t.Service, t.Server, "in")
		s.put(serverPackets, float64(t.OutPackets), t.Service, t.Server, "out")
		s.put(serverBytes, float64(t.InBytes), t.Service, t.Server, "in")
		s.put(serverBytes, float64(t.OutBytes), t.Service, t.Server, "out")
		s.put(serverActive, float64(t.Active), t.Service, t.Server)
		s.put(serverInactive, float64(t.Inactive), t.Service, t.Server)
	}
}
