package main

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster"
	"lbcluster/fsm"
)

// alone founds a cluster in a folder and stops it again.
func alone(t *testing.T, dir string) {
	t.Helper()
	node, err := cluster.New(cluster.Config{Dir: dir, Name: "dir1", Addr: netip.MustParseAddrPort("127.0.0.1:47961")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	if _, err := node.Init(ctx, "", 0); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestRecoverVerb: it asks, it is refused beside a daemon, a dry run changes nothing, and
// what it says is what it did.
func TestRecoverVerb(t *testing.T) {
	dir := t.TempDir()
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	run := func(args ...string) (int, string) {
		var out bytes.Buffer
		args = append([]string{"recover", "--config", "/dev/null", "--socket", socket, "--data-dir", data}, args...)
		code := execute(t.Context(), args, strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	if code, out := run("--yes-they-are-off"); code == 0 || !strings.Contains(out, "this machine is in no cluster") {
		t.Errorf("without a cluster: %d %s", code, out)
	}
	alone(t, data)
	lock, err := takeLock(filepath.Join(dir, "daemon.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if code, out := run("--yes-they-are-off"); code == 0 || !strings.Contains(out, "another lbcluster daemon runs") || !strings.Contains(out, "systemctl stop lbcluster") {
		t.Errorf("beside a daemon: %d %s", code, out)
	}
	lock.release()
	if code, out := run("--dry-run"); code != 0 || !strings.Contains(out, "epoch 0") || !strings.Contains(out, "Nothing was changed") {
		t.Errorf("dry run: %d %s", code, out)
	}
	if code, out := run("--yes-they-are-off"); code != 0 || !strings.Contains(out, "epoch 1") || !strings.Contains(out, "left-") {
		t.Errorf("recover: %d %s", code, out)
	}
	if code, out := run("--dry-run"); code != 0 || !strings.Contains(out, "epoch 1") {
		t.Errorf("after it: %d %s", code, out)
	}
}

// TestRecoverAsks: a member that answers is not off; without a person there is no word.
func TestRecoverAsks(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	other := []fsm.Member{{ID: "m2", Name: "dir2", Addr: addr}}
	var out bytes.Buffer
	a := &app{in: strings.NewReader("dir2 off\n"), out: &out, errOut: &out}
	if err := a.refuseLiving(t.Context(), other); err == nil || !strings.Contains(err.Error(), "dir2 at "+addr.String()) {
		t.Errorf("a member that lives: %v", err)
	}
	ln.Close()
	if err := a.refuseLiving(t.Context(), other); err != nil || !strings.Contains(out.String(), "dir2's machine is on") {
		t.Errorf("a machine without a daemon: %v %s", err, out.String())
	}
	if err := a.swearOff([]string{"dir2"}, false); err == nil {
		t.Error("without a terminal it took no answer for a yes")
	}
	for _, s := range []fsm.Settings{{Profile: "fast"}, {Profile: "robust", Guard: fsm.Duration(10 * time.Second)}} {
		if least := 3*time.Second + s.Guard.D(); promises(s) <= least {
			t.Errorf("%+v: it waits %v, what was promised holds %v", s, promises(s), least)
		}
	}
}
