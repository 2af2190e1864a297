package track

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
	"lbcluster/script"
)

// machine is what the fake things are like now.
type machine struct {
	mu        sync.Mutex
	scripts   map[string]error // by command
	hangs     map[string]bool
	runs      map[string]int
	file      string
	fileErr   error
	processes []Process
	link      condition
	linkErr   error
	states    map[uint64]State
	changes   int
}

func (m *machine) set(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do()
}

func (m *machine) config() Config {
	return Config{
		OnChange: func(s map[uint64]State) { m.set(func() { m.states, m.changes = s, m.changes+1 }) },
		Run: func(ctx context.Context, j script.Job) (int, error) {
			m.mu.Lock()
			m.runs[j.Command]++
			err, hangs := m.scripts[j.Command], m.hangs[j.Command]
			m.mu.Unlock()
			if hangs {
				select {
				case <-ctx.Done():
				case <-time.After(j.Timeout):
				}
				err = script.ErrTimeout
			}
			return 0, err
		},
		ReadFile: func(string) ([]byte, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return []byte(m.file), m.fileErr
		},
		Processes: func() ([]Process, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.processes, nil
		},
		Link: func(name string) (condition, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if name != "ens1" {
				return condition{known: true, why: "unmapped: " + name}, nil
			}
			return m.link, m.linkErr
		},
		Interfaces: map[string]string{"eth0": "ens1"},
	}
}

func newMachine() *machine {
	return &machine{scripts: map[string]error{}, hangs: map[string]bool{}, runs: map[string]int{}, link: condition{known: true, ok: true}, fileErr: fs.ErrNotExist}
}

// tableWith has routers with these trackers, one a router; the last two are in
// a group, id 9, that has one of its own.
func tableWith(group *fsm.Tracker, tracks ...[]fsm.Tracker) *fsm.Table {
	t := &fsm.Table{}
	for i, list := range tracks {
		t.Routers = append(t.Routers, fsm.Router{ID: uint64(i + 1), Name: fmt.Sprintf("R%d", i+1), Track: list,
			Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/32", i+1))}}})
	}
	if group != nil {
		n := len(t.Routers)
		t.Groups = []fsm.SyncGroup{{ID: 9, Name: "G", Routers: []string{t.Routers[n-2].Name, t.Routers[n-1].Name}, Track: []fsm.Tracker{*group}}}
	}
	return t
}

func scriptTracker(name, command string, weight int) fsm.Tracker {
	return fsm.Tracker{Kind: fsm.TrackScript, Name: name, Command: command, Weight: weight,
		Interval: fsm.Duration(time.Second), Timeout: fsm.Duration(3 * time.Second), Rise: 1, Fall: 2}
}

func play(t *testing.T, m *machine, story func(r *Runner)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := New(m.config())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		story(r)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (m *machine) want(t *testing.T, when string, want map[uint64]State) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !maps.Equal(m.states, want) {
		t.Errorf("%s: %+v\nwant %+v", when, m.states, want)
	}
}

func TestUnitsAndTheirTrackers(t *testing.T) {
	m := newMachine()
	link := fsm.Tracker{Kind: fsm.TrackInterface, Name: "eth0"}
	play(t, m, func(r *Runner) {
		r.Update(tableWith(&link, []fsm.Tracker{scriptTracker("a", "x", 0)}, []fsm.Tracker{scriptTracker("b", "x", 7)},
			[]fsm.Tracker{scriptTracker("c", "y", 5)}, nil))
		time.Sleep(500 * time.Millisecond)
		m.want(t, "all is well", map[uint64]State{1: {}, 2: {Score: 7}, 9: {Score: 5}})
		if m.runs["x"] != 1 {
			t.Errorf("what two routers track ran %d times at once", m.runs["x"])
		}
		m.set(func() { m.scripts["x"] = errors.New("exit status 1") })
		time.Sleep(time.Second)
		m.want(t, "one failure of two", map[uint64]State{1: {}, 2: {Score: 7}, 9: {Score: 5}})
		time.Sleep(time.Second)
		m.want(t, "two failures", map[uint64]State{1: {Fault: true, Why: "script a: exit status 1"}, 2: {Why: "script b: exit status 1"}, 9: {Score: 5}})
		m.set(func() { m.scripts["x"] = nil; m.link = condition{known: true, why: "it is down"} })
		time.Sleep(time.Second)
		m.want(t, "the script succeeds, the link is down", map[uint64]State{1: {}, 2: {Score: 7}, 9: {Fault: true, Score: 5, Why: "interface eth0: it is down"}})
		m.set(func() { m.link, m.linkErr = condition{known: true, ok: true}, errors.New("no buffer space") })
		time.Sleep(time.Second)
		m.want(t, "a look that fails tells nothing new", map[uint64]State{1: {}, 2: {Score: 7}, 9: {Fault: true, Score: 5, Why: "interface eth0: it is down"}})
	})
}

// Nobody takes a VIP before he knows whether he can serve it, and a script that
// hangs delays no other.
func TestHangingScript(t *testing.T) {
	m := newMachine()
	m.hangs["hang"] = true
	play(t, m, func(r *Runner) {
		r.Update(tableWith(nil, []fsm.Tracker{scriptTracker("h", "hang", 0)}, []fsm.Tracker{scriptTracker("q", "quick", 0)}))
		time.Sleep(2500 * time.Millisecond)
		m.want(t, "the first run is not over", map[uint64]State{1: {Fault: true, Why: "script h has not been looked at yet"}, 2: {}})
		if m.runs["quick"] != 3 || m.runs["hang"] != 1 {
			t.Errorf("runs %v", m.runs)
		}
		time.Sleep(time.Second)
		m.want(t, "it was killed", map[uint64]State{1: {Fault: true, Why: "script h: " + script.ErrTimeout.Error()}, 2: {}})
	})
}

func TestFilesAndProcesses(t *testing.T) {
	m := newMachine()
	play(t, m, func(r *Runner) {
		r.Update(tableWith(nil, []fsm.Tracker{{Kind: fsm.TrackFile, Name: "f", Path: "/f", Weight: -1}},
			[]fsm.Tracker{{Kind: fsm.TrackProcess, Name: "p", Process: "nginx", Quorum: 1, TerminDelay: fsm.Duration(2 * time.Second)}}))
		time.Sleep(300 * time.Millisecond)
		m.want(t, "no file, no process", map[uint64]State{1: {}, 2: {Fault: true, Why: "process p: 0 of 1 run"}})
		m.set(func() { m.file, m.fileErr, m.processes = " 40\n", nil, []Process{{Name: "nginx"}} })
		time.Sleep(600 * time.Millisecond)
		m.want(t, "both there", map[uint64]State{1: {Score: -40, Why: "file f says 40"}, 2: {}})
		m.set(func() { m.file, m.processes = "forty", nil })
		time.Sleep(1500 * time.Millisecond)
		m.want(t, "no number, and gone for less than the delay", map[uint64]State{1: {Score: -40, Why: "file f says 40"}, 2: {}})
		time.Sleep(1500 * time.Millisecond)
		m.want(t, "gone for long", map[uint64]State{1: {Score: -40, Why: "file f says 40"}, 2: {Fault: true, Why: "process p: 0 of 1 run"}})
	})
}

func TestUpdateStopsWhatNobodyWants(t *testing.T) {
	m := newMachine()
	play(t, m, func(r *Runner) {
		r.Update(tableWith(nil, []fsm.Tracker{scriptTracker("a", "x", 0), scriptTracker("b", "y", 0)}))
		time.Sleep(100 * time.Millisecond)
		r.Update(tableWith(nil, []fsm.Tracker{scriptTracker("b", "y", 0)}))
		time.Sleep(10 * time.Second)
		if m.runs["x"] != 1 || m.runs["y"] != 11 {
			t.Errorf("runs %v", m.runs)
		}
		r.Update(tableWith(nil, nil))
		time.Sleep(10 * time.Second)
		m.want(t, "nothing is tracked", map[uint64]State{})
		if m.runs["y"] != 11 {
			t.Errorf("runs %v", m.runs)
		}
	})
}

func TestCalmIsSilent(t *testing.T) {
	m := newMachine()
	play(t, m, func(r *Runner) {
		r.Update(tableWith(nil, []fsm.Tracker{scriptTracker("a", "x", 3), {Kind: fsm.TrackInterface, Name: "eth0"}}))
		time.Sleep(time.Second)
		before := m.changes
		time.Sleep(time.Hour)
		if m.changes != before {
			t.Errorf("%d changes in a calm hour", m.changes-before)
		}
	})
}

// The real machine: this test's own process, a real file, the loopback.
func TestRealMachine(t *testing.T) {
	me, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Skip("no /proc")
	}
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	found := quorum(fsm.Tracker{Process: string(me[:len(me)-1]), Quorum: 1}, all)
	if !found.ok {
		t.Errorf("this process is not found: %+v", found)
	}
	file := filepath.Join(t.TempDir(), "f")
	if c, err := readNumber(readFile, file); err != nil || !c.ok || c.value != 0 {
		t.Errorf("no file: %+v %v", c, err)
	}
	for text, want := range map[string]int{"": 0, "7": 7, "-12\n": -12} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := readNumber(readFile, file); err != nil || c.value != want {
			t.Errorf("%q: %+v %v", text, c, err)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := readNumber(readFile, fifo); err == nil {
		t.Errorf("a FIFO was read: %+v", c)
	}
	if c, err := link("no-such-if"); err != nil || c.ok || !c.known {
		t.Errorf("%+v %v", c, err)
	}
}

// A file that has never held a number keeps nobody from standing.
func TestFileWithoutANumber(t *testing.T) {
	m := newMachine()
	m.file, m.fileErr = "forty", nil
	play(t, m, func(r *Runner) {
		r.Update(tableWith(nil, []fsm.Tracker{{Kind: fsm.TrackFile, Name: "f", Path: "/f"}}, nil))
		time.Sleep(300 * time.Millisecond)
		m.want(t, "no number yet", map[uint64]State{1: {}})
		m.set(func() { m.file = "1" })
		time.Sleep(300 * time.Millisecond)
		m.want(t, "a number", map[uint64]State{1: {Fault: true, Why: "file f says 1"}})
		m.set(func() { m.file = "forty" })
		time.Sleep(300 * time.Millisecond)
		m.want(t, "none again", map[uint64]State{1: {Fault: true, Why: "file f says 1"}})
	})
}
