package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// pair is a cluster of three with the sample configuration.
func pair(t *testing.T) *apitest.Fake {
	t.Helper()
	f := apitest.NewCluster()
	r, problems := conf.Parse("../../deploy/keepalived-pair.conf", os.ReadFile, filepath.Glob)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "default", Config: r.Config}})
	return f
}

// TestStatusGolden: testdata/status/*.txt say what a person reads in each
// situation. UPDATE_SCRIPTS=1 rewrites them; commit only what you understand.
func TestStatusGolden(t *testing.T) {
	time.Local = time.UTC
	vip := netip.MustParseAddr("172.25.88.100")
	for _, c := range []struct {
		name string
		fake func(t *testing.T) *apitest.Fake
	}{
		{"unenrolled", func(*testing.T) *apitest.Fake { return apitest.New() }},
		{"empty", func(*testing.T) *apitest.Fake { return apitest.NewCluster() }},
		{"well", pair},
		{"services", func(t *testing.T) *apitest.Fake { // one of each kind
			f := pair(t)
			r, problems := conf.ParseYAML("services.yaml", []byte(servicesYAML))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "more", Config: r.Config}})
			return f
		}},
		{"synchronised", func(t *testing.T) *apitest.Fake { // one is new, one cannot
			f := pair(t)
			f.Edit = func(s *api.DirectorStatus) {
				s.Kernel.Sync = &api.SyncStatus{Interface: "eth1", ID: 51, Sends: true, Receives: true}
				switch s.ID {
				case "m2":
					s.Kernel.Sync.LeftMS = 8300
				case "m3":
					*s.Kernel.Sync = api.SyncStatus{ID: 51, Problem: "connections are not synchronised: this host has no interface eth1"}
					s.Warnings = append(s.Warnings, s.Kernel.Sync.Problem)
				}
			}
			return f
		}},
		{"one-dead", func(t *testing.T) *apitest.Fake {
			f := pair(t)
			f.Dead = map[fsm.MemberID]string{"m2": "no answer within 1s"}
			return f
		}},
		{"no-majority", func(t *testing.T) *apitest.Fake {
			f := pair(t)
			f.Dead = map[fsm.MemberID]string{"m2": "no answer within 1s", "m3": "connection refused"}
			f.Edit = func(s *api.DirectorStatus) { s.Leases[0].State, s.Leases[0].Unfit = api.LeaseIdle, "" }
			return f
		}},
		{"slow", func(t *testing.T) *apitest.Fake { // a hung disk, a narrow lease, a drained owner that nobody relieves
			f := pair(t)
			f.Edit = func(s *api.DirectorStatus) {
				switch s.ID {
				case "m1":
					l := &s.Leases[0]
					l.Renewals, l.LeastLeft, l.MeanLeft, l.Waits = 900, 0.12, 0.71, "dir1 is drained, but no other director is ready"
				case "m2":
					s.Raft.Stalled, s.Raft.DiskErrors = "appending to the Raft log took longer than 3s", 2
				case "m3":
					s.Leases[0].Renewals, s.Leases[0].LeastLeft = 900, 0.12 // of a tenure that is over
				}
			}
			return f
		}},
		{"forced", func(t *testing.T) *apitest.Fake {
			f := pair(t)
			f.Dead = map[fsm.MemberID]string{"m2": "no answer within 1s", "m3": "connection refused"}
			f.Edit = func(s *api.DirectorStatus) { s.Leases[0].Forced = "without m2, m3, by an operator's word" }
			return f
		}},
		{"unfit", func(t *testing.T) *apitest.Fake {
			f := pair(t)
			f.Edit = func(s *api.DirectorStatus) {
				if s.ID == "m3" {
					s.Leases[0].Unfit = "IPVS table not applied"
					s.Kernel = api.KernelStatus{Error: "add service tcp/172.25.88.100:80: module ip_vs_rr is missing"}
				}
			}
			return f
		}},
		{"wrong-way", func(t *testing.T) *apitest.Fake {
			f := pair(t)
			f.Edit = func(s *api.DirectorStatus) {
				g := &s.Gate.Addresses[0]
				switch s.ID {
				case "m1": // the owner hears nothing
					g.InPassed, g.LastPassedAgeMS = 0, -1
				case "m2": // the gateway still sends here
					g.InDropped, g.LastDropAgeMS, g.LastMAC = 812, 40, "52:54:00:00:00:01"
				case "m3":
					s.Kernel.Repairs, s.Kernel.RepairedAt, s.Kernel.LastRepair = 2, apitest.Now.Add(-time.Minute), "weight of 172.25.88.2:80"
					s.Kernel.Foreign = []api.Foreign{{Kind: "service", What: "tcp/" + vip.String() + ":8080", Fix: "ipvsadm -D -t " + vip.String() + ":8080"}}
					s.VRRP[0].Heard = append(s.VRRP[0].Heard, api.Speaker{Addr: netip.MustParseAddr("172.25.88.7"), Version: 2, Priority: 150, Count: 9, AgeMS: 200})
					s.Warnings = []string{"clock: MONOTONIC and MONOTONIC_RAW differ by 6 %"}
				}
			}
			return f
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.fake(t)
			local := f.Local()
			got := renderStatus(api.BuildReport(f.Table(), local, f.Others(t.Context()), apitest.Now))
			path := filepath.Join("testdata", "status", c.name+".txt")
			if os.Getenv("UPDATE_SCRIPTS") != "" {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// servicesYAML has one service of each kind.
const servicesYAML = `services:
  - mark: 7
    method: dr
    match:
      - {address: 172.25.88.100, protocol: tcp, ports: 8000-8999}
    real_servers:
      - address: 172.25.88.2
      - {address: "172.25.88.3:8080", method: nat}
  - mark: 8
    method: dr
    family: ipv6
    real_servers:
      - address: 2001:db8::2
  - address: "[2001:db8::100]:5060"
    protocol: udp
    method: tun
    scheduler: sh
    hash_port: true
    one_packet: true
    persistence: 5m
    persistence_mask: 64
    persistence_engine: sip
    real_servers:
      - address: 172.25.88.2
  - address: 172.25.88.100:2905
    protocol: sctp
    method: nat
    group: signalling
    real_servers:
      - address: 172.25.88.2:2906
`

// Who is not one of us is shouted at, unless the table lists him.
func TestSpeakersAreNamed(t *testing.T) {
	for want, s := range map[string]api.SpeakerReport{
		"(dir1)":          {Member: "dir1"},
		"(a listed peer)": {Speaker: api.Speaker{Listed: true}},
		"(NO MEMBER)":     {},
	} {
		s.Addr = netip.MustParseAddr("172.25.88.7")
		if got := vrrpLine(api.RouterReport{Speakers: []api.SpeakerReport{s}}); !strings.Contains(got, "heard 172.25.88.7 "+want) {
			t.Errorf("%q has no %q", got, want)
		}
	}
}

// A speaker whose adverts are refused is shown with the reason.
func TestRefusedSpeakersAreExplained(t *testing.T) {
	sp := api.SpeakerReport{Speaker: api.Speaker{Listed: true, Version: 2, Priority: 150, AgeMS: 300}, HeardBy: []string{"dir1"}}
	sp.Addr = netip.MustParseAddr("172.25.88.7")
	taken := vrrpLine(api.RouterReport{Speakers: []api.SpeakerReport{sp}})
	sp.Reason = "another password than ours"
	if got := vrrpLine(api.RouterReport{Speakers: []api.SpeakerReport{sp}}); got != taken+", refused: another password than ours" {
		t.Errorf("%q; while it was accepted %q", got, taken)
	}
}
