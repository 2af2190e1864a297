package apitest

import (
	"fmt"
	"net/netip"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// busySite is what the busy cluster serves.
const busySite = `
routers:
  - name: web
    vrid: 51
    interface: eth0
    addresses: [172.25.88.100]
  - name: mail
    vrid: 52
    interface: eth0
    addresses: [172.25.88.101]
services:
  - address: 172.25.88.100:443
    protocol: tcp
    method: dr
    scheduler: wlc
    real_servers:
      - {address: 172.25.88.2, checks: [{kind: tcp}]}
      - {address: 172.25.88.3, checks: [{kind: tcp}]}
      - {address: 172.25.88.4, checks: [{kind: tcp}]}
  - address: 172.25.88.101:25
    protocol: tcp
    method: dr
    real_servers:
      - {address: 172.25.88.5, checks: [{kind: tcp}]}
      - {address: 172.25.88.6, weight: 3, checks: [{kind: tcp}]}
`

// NewBusy is a cluster of three directors in which all that a member can tell of
// is there: two routers with traffic, checks that disagree, strangers and drops.
func NewBusy() *Fake {
	f := NewCluster()
	r, problems := conf.ParseYAML("busy.yaml", []byte(busySite))
	if len(problems) > 0 {
		panic(fmt.Sprint(problems))
	}
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "default", Config: r.Config}})
	f.vote("m1", map[string]string{})
	f.vote("m2", map[string]string{"172.25.88.4": "connection refused"})
	f.vote("m3", map[string]string{"172.25.88.4": "connection refused", "172.25.88.6": "no answer within 3s"})
	f.Edit = f.busy
	return f
}

// vote has a member find all servers up but those that it has a reason for.
func (f *Fake) vote(id fsm.MemberID, down map[string]string) {
	var opinions []fsm.Opinion
	seen := map[fsm.Target]bool{}
	for _, s := range f.Table().Services {
		for _, r := range s.RealServers {
			if t := r.Target(); !seen[t] {
				seen[t] = true
				detail, isDown := down[r.Addr.String()]
				opinions = append(opinions, fsm.Opinion{Target: t, Vote: fsm.Vote{Up: !isDown, Detail: detail}})
			}
		}
	}
	f.Must(fsm.Command{Votes: &fsm.CastVotes{Member: id, Opinions: opinions}})
}

// busy adds what a member that has something to do says of itself.
func (f *Fake) busy(s *api.DirectorStatus) {
	s.Raft.Commit = s.Raft.Applied
	s.Running = api.Timing{Profile: "default"}
	s.MailFailing = 1
	s.Dropped = map[string]uint64{"lease_key": 2}
	t := f.Table()
	for _, m := range t.Members {
		heard := int64(120)
		if m.ID == s.ID {
			heard = 0
		}
		s.Contacts = append(s.Contacts, api.ContactStatus{Member: m.ID, Alive: true, HeardMS: heard})
		if m.ID != s.ID {
			s.Peers = append(s.Peers, api.PeerStatus{Member: m.ID, Ways: []api.WayStatus{{Way: "UDP", HeardMS: 30, Alive: true}}})
		}
	}
	for i := range s.Leases {
		if l := &s.Leases[i]; l.State == api.LeaseHolder {
			l.Renewals, l.LeastLeft, l.MeanLeft = 812, 0.61, 0.78
		}
	}
	for i := range s.Gate.Addresses {
		g := &s.Gate.Addresses[i]
		if g.Open {
			g.LeftMS = 640
		} else {
			g.InDropped, g.LastDropAgeMS, g.LastMAC = 3, 70_000, "02:00:00:00:00:99"
		}
	}
	for i := range s.VRRP {
		s.VRRP[i].Heard = append(s.VRRP[i].Heard, api.Speaker{Addr: netip.MustParseAddr("172.25.88.250"), Version: 2, Priority: 100, Count: 4, AgeMS: 800})
		s.VRRP[i].Rejected = map[string]uint64{"ttl": 1}
	}
	k := &s.Kernel
	k.Operations, k.Repairs, k.RepairedAt, k.LastRepair = map[string]uint64{"add_service": 2, "add_server": 5}, 1, Now, "ipvsadm -e -t 172.25.88.100:443"
	k.Servers = 5
	for i, v := range t.Services {
		tr := api.ServiceTraffic{Service: v.ServiceKey.String()}
		for _, l := range s.Leases {
			if l.State == api.LeaseHolder && l.Router == t.Routers[i].ID {
				tr.Traffic = api.Traffic{Connections: 12345, InPackets: 987654, InBytes: 123456789}
			}
		}
		k.Traffic = append(k.Traffic, tr)
		for _, r := range v.RealServers {
			target := r.Target()
			vote, known := t.Votes[target][s.ID]
			s.Checks = append(s.Checks, api.CheckStatus{Target: target, Known: known, Up: vote.Up, Detail: vote.Detail})
		}
	}
}
