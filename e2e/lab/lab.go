package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// T is what a lab needs of a test; *testing.T has it, and Main gives one to
// programs that are no tests.
type T interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Inside says whether this process runs in the lab.
func Inside() bool { return os.Getenv("LBCLUSTER_LAB") != "" }

// Need skips a test that runs outside the lab.
func Need(t interface {
	Helper()
	Skip(args ...any)
}) {
	t.Helper()
	if !Inside() {
		t.Skip("needs the lab: make test runs it there, or: go run ./e2e/cmd/lab test -run NAME ./PACKAGE")
	}
}

// Lab is one network: a switch and the hosts on it.
type Lab struct {
	t       T
	results string // where logs and captures go
	sw      *space // the switch's namespace

	mu       sync.Mutex
	hosts    []*Host
	captures []*capture
	blocks   []*Block
	disks    []*Disk
	procs    map[string]int // how often a log name was used
}

// bridgeName is the switch's bridge, in the switch's namespace.
const bridgeName = "br0"

// New makes a lab with nothing but a switch. It fails the test when called
// outside the lab.
func New(t T) *Lab {
	t.Helper()
	if !Inside() {
		t.Fatalf("lab.New outside the lab (see lab.Need)")
	}
	l := &Lab{t: t, procs: map[string]int{}}
	before := namespaces()
	l.results = filepath.Join(resultsDir(), strings.ReplaceAll(t.Name(), "/", "_"))
	if err := os.MkdirAll(l.results, 0o755); err != nil {
		t.Fatalf("lab: results: %v", err)
	}
	var err error
	if l.sw, err = newSpace("switch"); err != nil {
		t.Fatalf("lab: switch: %v", err)
	}
	t.Cleanup(func() { l.close(before) })
	if err := l.sw.do(makeBridge); err != nil {
		t.Fatalf("lab: switch: %v", err)
	}
	return l
}

func resultsDir() string {
	if d := os.Getenv("LBCLUSTER_LAB_RESULTS"); d != "" {
		return d
	}
	return filepath.Join(os.TempDir(), "lbcluster-results")
}

// Results is the folder whose files the host of the lab gets to see; files put
// there are kept.
func (l *Lab) Results() string { return l.results }

// Host returns the host of that name, or nil.
func (l *Lab) Host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Hosts returns all hosts in the order they were added.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Host(nil), l.hosts...)
}

// close ends all processes, removes all namespaces, and reports what is left.
func (l *Lab) close(before map[uint64]bool) {
	l.t.Helper()
	hosts := l.Hosts()
	for _, c := range l.captures {
		c.finish(l.t.Failed())
	}
	for _, h := range hosts {
		h.killAll()
	}
	l.sw.killAll()
	for _, h := range hosts {
		if err := h.space.close(); err != nil {
			l.t.Errorf("lab: removing %s: %v", h.Name, err)
		}
	}
	for _, d := range l.disks {
		if err := d.close(); err != nil {
			l.t.Errorf("lab: removing the disk of %s: %v", d.host.Name, err)
		}
	}
	if err := l.sw.close(); err != nil {
		l.t.Errorf("lab: removing the switch: %v", err)
	}
	if left := leaks(before); len(left) > 0 {
		l.t.Errorf("lab: left behind: %s", strings.Join(left, "; "))
	}
}

func logName(host, name string, n int) string {
	if n == 0 {
		return fmt.Sprintf("%s-%s.log", host, name)
	}
	return fmt.Sprintf("%s-%s.%d.log", host, name, n+1)
}
