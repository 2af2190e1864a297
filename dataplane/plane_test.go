package dataplane

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

func TestATableIsAppliedOnceAndWhole(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var applied []fsm.Revision
		w.cfg.OnApplied = func(r fsm.Revision) { applied = append(applied, r) }
		w.run()
		if ok, why := w.plane.Fit(); ok || why != notApplied {
			t.Errorf("fit %v, %q before any table", ok, why)
		}
		w.plane.Update(pairTable(5))
		settle()
		w.wantIPVS(pairRules)
		w.wantDiaryAnyOrder("gate [172.25.88.100]", "vrrp routers [VI_1@eth0]")
		select {
		case <-w.plane.Ready():
		default:
			t.Error("not ready")
		}
		if rev, ok := w.plane.Applied(); rev != 5 || !ok {
			t.Errorf("applied %d, %v", rev, ok)
		}
		if ok, why := w.plane.Fit(); !ok {
			t.Errorf("not fit: %s", why)
		}
		if n := len(w.ipvs.Done()); n != 3 {
			t.Errorf("%d operations for one service with two servers", n)
		}
		time.Sleep(time.Minute)
		if ops := w.ipvs.Done(); len(ops) != 0 {
			t.Errorf("later passes did %v", ops)
		}
		if len(applied) != 1 || applied[0] != 5 {
			t.Errorf("OnApplied: %v", applied)
		}
	})
}

func TestTheLatestTableCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		for rev := fsm.Revision(1); rev <= 100; rev++ {
			w.plane.Update(pairTable(rev))
		}
		settle()
		if rev, _ := w.plane.Applied(); rev != 100 {
			t.Errorf("applied %d", rev)
		}
		t2 := pairTable(101)
		t2.Services[0].RealServers = t2.Services[0].RealServers[1:]
		w.plane.Update(t2)
		synctest.Wait()
		w.wantIPVS("-A -t 172.25.88.100:80 -s rr\n-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1\n")
	})
}

func TestDriftIsRepairedAndCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		if s := w.plane.Status(); s.DriftRepaired != 0 || s.LastRepair != "" || !s.RepairedAt.IsZero() {
			t.Errorf("the first apply counted as drift: %+v", s)
		}
		// ipvsadm -e weight, -d a server, -a another.
		must(t, w.ipvs.Set("-A -t 172.25.88.100:80 -s rr\n-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 9\n-a -t 172.25.88.100:80 -r 172.25.88.7:80 -g -w 1"))
		time.Sleep(10 * time.Second)
		w.wantIPVS(pairRules)
		s := w.plane.Status()
		if s.DriftRepaired != 3 {
			t.Errorf("counted %d, want 3", s.DriftRepaired)
		}
		if age := time.Since(s.RepairedAt); age > 10*time.Second || !strings.HasPrefix(s.LastRepair, "ipvsadm -") {
			t.Errorf("the last repair is %q, %v ago; want one of the three within the last 10 s", s.LastRepair, age)
		}
		if !strings.Contains(w.logs.String(), "-e -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1") {
			t.Error("the repair is not in the log")
		}
	})
}

// The table changes all the time (a vote, a new owner); what somebody changed
// just before is drift all the same, and what the new table wants is not.
func TestDriftIsCountedWithANewTable(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		must(t, w.ipvs.Set("-A -t 172.25.88.100:80 -s rr\n-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 9\n-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1"))
		next := pairTable(6)
		next.Services[0].RealServers[1].Weight = 4
		w.plane.Update(next)
		settle()
		w.wantIPVS(strings.Replace(pairRules, "172.25.88.3:80 -g -w 1", "172.25.88.3:80 -g -w 4", 1))
		if s := w.plane.Status(); s.DriftRepaired != 1 || s.LastRepair != "ipvsadm -e -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1" {
			t.Errorf("counted %d, the last %q; want the one weight that somebody changed", s.DriftRepaired, s.LastRepair)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOthersServicesAreReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const theirs = "-A -t 10.0.0.1:21 -s wlc\n-a -t 10.0.0.1:21 -r 10.0.0.2:21 -m -w 1\n"
		must(t, w.ipvs.Set(theirs))
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.plane.Update(&fsm.Table{Cluster: "c1", Revision: 6})
		settle()
		w.wantIPVS(theirs)
		s := w.plane.Status()
		if len(s.ForeignServices) != 1 || s.ForeignServices[0] != (ForeignService{"tcp/10.0.0.1:21", "ipvsadm -D -t 10.0.0.1:21", theirs}) {
			t.Errorf("foreign: %v", s.ForeignServices)
		}
	})
}

// What keepalived left and the table has alike is taken over without one write,
// and is ours from then on: it goes when it leaves the table.
func TestIdenticalServicesAreTakenOverUntouched(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		must(t, w.ipvs.Set(pairRules))
		w.run()
		w.plane.Update(&fsm.Table{Cluster: "c1", Revision: 4})
		settle()
		s := w.plane.Status()
		if len(s.ForeignServices) != 1 || s.ForeignServices[0].Rules != pairRules {
			t.Fatalf("before: %+v, want %q", s.ForeignServices, pairRules)
		}
		w.ipvs.Done()
		w.plane.Update(pairTable(5))
		settle()
		if ops := w.ipvs.Done(); len(ops) != 0 {
			t.Errorf("taking over did %v", ops)
		}
		if s := w.plane.Status(); len(s.ForeignServices) != 0 || len(s.Services) != 1 || s.DriftRepaired != 0 {
			t.Errorf("after: %+v", s)
		}
		w.plane.Update(&fsm.Table{Cluster: "c1", Revision: 6})
		settle()
		w.wantIPVS("")
	})
}

func TestRestartRemovesOnlyWhatLeftTheTable(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.halt()
		w.wantIPVS(pairRules) // stopping flushes nothing
		w.ipvs.Done()

		w.run()
		settle()
		w.wantIPVS(pairRules) // nor does starting without a table
		w.plane.Update(pairTable(5))
		settle()
		if ops := w.ipvs.Done(); len(ops) != 0 {
			t.Errorf("restarting did %v", ops)
		}
		w.halt()

		w.run()
		w.plane.Update(&fsm.Table{Cluster: "c1", Revision: 9})
		settle()
		w.wantIPVS("") // it left the table while nobody ran
	})
}

// A member that restarts reads its log from an old snapshot on; services that
// came later must not go and come again.
func TestAnOldTableIsNotApplied(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.halt()
		w.run()
		w.plane.Update(&fsm.Table{Cluster: "c1", Revision: 4})
		time.Sleep(time.Minute)
		w.wantIPVS(pairRules)
		if s := w.plane.Status(); !strings.Contains(s.Waiting, "catch up") || s.Ready {
			t.Errorf("status %+v", s)
		}
		if ok, _ := w.plane.Fit(); ok {
			t.Error("fit with an old table")
		}
		w.plane.Update(pairTable(6))
		settle()
		if rev, ok := w.plane.Applied(); rev != 6 || !ok || w.plane.Status().Waiting != "" {
			t.Errorf("applied %d, %v, waiting %q", rev, ok, w.plane.Status().Waiting)
		}
		// Another cluster counts anew.
		other := &fsm.Table{Cluster: "c2", Revision: 1}
		w.plane.Update(other)
		settle()
		w.wantIPVS("")
	})
}

func TestErrorsAreRetriedAndNeverFatal(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var broken atomic.Bool
		broken.Store(true)
		w.ipvs.FailList = func() error {
			if broken.Load() {
				return ipvs.ErrPermission
			}
			return nil
		}
		w.run()
		w.plane.Update(pairTable(5))
		time.Sleep(150 * time.Second)
		s := w.plane.Status()
		if s.Ready || !strings.Contains(s.Failing, "CAP_NET_ADMIN") || s.Retries < 30 || s.Retries > 50 {
			t.Errorf("status %+v", s)
		}
		if n := strings.Count(w.logs.String(), "CAP_NET_ADMIN"); n != 3 {
			t.Errorf("the same error was logged %d times in 2.5 minutes", n)
		}
		broken.Store(false)
		time.Sleep(driftEvery)
		settle()
		w.wantIPVS(pairRules)
		if s := w.plane.Status(); s.Failing != "" || !s.Ready || s.LastError == "" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAMissingSchedulerHoldsUpOnlyItsService(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		tab := pairTable(5)
		odd := tab.Services[0]
		odd.Port, odd.Scheduler = 81, "fairest"
		tab.Services = append(tab.Services, odd)
		w.run()
		w.plane.Update(tab)
		settle()
		w.wantIPVS(pairRules)
		s := w.plane.Status()
		if !s.Ready || s.Whole || !strings.Contains(s.Failing, "scheduler") {
			t.Errorf("status %+v", s)
		}
	})
}

// Half a table is no table: only a scheduler that the kernel lacks is forgiven.
func TestAHalfAppliedTableIsNotReady(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var broken atomic.Bool
		broken.Store(true)
		w.ipvs.Fail = func(op ipvs.Op) error {
			if broken.Load() && op.Verb == ipvs.AddDest {
				return errors.New("no buffer space available")
			}
			return nil
		}
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		if s := w.plane.Status(); s.Ready || s.Whole || !strings.Contains(s.Failing, "no buffer space") {
			t.Errorf("status %+v", s)
		}
		broken.Store(false)
		time.Sleep(driftEvery)
		if s := w.plane.Status(); !s.Ready || s.Applied != 5 || s.DriftRepaired != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAFailingGateKeepsUnready(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.gate.err = errors.New("no BPF")
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.wantIPVS(pairRules) // the table is not held up
		if s := w.plane.Status(); s.Ready || !strings.Contains(s.Failing, "no BPF") {
			t.Errorf("status %+v", s)
		}
		w.gate.mu.Lock()
		w.gate.err = nil
		w.gate.mu.Unlock()
		time.Sleep(driftEvery)
		if !w.plane.Status().Ready {
			t.Error("not ready with a gate")
		}
	})
}

// The gate guards an address that left the table until it left the interface.
func TestTheGateGuardsWhatIsStillThere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.host.put("eth1", vipAddr+"/24") // somebody's
		w.diary.take()
		w.plane.Update(&fsm.Table{Cluster: "c1", Revision: 6})
		settle()
		w.wantDiary("vrrp routers []")
		w.host.take("eth1", vipAddr+"/24")
		time.Sleep(driftEvery)
		settle()
		w.wantDiary("gate []")
	})
}

// An address that comes back just while its key leaves the gate is added when
// the gate holds it again, and not before: an address without a key is open.
func TestNoAddressWithoutItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.plane.Acquired(term(1, vipAddr).Permit())
		settle()
		dropped := false
		w.gate.mu.Lock()
		w.gate.hook = func(addrs []netip.Addr) {
			if len(addrs) > 0 || dropped {
				return
			}
			dropped = true
			w.plane.Update(pairTable(7))
			time.Sleep(time.Second)
			if w.host.has("eth0", vipAddr+"/32") {
				t.Error("the address was added while the gate dropped its key")
			}
		}
		w.gate.mu.Unlock()
		without := pairTable(6)
		without.Routers = nil
		w.plane.Update(without)
		time.Sleep(driftEvery + 2*time.Second)
		settle()
		if !dropped || !w.host.has("eth0", vipAddr+"/32") {
			t.Errorf("key dropped: %v; the address is not there although the gate holds it", dropped)
		}
	})
}

func TestABadRecordIsNoObstacle(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		must(t, os.WriteFile(w.state, []byte("{ not json"), 0o600))
		must(t, w.ipvs.Set("-A -t 10.0.0.1:80 -s rr"))
		w.run()
		if s := w.plane.Status(); !strings.Contains(s.LastError, w.state) {
			t.Errorf("last error %q", s.LastError)
		}
		w.plane.Update(pairTable(5))
		settle()
		w.wantIPVS("-A -t 10.0.0.1:80 -s rr\n" + pairRules)
	})
}

func TestARecordThatCannotBeWrittenIsNoObstacle(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		must(t, os.Mkdir(w.state+".new", 0o755)) // the write fails, also for root
		w.run()
		w.plane.Update(pairTable(5))
		settle()
		w.wantIPVS(pairRules)
		if s := w.plane.Status(); !s.Ready || !strings.Contains(s.Failing, "record") {
			t.Errorf("status %+v", s)
		}
		tm := term(1, vipAddr)
		w.plane.Acquired(tm.Permit())
		settle()
		if !w.host.has("eth0", vipAddr+"/32") {
			t.Error("a failover waits for the record")
		}
		must(t, os.Remove(w.state+".new"))
		time.Sleep(2 * driftEvery)
		if s := w.plane.Status(); s.Failing != "" {
			t.Errorf("status %+v", s)
		}
		w.plane.Lost(1, "")
		settle()
	})
}

func TestNothingBlocksWithoutRun(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := New(w.cfg)
		tm := term(1, vipAddr)
		for range 1000 {
			p.Update(pairTable(1))
			p.Acquired(tm.Permit())
			p.Lost(1, "")
		}
		p.Status()
	})
}

func TestWantIsAFunctionOfTheTable(t *testing.T) {
	tab := pairTable(1)
	tab.Services[0].Persistence = fsm.Duration(5 * time.Minute)
	tab.Services[0].PersistenceMask = 24
	tab.Services[0].RealServers[0].UpperThreshold, tab.Services[0].RealServers[0].LowerThreshold = 100, 50
	udp := tab.Services[0]
	udp.Protocol, udp.Port, udp.Persistence, udp.RealServers = fsm.UDP, 53, 0, nil
	tab.Services = append(tab.Services, udp)
	const want = `-A -u 172.25.88.100:53 -s rr
-A -t 172.25.88.100:80 -s rr -p 300 -M 255.255.255.0
-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1 -x 100 -y 50
-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1
`
	if got := ipvs.Rules(Want(tab)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if k, err := parseKey(Want(tab)[0].Key.String()); err != nil || k != Want(tab)[0].Key {
		t.Errorf("key does not survive the record: %v, %v", k, err)
	}
	if (fsm.ServiceKey{Addr: netip.MustParseAddr(vipAddr), Port: 80, Protocol: fsm.TCP}).String() != Want(tab)[1].Key.String() {
		t.Error("fsm and ipvs print a key differently")
	}
}

// Every kind of service comes out as ipvsadm would make it, and its key survives
// the record.
func TestWantKnowsEveryKindOfService(t *testing.T) {
	rs := func(a string, port uint16, m fsm.Method) fsm.RealServer {
		return fsm.RealServer{Addr: netip.MustParseAddr(a), Port: port, Weight: 1, Method: m}
	}
	v6 := netip.MustParseAddr("2001:db8::100")
	tab := &fsm.Table{Cluster: "c1", Revision: 1, Services: []fsm.VirtualServer{
		{ServiceKey: fsm.ServiceKey{Mark: 7}, Scheduler: "rr", Method: fsm.DirectRouting, OnePacket: true,
			RealServers: []fsm.RealServer{rs("10.0.0.2", 0, ""), rs("10.0.0.3", 8080, fsm.Masquerade)}},
		{ServiceKey: fsm.ServiceKey{Mark: 7, V6: true}, Scheduler: "mh", Method: fsm.Tunnel, HashPort: true,
			Persistence: fsm.Duration(time.Minute), RealServers: []fsm.RealServer{rs("10.0.0.2", 0, "")}},
		{ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr(vipAddr), Port: 2905, Protocol: fsm.SCTP}, Scheduler: "wlc", Method: fsm.Masquerade,
			RealServers: []fsm.RealServer{rs("10.0.0.2", 2906, "")}},
		{ServiceKey: fsm.ServiceKey{Addr: v6, Port: 5060, Protocol: fsm.UDP}, Scheduler: "sh", Method: fsm.DirectRouting, HashFallback: true,
			Persistence: fsm.Duration(time.Minute), PersistenceMask: 64, PersistenceEngine: fsm.EngineSIP,
			RealServers: []fsm.RealServer{rs("2001:db8::2", 5060, "")}},
	}}
	const want = `-A --sctp-service 172.25.88.100:2905 -s wlc
-a --sctp-service 172.25.88.100:2905 -r 10.0.0.2:2906 -m -w 1
-A -u [2001:db8::100]:5060 -s sh -p 60 -M 64 --pe sip -b sh-fallback
-a -u [2001:db8::100]:5060 -r [2001:db8::2]:5060 -g -w 1
-A -f 7 -s rr -o
-a -f 7 -r 10.0.0.2:0 -g -w 1
-a -f 7 -r 10.0.0.3:8080 -m -w 1
-A -f 7 -6 -s mh -p 60 -b mh-port
-a -f 7 -6 -r 10.0.0.2:0 -i -w 1
`
	services := Want(tab)
	if got := ipvs.Rules(services); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, s := range services {
		if k, err := parseKey(s.Key.String()); err != nil || k != s.Key {
			t.Errorf("key %s does not survive the record: %v, %v", s.Key, k, err)
		}
		if !slices.ContainsFunc(tab.Services, func(v fsm.VirtualServer) bool { return v.ServiceKey.String() == s.Key.String() }) {
			t.Errorf("fsm prints the key %s differently", s.Key)
		}
	}
}

// A keepalived that is stopped removes its services, which may be ours by now:
// they are back long before a client sends its SYN again.
func TestServicesThatGoAreBackAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.plane.Update(pairTable(5))
		time.Sleep(driftEvery + time.Second)
		services, err := w.ipvs.List()
		if err != nil || len(services) == 0 {
			t.Fatal(services, err)
		}
		if err := w.ipvs.Do(ipvs.Op{Verb: ipvs.RemoveService, Service: services[0]}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * glanceEvery)
		settle()
		w.wantIPVS(pairRules)
		if s := w.plane.Status(); s.DriftRepaired == 0 {
			t.Errorf("nothing was counted as repaired: %+v", s)
		}
	})
}
