package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lbcluster/dataplane/fwmark"
	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// fakeMarks is a kernel that marks packets.
type fakeMarks struct {
	diary *diary

	mu    sync.Mutex
	rules []fwmark.Rule
	err   error
	asked int
}

func (m *fakeMarks) Set(rules []fwmark.Rule) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.err != nil {
		return false, m.err
	}
	if slices.Equal(m.rules, rules) {
		return false, nil
	}
	m.rules = slices.Clone(rules)
	var marks []string
	for _, r := range rules {
		marks = append(marks, fmt.Sprintf("%s=%d", r.To.Addr(), r.Mark))
	}
	m.diary.note("marks [%s]", strings.Join(marks, " "))
	return true, nil
}

func (m *fakeMarks) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// withMarks gives w a kernel that marks, and notes IPVS's services in the diary.
func withMarks(w *world) *fakeMarks {
	m := &fakeMarks{diary: w.diary}
	w.cfg.Marks = m
	w.ipvs.Fail = func(op ipvs.Op) error {
		if op.Verb == ipvs.AddService || op.Verb == ipvs.RemoveService {
			w.diary.note("ipvsadm %s", op)
		}
		return nil
	}
	return m
}

// markTable has a service for each mark, for the address 10.8.0.MARK.
func markTable(rev fsm.Revision, marks ...uint32) *fsm.Table {
	t := &fsm.Table{Cluster: "c1", Revision: rev}
	for _, mark := range marks {
		t.Services = append(t.Services, fsm.VirtualServer{
			ServiceKey: fsm.ServiceKey{Mark: mark}, Scheduler: "rr", Method: fsm.DirectRouting,
			Matches: []fsm.Match{{Addr: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 8, 0, byte(mark)}), 32), Protocol: fsm.TCP, FromPort: 80, ToPort: 90}},
		})
	}
	return t
}

// onlyMarks are the diary's lines about marks and services.
func (w *world) onlyMarks(want ...string) {
	w.t.Helper()
	got := slices.DeleteFunc(w.diary.take(), func(l string) bool {
		return !strings.HasPrefix(l, "marks") && !strings.HasPrefix(l, "ipvsadm")
	})
	if !slices.Equal(got, want) {
		w.t.Errorf("happened:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// A service comes before its mark, and goes after it; what others change is put
// right and counted.
func TestMarksFollowTheTable(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := withMarks(w)
		w.run()
		w.plane.Update(pairTable(1))
		settle()
		if m.asked != 0 {
			t.Error("the kernel was asked for marks that nobody wants")
		}
		w.onlyMarks("ipvsadm -A -t 172.25.88.100:80 -s rr")
		w.plane.Update(markTable(2, 7, 8))
		settle()
		w.onlyMarks("ipvsadm -A -f 7 -s rr", "ipvsadm -A -f 8 -s rr", "ipvsadm -D -t 172.25.88.100:80", "marks [10.8.0.7=7 10.8.0.8=8]")
		w.plane.Update(markTable(3, 8, 9))
		settle()
		w.onlyMarks("marks [10.8.0.8=8]", "ipvsadm -A -f 9 -s rr", "ipvsadm -D -f 7", "marks [10.8.0.8=8 10.8.0.9=9]")
		if got := w.plane.Status().Marks; len(got) != 2 || got[1] != "ip daddr 10.8.0.9 meta l4proto tcp th dport 80-90 meta mark set 0x00000009" {
			t.Errorf("status says %q", got)
		}
		time.Sleep(driftEvery)
		settle()
		w.onlyMarks()
		m.set(func() { m.rules = nil })
		time.Sleep(driftEvery)
		settle()
		w.onlyMarks("marks [10.8.0.8=8 10.8.0.9=9]")
		if s := w.plane.Status(); s.DriftRepaired != 1 || s.LastRepair != "nftables: table inet lbcluster" {
			t.Errorf("drift: %d, %q", s.DriftRepaired, s.LastRepair)
		}
		w.plane.Update(pairTable(4))
		settle()
		w.onlyMarks("marks []", "ipvsadm -A -t 172.25.88.100:80 -s rr", "ipvsadm -D -f 8", "ipvsadm -D -f 9")
		asked := m.asked
		time.Sleep(3 * driftEvery)
		if m.asked != asked {
			t.Error("the kernel is asked on for marks that nobody wants")
		}
	})
}

// A kernel that cannot mark holds up nothing else, and is shown and tried again.
func TestMarksThatFail(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := withMarks(w)
		m.err = errors.New("no nftables")
		w.run()
		w.plane.Update(markTable(2, 7))
		settle()
		if s := w.plane.Status(); !s.Ready || s.Whole || !strings.Contains(s.Failing, "mark packets: no nftables") {
			t.Errorf("ready %v, whole %v, failing %q", s.Ready, s.Whole, s.Failing)
		}
		w.wantIPVS("-A -f 7 -s rr\n")
		m.set(func() { m.err = nil })
		time.Sleep(driftEvery)
		settle()
		if s := w.plane.Status(); !s.Whole || s.Failing != "" || s.DriftRepaired != 0 {
			t.Errorf("whole %v, failing %q, drift %d", s.Whole, s.Failing, s.DriftRepaired)
		}
	})
}

// What cannot be served is not marked.
func TestNoMarkWithoutItsService(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		withMarks(w)
		w.ipvs.Fail = func(op ipvs.Op) error {
			if op.Service.Mark == 7 {
				return ipvs.ErrScheduler
			}
			return nil
		}
		w.run()
		w.plane.Update(markTable(2, 7, 8))
		settle()
		w.onlyMarks("marks [10.8.0.8=8]")
	})
}

// The next process knows what the one before it marked, takes nothing away that
// stays, and the rest; a machine that leaves removes all.
func TestMarksOverARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := withMarks(w)
		w.run()
		w.plane.Update(markTable(2, 7, 8))
		settle()
		w.halt()
		w.diary.take()
		if len(m.rules) != 2 {
			t.Fatal("stopping took rules away")
		}
		w.run()
		w.plane.Update(markTable(3, 8))
		settle()
		w.onlyMarks("ipvsadm -D -f 7", "marks [10.8.0.8=8]")
		w.halt()
		w.run()
		w.plane.Update(pairTable(4))
		settle()
		w.onlyMarks("ipvsadm -A -t 172.25.88.100:80 -s rr", "ipvsadm -D -f 8", "marks []")
		w.plane.Update(markTable(5, 9))
		settle()
		w.halt()
		w.diary.take()
		for range 2 {
			if err := Clear(w.state, w.ipvs, newClearHost(), m, nil); err != nil {
				t.Fatal(err)
			}
		}
		w.onlyMarks("marks []", "ipvsadm -D -f 9")
	})
}

// On real kernels: the rules and the services stand, and a second look finds
// nothing to do.
func TestMarksOnAKernel(t *testing.T) {
	eachKernel(t, func(t *testing.T, d *director) {
		marks := fwmark.New(fmt.Sprintf("/proc/self/fd/%d", int(d.ns)), LocalMark)
		tab := markTable(2, 7, 8)
		must(t, carryOut(d.kernel, nil, Diff(nil, Want(tab), nil), never).err())
		for i, want := range []bool{true, false} {
			if changed, err := marks.Set(Marks(tab)); err != nil || changed != want {
				t.Errorf("look %d: changed %v, %v", i, changed, err)
			}
		}
		if got := d.rules(); !slices.Equal(got, []string{"-A -f 7 -s rr", "-A -f 8 -s rr"}) {
			t.Errorf("IPVS is %q", got)
		}
		if changed, err := marks.Set(nil); err != nil || !changed {
			t.Errorf("removal: changed %v, %v", changed, err)
		}
	})
}
