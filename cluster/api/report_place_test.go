package api_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

func vip(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 25, 88, byte(100 + i)}), 32)
}

// owns reports that a member owns a unit.
func owns(f *apitest.Fake, id fsm.MemberID, unit uint64) {
	f.Must(fsm.Command{Ownership: &fsm.Ownership{Router: unit, Member: id, Owns: true}})
}

// Why a router is not at home, in one sentence that names what would help.
func TestWhyARouterIsAway(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name string
		do   func(f *apitest.Fake)
		want string // empty: nothing to say
	}{
		{"at home", func(f *apitest.Fake) { owns(f, "m1", 1) }, ""},
		{"nobody knows", func(f *apitest.Fake) { f.Dead = map[fsm.MemberID]string{"m1": "x", "m2": "x", "m3": "x"} }, ""},
		{"manual", func(f *apitest.Fake) { owns(f, "m2", 1) },
			"dir1 can have it again, and fail-back is manual: lbcluster router move VI_1 --home"},
		{"automatic", func(f *apitest.Fake) {
			owns(f, "m2", 1)
			f.Must(fsm.Command{Settings: &fsm.SetSettings{FailBack: fsm.FailBackAuto}})
		}, "it goes home by itself once dir1 has been well for 1m0s"},
		{"automatic, held up", func(f *apitest.Fake) {
			owns(f, "m2", 1)
			f.Must(fsm.Command{Settings: &fsm.SetSettings{FailBack: fsm.FailBackAuto}})
			waits(f, "m2", "dir1 is behind the table")
		}, "dir1 is behind the table"},
		{"drained", func(f *apitest.Fake) {
			owns(f, "m2", 1)
			f.Must(fsm.Command{Member: &fsm.SetMember{ID: "m1", Drained: &yes}})
		}, "dir1 is drained: lbcluster director fit dir1"},
		{"to be moved to a dead one", func(f *apitest.Fake) {
			owns(f, "m1", 1)
			f.Must(fsm.Command{Move: &fsm.Move{Unit: 1, To: "m2"}})
			f.Dead = map[fsm.MemberID]string{"m2": "no answer within 1s"}
		}, "to be moved to dir2, which does not answer"},
		{"home is unfit", func(f *apitest.Fake) {
			owns(f, "m2", 1)
			f.Edit = func(s *api.DirectorStatus) {
				for i := range s.Leases {
					if s.ID == "m1" {
						s.Leases[i].Unfit = "not fit for it: eth0 has no carrier"
					}
				}
			}
		}, "dir1 is not fit: eth0 has no carrier"},
		{"moved", func(f *apitest.Fake) {
			owns(f, "m1", 1)
			f.Must(fsm.Command{Move: &fsm.Move{Unit: 1, To: "m2"}})
			owns(f, "m2", 1)
		}, "moved to dir2 by hand; back home to dir1: lbcluster router move VI_1 --home"},
		{"to be moved away", func(f *apitest.Fake) {
			owns(f, "m1", 1)
			f.Must(fsm.Command{Move: &fsm.Move{Unit: 1, To: "m2"}})
		}, "to be moved to dir2: under way"},
		{"to be moved away, held up", func(f *apitest.Fake) {
			owns(f, "m1", 1)
			f.Must(fsm.Command{Move: &fsm.Move{Unit: 1, To: "m2"}})
			waits(f, "m1", "dir2 has not said that it is ready")
		}, "to be moved to dir2: dir2 has not said that it is ready"},
		{"to be moved home", func(f *apitest.Fake) {
			owns(f, "m2", 1)
			f.Must(fsm.Command{Move: &fsm.Move{Unit: 1}})
		}, "to be moved to dir1: under way"},
		{"pinned where it is", func(f *apitest.Fake) {
			owns(f, "m2", 1)
			f.Must(fsm.Command{Move: &fsm.Move{Unit: 1, To: "m2", Pin: true}})
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := apitest.NewCluster()
			addRouters(f, "VI_1", "VI_2", "VI_3")
			c.do(f)
			r := api.BuildReport(f.Table(), f.Local(), f.Others(t.Context()), apitest.Now)
			if got := r.Routers[0].Away; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if r.Routers[0].HomeName == "" {
				t.Error("the home is not named")
			}
		})
	}
}

// A director that sees much less than the others is named, with what it saw.
func TestBlindDirectorIsNamed(t *testing.T) {
	f := apitest.NewCluster()
	cfg := fsm.Config{
		Routers: []fsm.Router{{Name: "VI_1", VRID: 51, Interface: "eth0", Version: 2, Priority: 100, AdvertInterval: fsm.Duration(time.Second), Addresses: []fsm.Address{{Prefix: vip(0)}}}},
	}
	v := fsm.VirtualServer{ServiceKey: fsm.ServiceKey{Addr: vip(0).Addr(), Port: 80, Protocol: fsm.TCP}, Scheduler: "rr", Method: fsm.DirectRouting}
	for i := range 3 {
		addr := netip.AddrFrom4([4]byte{172, 25, 88, byte(2 + i)})
		v.RealServers = append(v.RealServers, fsm.RealServer{Addr: addr, Port: 80, Weight: 1, Checks: []fsm.Check{{
			Kind: fsm.CheckTCP, Dest: netip.AddrPortFrom(addr, 80), ConnectTimeout: fsm.Duration(2 * time.Second), DelayLoop: fsm.Duration(time.Second), DelayBeforeRetry: fsm.Duration(time.Second),
		}}})
	}
	cfg.Services = []fsm.VirtualServer{v}
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "default", Config: cfg}})
	for _, id := range []fsm.MemberID{"m1", "m2", "m3"} {
		votes := &fsm.CastVotes{Member: id}
		for i, info := range f.Table().Targets() {
			votes.Opinions = append(votes.Opinions, fsm.Opinion{Target: info.Target, Vote: fsm.Vote{Up: id != "m2" || i == 0}})
		}
		f.Must(fsm.Command{Votes: votes})
	}
	r := api.BuildReport(f.Table(), f.Local(), f.Others(t.Context()), apitest.Now)
	var got []api.Finding
	for _, found := range r.Findings {
		if strings.Contains(found.Text, "view") {
			got = append(got, found)
		}
	}
	want := "dir2: its view of the real servers behind VI_1 is worse than what is agreed: it finds 2 of 3 real servers down that are agreed up: 172.25.88.3:80, 172.25.88.4:80. If that lasts 3s, a director with a better view gets the VIP"
	if len(got) != 1 || got[0].Text != want || got[0].Severity != api.Warn || !strings.Contains(got[0].Fix, "dir2") {
		t.Errorf("got %+v\nwant %s", got, want)
	}
}

func waits(f *apitest.Fake, id fsm.MemberID, why string) {
	f.Edit = func(s *api.DirectorStatus) {
		for i := range s.Leases {
			if s.ID == id {
				s.Leases[i].Waits = why
			}
		}
	}
}

// Routers of a group share a lease, and are reported with their group's owner.
func TestGroupedRoutersShareTheirOwner(t *testing.T) {
	f := apitest.NewCluster()
	addRouters(f, "VI_1", "VI_2", "VI_3")
	u, _ := f.Table().UnitByName("VG_1")
	owns(f, "m3", u.ID)
	r := api.BuildReport(f.Table(), f.Local(), f.Others(t.Context()), apitest.Now)
	for _, v := range r.Routers {
		grouped := v.Name != "VI_1"
		if grouped != (v.Group == "VG_1") || grouped != (v.Unit == u.ID) || grouped && v.OwnerName != "dir3" {
			t.Errorf("%s: group %q, unit %d, owner %s", v.Name, v.Group, v.Unit, v.OwnerName)
		}
		if len(v.StandBy) != 2 || strings.Contains(v.StandBy[0].Why, "does not know") {
			t.Errorf("%s: %+v", v.Name, v.StandBy)
		}
	}
	f.Dead = map[fsm.MemberID]string{"m2": "no answer within 1s"}
	r = api.BuildReport(f.Table(), f.Local(), f.Others(t.Context()), apitest.Now)
	if got := r.Routers[1].Away; got != "dir2 does not answer" {
		t.Errorf("with a dead home: %q", got)
	}
}

// A setting that a member does not run yet is not in force, whatever the table says.
func TestAMemberThatRunsOldTimings(t *testing.T) {
	f := apitest.NewCluster()
	f.Set(func(f *apitest.Fake) {
		f.Edit = func(s *api.DirectorStatus) { s.Running = api.Timing{Profile: "robust"} }
	})
	for _, x := range api.BuildReport(f.Table(), f.Local(), f.Others(t.Context()), apitest.Now).Findings {
		if strings.Contains(x.Text, "still runs profile robust with guard 0s; the settings say default with 0s") && strings.Contains(x.Fix, "reload") {
			return
		}
	}
	t.Error("status does not tell")
}
