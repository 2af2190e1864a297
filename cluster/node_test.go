package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"lbcluster/fsm"
)

// quick is a timing that makes tests short and survives a busy machine.
var quick = Timing{
	Heartbeat: 150 * time.Millisecond, Spacing: 300 * time.Millisecond,
	Silent: 800 * time.Millisecond, Back: 300 * time.Millisecond, Poll: 100 * time.Millisecond,
	Retry: 100 * time.Millisecond,
}

// machineUnderTest is one member in this process, which can be stopped and
// started like a daemon.
type machineUnderTest struct {
	t    *testing.T
	cfg  Config
	node *Node
	stop func()
	open func(folder, bool) (rawStore, error) // nil: the real one
	// reads is the newest version of commands that its program reads; 0: this one's.
	reads int
}

// freeAddr finds a loopback address with two free ports in a row.
func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 50 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().(*net.TCPAddr).AddrPort()
		next, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", addr.Port()+1))
		ln.Close()
		if err == nil {
			next.Close()
			return addr
		}
	}
	t.Fatal("no two free ports in a row")
	return netip.AddrPort{}
}

// testLog writes to the test's log only when LBTEST_LOG is set: Raft says a lot.
func testLog(t *testing.T, name string) *slog.Logger {
	if os.Getenv("LBTEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}

func newMachineUnderTest(t *testing.T, name string) *machineUnderTest {
	return newOldMachine(t, name, 0)
}

// newOldMachine is a machine with an older program, which reads no newer commands.
func newOldMachine(t *testing.T, name string, reads int) *machineUnderTest {
	t.Helper()
	m := &machineUnderTest{t: t, reads: reads, cfg: Config{
		Dir: t.TempDir(), Name: name, Addr: freeAddr(t), Timing: quick, Log: testLog(t, name),
		Answers: map[string]func(context.Context) ([]byte, error){
			"name":  func(ctx context.Context) ([]byte, error) { return []byte(name + Arguments(ctx).Get("with")), nil },
			"wrong": func(context.Context) ([]byte, error) { return nil, errors.New("out of order") },
		},
	}}
	m.start()
	return m
}

func (m *machineUnderTest) start() {
	m.t.Helper()
	n, err := New(m.cfg)
	if err != nil {
		m.t.Fatalf("%s: %v", m.cfg.Name, err)
	}
	if m.open != nil {
		n.open = m.open
	}
	if m.reads != 0 {
		n.reads = m.reads
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.Run(ctx); err != nil {
			m.t.Errorf("%s: Run: %v", m.cfg.Name, err)
		}
	})
	m.node = n
	m.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	m.t.Cleanup(m.stop)
}

func (m *machineUnderTest) restart() { m.stop(); m.start() }

func within10(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls a condition, which real sockets and disks take time for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("timed out: %s", what)
}

func found(t *testing.T, name string) (*machineUnderTest, string) {
	t.Helper()
	return foundBy(t, newMachineUnderTest(t, name))
}

func foundBy(t *testing.T, m *machineUnderTest) (*machineUnderTest, string) {
	t.Helper()
	token, err := m.node.Init(within10(t), "", 0)
	if err != nil {
		t.Fatalf("Init: %v", err)
	}
	return m, token
}

func (m *machineUnderTest) join(token string) {
	m.t.Helper()
	if err := m.node.Join(within10(m.t), "", token, fsm.Director); err != nil {
		m.t.Fatalf("%s joins: %v", m.cfg.Name, err)
	}
}

// three makes a cluster of three voters.
func three(t *testing.T) []*machineUnderTest {
	t.Helper()
	a, token := found(t, "a")
	b, c := newMachineUnderTest(t, "b"), newMachineUnderTest(t, "c")
	b.join(token)
	c.join(token)
	all := []*machineUnderTest{a, b, c}
	awaitVoters(t, all, 3)
	return all
}

func awaitVoters(t *testing.T, all []*machineUnderTest, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d voters", n), func() bool {
		for _, m := range all {
			committed, appended := m.node.Voters()
			if len(committed.Voters) != n || appended.Tag != committed.Tag {
				return false
			}
		}
		return true
	})
}

func leaderOf(t *testing.T, all []*machineUnderTest) *machineUnderTest {
	t.Helper()
	var leader *machineUnderTest
	eventually(t, "a leader", func() bool {
		for _, m := range all {
			if m.node.Status().State == "Leader" {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}

func settle(profile string) fsm.Command {
	return fsm.Command{Settings: &fsm.SetSettings{Profile: profile}}
}

func TestThreeMembers(t *testing.T) {
	t.Parallel()
	all := three(t)
	a, b, c := all[0], all[1], all[2]

	id, ok := b.node.Identity()
	if !ok || id.ID != "m2" || !id.NewlyEnrolled || len(id.LeaseKey) != 32 {
		t.Errorf("identity of b: %+v, %v", id, ok)
	}
	ida, _ := a.node.Identity()
	if !bytes.Equal(ida.LeaseKey, id.LeaseKey) || ida.Cluster != id.Cluster {
		t.Error("a and b do not share the lease key or the cluster's id")
	}

	// A write on every member reaches everybody.
	for i, m := range all {
		profile := []string{"fast", "robust", "default"}[i]
		res, err := m.node.Propose(within10(t), settle(profile))
		if err != nil || !res.Changed {
			t.Fatalf("propose on %s: %+v, %v", m.cfg.Name, res, err)
		}
		for _, o := range all {
			if err := o.node.WaitRevision(within10(t), res.Revision); err != nil {
				t.Fatal(err)
			}
			if got := o.node.Table().Settings.Profile; got != profile {
				t.Errorf("%s has profile %q, want %q", o.cfg.Name, got, profile)
			}
		}
	}

	// The table's refusals keep their kind across the wire.
	for _, m := range all {
		for _, test := range []struct {
			cmd  fsm.Command
			want error
		}{
			{fsm.Command{IfRevision: 1, Settings: &fsm.SetSettings{Profile: "fast"}}, fsm.ErrConflict},
			{settle("no such"), fsm.ErrInvalid},
			{fsm.Command{Remove: &fsm.Remove{ID: "m77"}}, fsm.ErrNotFound},
		} {
			if _, err := m.node.Propose(within10(t), test.cmd); !errors.Is(err, test.want) {
				t.Errorf("%s: error %v, want %v", m.cfg.Name, err, test.want)
			}
		}
	}

	// Ask: another one, itself, an error, an unknown question.
	if b, err := c.node.Ask(within10(t), "m1", "name"); err != nil || string(b) != "a" {
		t.Errorf("ask: %q, %v", b, err)
	}
	if b, err := c.node.Ask(within10(t), "m3", "name"); err != nil || string(b) != "c" {
		t.Errorf("ask itself: %q, %v", b, err)
	}
	for id, want := range map[fsm.MemberID]string{"m1": "a x&y", "m3": "c x&y"} {
		if b, err := c.node.Ask(within10(t), id, "name?with=+x%26y"); err != nil || string(b) != want {
			t.Errorf("%s with arguments: %q, %v", id, b, err)
		}
	}
	if _, err := c.node.Ask(within10(t), "m1", "wrong"); err == nil || err.Error() != "out of order" {
		t.Errorf("ask what fails: %v", err)
	}
	if _, err := c.node.Ask(within10(t), "m1", "nothing"); !errors.Is(err, fsm.ErrNotFound) {
		t.Errorf("ask what is not known: %v", err)
	}
}
