package dataplane

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/ipvs/ipvstest"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// hostSysctls are those that the fake host has, as a kernel begins.
func hostSysctls(h *fakeHost) {
	for name, v := range map[string]string{
		"conn_reuse_mode": "1", "expire_nodest_conn": "0", "expire_quiescent_template": "0", "sloppy_tcp": "0",
		"sync_threshold": "3\t50", "sync_refresh_period": "0",
	} {
		h.sysctls["net.ipv4.vs."+name] = v
	}
}

func (h *fakeHost) set(name, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sysctls[name] = value
}

// ipvsTable is pairTable with settings of IPVS; its member m1 is this host.
func ipvsTable(rev fsm.Revision, v fsm.IPVS) *fsm.Table {
	t := pairTable(rev)
	t.Members = []fsm.Member{{ID: "m1", Name: "dir1", Role: fsm.Director, State: fsm.Present, Addr: netip.MustParseAddrPort("10.0.0.11:7500")}}
	t.Sets = []fsm.Set{{Name: "default", Globals: fsm.Globals{IPVS: v}}}
	return t
}

func TestSettingsOfIPVS(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hostSysctls(w.host)
		w.run()
		w.plane.Update(ipvsTable(5, fsm.IPVS{Sysctls: map[string]string{"sloppy_tcp": fsm.LeaveSysctl}, TCPTimeout: fsm.Duration(time.Hour)}))
		settle()
		w.wantDiaryAnyOrder("gate [172.25.88.100]", "vrrp routers [VI_1@eth0]", "sysctl net.ipv4.vs.conn_reuse_mode=3",
			"sysctl net.ipv4.vs.expire_nodest_conn=1", "sysctl net.ipv4.vs.expire_quiescent_template=1")
		want := ipvs.DefaultTimeouts
		want.TCP = time.Hour
		if got, _ := w.ipvs.Timeouts(); got != want {
			t.Errorf("timeouts %+v", got)
		}
		time.Sleep(time.Minute)
		w.wantDiary()

		// Somebody changes one: it is set again. A restart knows what they were.
		w.host.set("net.ipv4.vs.conn_reuse_mode", "0")
		time.Sleep(2 * driftEvery)
		w.wantDiary("sysctl net.ipv4.vs.conn_reuse_mode=3")
		w.halt()
		w.run()
		w.host.set("net.ipv4.vs.expire_nodest_conn", "0")
		w.plane.Update(ipvsTable(6, fsm.IPVS{Sysctls: map[string]string{"conn_reuse_mode": fsm.LeaveSysctl, "expire_nodest_conn": fsm.LeaveSysctl}}))
		settle()
		lines := w.diary.take()
		for line, there := range map[string]bool{
			"sysctl net.ipv4.vs.conn_reuse_mode=1": true, "sysctl net.ipv4.vs.sloppy_tcp=1": true,
			"sysctl net.ipv4.vs.expire_nodest_conn=0": false, // somebody has put it back already
		} {
			if slices.Contains(lines, line) != there {
				t.Errorf("%q done: want %v; all: %q", line, there, lines)
			}
		}
		if got, _ := w.ipvs.Timeouts(); got != ipvs.DefaultTimeouts {
			t.Errorf("timeouts %+v", got)
		}
	})
}

// Connections through services that others have had their hands on outlast a moment
// without them.
func TestConnectionsOutlastSharedServices(t *testing.T) {
	for said, want := range map[string]string{"": "0", "1": "1", "0": "0"} {
		inBubble(t, func(t *testing.T, w *world) {
			hostSysctls(w.host)
			must(t, w.ipvs.Set(pairRules)) // keepalived's
			w.run()
			var v fsm.IPVS
			if said != "" {
				v.Sysctls = map[string]string{"expire_nodest_conn": said}
			}
			w.plane.Update(ipvsTable(5, v))
			time.Sleep(time.Minute)
			if got := w.host.sysctls["net.ipv4.vs.expire_nodest_conn"]; got != want || w.host.sysctls["net.ipv4.vs.sloppy_tcp"] != "1" {
				t.Errorf("said %q: expire_nodest_conn is %q, want %q", said, got, want)
			}
		})
	}
}

// A kernel without a setting is told of, and does what else it can.
func TestAKernelWithoutASetting(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hostSysctls(w.host)
		delete(w.host.sysctls, "net.ipv4.vs.sloppy_tcp")
		w.run()
		w.plane.Update(ipvsTable(5, fsm.IPVS{}))
		settle()
		s := w.plane.Status()
		if !s.Ready || s.Failing != "" || len(s.Tuning) != 1 || !strings.Contains(s.Tuning[0], "no net.ipv4.vs.sloppy_tcp") {
			t.Errorf("ready %v, failing %q, %q", s.Ready, s.Failing, s.Tuning)
		}
		if w.host.sysctls["net.ipv4.vs.conn_reuse_mode"] != "3" {
			t.Error("the others are not set")
		}
	})
}

// A setting that cannot be written hinders nothing else, and is tried again.
func TestASettingThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hostSysctls(w.host)
		w.cfg.Self = "m1"
		w.host.failWith(func(what string) error {
			if what == "sysctl" {
				return os.ErrPermission
			}
			return nil
		})
		w.run()
		w.plane.Update(ipvsTable(5, synced("eth1", 7)))
		settle()
		w.wantDaemons("master eth1 7, backup eth1 7")
		s := w.plane.Status()
		if !s.Ready || s.Failing != "" || len(s.Tuning) != 6 || !strings.Contains(s.Tuning[0], "set net.ipv4.vs.conn_reuse_mode to 3") {
			t.Errorf("ready %v, failing %q, %q", s.Ready, s.Failing, s.Tuning)
		}
		w.host.failWith(nil)
		time.Sleep(2 * driftEvery)
		if s := w.plane.Status(); len(s.Tuning) != 0 || w.host.sysctls["net.ipv4.vs.sloppy_tcp"] != "1" {
			t.Errorf("later: %q, %v", s.Tuning, w.host.sysctls)
		}
	})
}

func (w *world) wantDaemons(want string) {
	w.t.Helper()
	all, _ := w.ipvs.Daemons()
	var words []string
	for _, d := range all {
		words = append(words, fmt.Sprintf("%s %s %d", d.Role, d.Interface, d.ID))
	}
	if got := strings.Join(words, ", "); got != want {
		w.t.Errorf("daemons %q, want %q", got, want)
	}
}

func synced(iface string, id uint8) fsm.IPVS {
	return fsm.IPVS{Sync: &fsm.ConnSync{Interface: iface, ID: id}}
}

func TestConnectionsAreSynchronised(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hostSysctls(w.host)
		w.cfg.Self = "m1"
		w.run()
		w.plane.Update(ipvsTable(5, synced("", 7)))
		settle()
		w.wantDaemons("master eth1 7, backup eth1 7") // eth1 has the member's address
		for name, want := range map[string]string{"sync_threshold": "0 0", "sync_refresh_period": "10"} {
			if got := w.host.sysctls["net.ipv4.vs."+name]; got != want {
				t.Errorf("%s is %q", name, got)
			}
		}
		s := w.plane.Status().Sync
		if s == nil || !s.Sends || !s.Receives || s.Problem != "" || s.CaughtUp.Sub(s.Since) != 13*time.Second {
			t.Fatalf("status %+v", s)
		}
		if d := w.plane.Syncing(); d <= 12*time.Second || d > 13*time.Second {
			t.Errorf("%v left", d)
		}

		// A restart of the program leaves them alone, and knows since when they run.
		w.halt()
		time.Sleep(5 * time.Second)
		w.run()
		w.plane.Update(ipvsTable(5, synced("", 7)))
		settle()
		if d := w.plane.Syncing(); d <= 0 || d > 8*time.Second {
			t.Errorf("%v left after the restart", d)
		}
		time.Sleep(8 * time.Second)
		if d := w.plane.Syncing(); d != 0 {
			t.Errorf("%v left in the end", d)
		}

		// Stopped by somebody: started again, with all to hear anew.
		if err := w.ipvs.StopDaemon(ipvs.Receives); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * driftEvery)
		w.wantDaemons("master eth1 7, backup eth1 7")
		if w.plane.Syncing() == 0 {
			t.Error("has heard of all at once")
		}

		w.plane.Update(ipvsTable(6, synced("eth0", 8)))
		settle()
		w.wantDaemons("master eth0 8, backup eth0 8")
		w.plane.Update(ipvsTable(7, fsm.IPVS{}))
		settle()
		w.wantDaemons("")
		if w.host.sysctls["net.ipv4.vs.sync_threshold"] != "3 50" || w.plane.Status().Sync != nil || w.plane.Syncing() != 0 {
			t.Errorf("left: %v, %+v", w.host.sysctls, w.plane.Status().Sync)
		}
	})
}

// What cannot be is said, and hinders nothing else.
func TestConnectionsThatCannotBeSynchronised(t *testing.T) {
	crossing := func() *fsm.Table {
		t := ipvsTable(5, synced("eth1", 7))
		v := &t.Services[0]
		v.Method = fsm.Tunnel
		v.RealServers = []fsm.RealServer{{Addr: netip.MustParseAddr("2001:db8::2"), Port: 80, Weight: 1}}
		return t
	}
	for name, c := range map[string]struct {
		before func(w *world)
		table  *fsm.Table
		want   string
	}{
		"no such interface": {func(*world) {}, ipvsTable(5, synced("eth9", 7)), "this host has no interface eth9"},
		"another name here": {func(w *world) { w.cfg.NodeInterfaces = map[string]string{"eth1": "ens9"} }, ipvsTable(5, synced("eth1", 7)), "this host has no interface ens9"},
		"address not here":  {func(w *world) { w.host.take("eth1", "10.0.0.11/24") }, ipvsTable(5, synced("", 7)), "no interface has this member's address 10.0.0.11"},
		"of another family": {func(*world) {}, crossing(), "other address family"},
		"somebody else's": {func(w *world) {
			w.ipvs.StartDaemon(ipvs.Daemon{Role: ipvs.Receives, Interface: "eth0", ID: 1})
		}, ipvsTable(5, synced("eth1", 7)), "ipvsadm --stop-daemon backup ends it"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				hostSysctls(w.host)
				w.cfg.Self = "m1"
				c.before(w)
				w.run()
				w.plane.Update(c.table)
				settle()
				s := w.plane.Status()
				if s.Sync == nil || !strings.Contains(s.Sync.Problem, c.want) || !s.Ready || !s.Whole || w.plane.Syncing() != 0 {
					t.Errorf("status %+v, %+v", s.Sync, s)
				}
			})
		})
	}
}

// A service with a real server of the other family comes while the daemons run,
// which would make the kernel refuse it; later it goes.
func TestServingGoesBeforeSynchronising(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hostSysctls(w.host)
		w.run()
		w.plane.Update(ipvsTable(5, synced("eth1", 7)))
		settle()
		table := ipvsTable(6, synced("eth1", 7))
		table.Services[0].Method = fsm.Tunnel
		table.Services[0].RealServers[0].Addr = netip.MustParseAddr("2001:db8::2")
		w.plane.Update(table)
		settle()
		w.wantDaemons("")
		if s := w.plane.Status(); !s.Whole || s.Applied != 6 {
			t.Errorf("not applied: %+v", s)
		}
		w.plane.Update(ipvsTable(7, synced("eth1", 7)))
		settle()
		w.wantDaemons("master eth1 7, backup eth1 7")
	})
}

// Daemons of an interface that was removed and made again hear nothing more.
func TestAnotherInterfaceOfThatName(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hostSysctls(w.host)
		w.run()
		w.plane.Update(ipvsTable(5, synced("eth1", 7)))
		time.Sleep(time.Minute)
		before := w.plane.Status().Sync.Since
		w.host.change(func(s *vip.Snapshot) {
			i := slices.IndexFunc(s.Links, func(l vip.Link) bool { return l.Name == "eth1" })
			s.Links = slices.Clone(s.Links)
			s.Links[i].Index = 77
		})
		time.Sleep(2 * driftEvery)
		w.wantDaemons("master eth1 7, backup eth1 7")
		if s := w.plane.Status().Sync; !s.Since.After(before) {
			t.Errorf("not started again: %+v", s)
		}
	})
}

func TestPlanDaemons(t *testing.T) {
	d := func(r ipvs.Role, id uint8) ipvs.Daemon { return ipvs.Daemon{Role: r, Interface: "eth0", ID: id} }
	s, r := ipvs.Sends, ipvs.Receives
	for _, c := range []struct {
		have, want []ipvs.Daemon
		ours       []ipvs.Role
		plan       string // stop, start, in the way
	}{
		{nil, nil, nil, "[] [] []"},
		{nil, []ipvs.Daemon{d(s, 1), d(r, 1)}, nil, "[] [master1 backup1] []"},
		{[]ipvs.Daemon{d(s, 1), d(r, 1)}, []ipvs.Daemon{d(s, 1), d(r, 1)}, nil, "[] [] []"},
		{[]ipvs.Daemon{d(s, 1), d(r, 1)}, []ipvs.Daemon{d(s, 2), d(r, 1)}, []ipvs.Role{s, r}, "[master] [master2] []"},
		{[]ipvs.Daemon{d(r, 1)}, []ipvs.Daemon{d(s, 2), d(r, 2)}, nil, "[] [master2] [backup1]"},
		{[]ipvs.Daemon{d(s, 1), d(r, 1)}, nil, []ipvs.Role{r}, "[backup] [] []"},
		{nil, nil, []ipvs.Role{s, r}, "[] [] []"},
	} {
		stop, start, way := planDaemons(c.have, c.want, c.ours)
		words := func(all []ipvs.Daemon) []string {
			var out []string
			for _, d := range all {
				out = append(out, fmt.Sprintf("%s%d", d.Role, d.ID))
			}
			return out
		}
		if got := fmt.Sprint(stop, words(start), words(way)); got != c.plan {
			t.Errorf("have %v, want %v, ours %v: %s, want %s", c.have, c.want, c.ours, got, c.plan)
		}
	}
}

// Both ways out of a cluster put the settings back; daemons go.
func TestSettingsGoWithTheMember(t *testing.T) {
	for name, out := range map[string]func(state string, k Kernel, h *clearHost) error{
		"Clear": func(state string, k Kernel, h *clearHost) error { return Clear(state, k, h, nil, nil) },
		"Release": func(state string, k Kernel, h *clearHost) error {
			_, err := Release(state, k, h, nil)
			return err
		},
	} {
		h, state := newClearHost(), filepath.Join(t.TempDir(), "dataplane.json")
		h.sysctls["net.ipv4.vs.sloppy_tcp"], h.sysctls["net.ipv4.vs.conn_reuse_mode"] = "1", "0"
		k := &ipvstest.Kernel{}
		k.SetTimeouts(ipvs.Timeout("udp", time.Minute))
		k.StartDaemon(ipvs.Daemon{Role: ipvs.Sends, Interface: "eth0"})
		k.StartDaemon(ipvs.Daemon{Role: ipvs.Receives, Interface: "eth0"})
		record := `{"sync":[2],"tuned":{"net.ipv4.vs.sloppy_tcp":{"was":"0","is":"1"},"net.ipv4.vs.conn_reuse_mode":{"was":"1","is":"3"},
			"net.ipv4.vs.gone":{"was":"1","is":"3"},"ipvs timeout udp":{"was":"300","is":"60"}}}`
		if err := os.WriteFile(state, []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := out(state, k, h); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if h.sysctls["net.ipv4.vs.sloppy_tcp"] != "0" || h.sysctls["net.ipv4.vs.conn_reuse_mode"] != "0" {
			t.Errorf("%s: sysctls %v", name, h.sysctls)
		}
		all, _ := k.Daemons()
		if got, _ := k.Timeouts(); got != ipvs.DefaultTimeouts || len(all) != 1 || all[0].Role != ipvs.Sends {
			t.Errorf("%s: timeouts %v, daemons %v", name, got, all)
		}
	}
}
