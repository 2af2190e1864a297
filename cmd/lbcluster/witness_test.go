package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/cluster"
	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// witnessMemory is what a witness may hold in memory, in KiB.
const witnessMemory = 64 << 10

// TestWitnessNeedsNothing: a witness joins and votes as a user without any
// right, with no data plane and little memory.
func TestWitnessNeedsNothing(t *testing.T) {
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("starts a process as another user, for which it takes root")
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	founder, err := cluster.New(cluster.Config{Dir: t.TempDir(), Name: "founder", Addr: at})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- founder.Run(ctx) }()
	defer func() { stop(); <-done }()
	token, err := founder.Init(ctx, "robust", 0)
	if err != nil {
		t.Fatal(err)
	}
	w := startLiveAs(t, 65534)
	if _, err := w.client.Join(ctx, api.JoinRequest{Addr: at.String(), Token: token, Role: fsm.Witness, Force: true}); err != nil {
		t.Fatal(err)
	}
	var s api.DirectorStatus
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := w.client.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range r.Members {
			if m.Role == fsm.Witness && m.Status != nil {
				s = *m.Status
			}
		}
		if s.Role == fsm.Witness && s.TableRevision > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it did not become a member: %+v", r)
		}
	}
	kib := residentKiB(t, w.cmd.Process.Pid)
	t.Logf("a witness has %d KiB in memory", kib)
	if kib > witnessMemory {
		t.Errorf("a witness has %d KiB in memory, more than %d", kib, witnessMemory)
	}
	w.signal(unix.SIGTERM)
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// residentKiB is a process's VmRSS.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no VmRSS in\n%s", b)
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib
}
