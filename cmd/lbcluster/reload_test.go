package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/cluster/api"
	"lbcluster/journal"
)

// liveDaemon is the real program as a process of its own, in no cluster.
type liveDaemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *bufio.Scanner
	dir    string
	client *api.Client
}

// startLive runs the test binary as lbcluster run, in a folder of its own.
func startLive(t *testing.T) *liveDaemon {
	t.Helper()
	return startLiveAs(t, os.Geteuid())
}

// startLiveAs does so as a user, who owns the folder.
func startLiveAs(t *testing.T, uid int) *liveDaemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "lbcluster-live") // its parent is everybody's, unlike t.TempDir's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, uid, -1); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "lbcluster")
	copyFile(t, os.Args[0], program)
	config := filepath.Join(dir, "lbcluster.yaml")
	text := fmt.Sprintf("name: dir1\naddr: 127.0.0.1:%d\ndata_dir: %s/data\nsocket: %s/run/s\nbpf_pin_dir: %s/none\n", freePort(t), dir, dir, dir)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d := &liveDaemon{t: t, dir: dir, client: api.NewClient(filepath.Join(dir, "run", "s"))}
	d.cmd = exec.Command(program, "run", "--config", config)
	d.cmd.Env = append(os.Environ(), "PATH="+dir+":/usr/bin:/bin") // the program, not the scripts' one
	if uid != os.Geteuid() {
		d.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(20*time.Second, func() { _ = d.cmd.Process.Kill() }) // then the log ends
	t.Cleanup(func() { limit.Stop(); _ = d.cmd.Process.Kill(); _ = d.cmd.Wait() })
	d.log = bufio.NewScanner(stderr)
	d.wantLine("lbcluster is running")
	return d
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// freePort is a TCP port that is free with the one after it, at the moment.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 50 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := netip.MustParseAddrPort(a.Addr().String()).Port()
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two ports are free")
	return 0
}

// wantLine reads the daemon's log up to a line.
func (d *liveDaemon) wantLine(text string) {
	d.t.Helper()
	var seen []string
	for d.log.Scan() {
		if seen = append(seen, d.log.Text()); strings.Contains(d.log.Text(), text) {
			return
		}
	}
	d.t.Fatalf("the log ended without %q:\n%s", text, strings.Join(seen, "\n"))
}

func (d *liveDaemon) fence() string {
	d.t.Helper()
	out, err := exec.Command(filepath.Join(d.dir, "lbcluster"), "fence", "--config", filepath.Join(d.dir, "lbcluster.yaml")).CombinedOutput()
	if err != nil && os.Geteuid() == 0 {
		d.t.Errorf("fence: %v: %s", err, out)
	}
	return string(out)
}

// starts is what the record tells of the starts.
func (d *liveDaemon) starts() []journal.Cause {
	b, err := os.ReadFile(filepath.Join(d.dir, "data", "journal.jsonl"))
	if err != nil {
		d.t.Fatal(err)
	}
	var causes []journal.Cause
	for _, c := range []journal.Cause{journal.FirstStart, journal.AfterReload, journal.AfterCrash} {
		if strings.Contains(string(b), `"cause":"`+string(c)+`"`) {
			causes = append(causes, c)
		}
	}
	return causes
}

// TestReload: on SIGHUP the daemon executes what is installed in its own
// process and holds its lock all the time; a program that cannot run is
// refused, and so is a configuration that it cannot read, and the daemon goes on.
func TestReload(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	d := startLive(t)
	if out := d.fence(); !strings.Contains(out, "nothing to fence") {
		t.Errorf("fence beside a daemon: %s", out)
	}
	program := filepath.Join(d.dir, "lbcluster")
	good := program + ".good"
	if err := os.Rename(program, good); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.signal(unix.SIGHUP)
	d.wantLine("not reloaded")
	if err := os.Rename(good, program); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(d.dir, "lbcluster.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	d.configure(append([]byte("adr: 10.0.0.1\n"), text...))
	d.signal(unix.SIGHUP)
	d.wantLine("field adr not found") // said in the refusal
	d.configure(text)
	d.signal(unix.SIGHUP)
	d.wantLine("executing itself again")
	d.signal(unix.SIGHUP) // one too many in the middle
	d.wantLine("lbcluster is running")
	if out := d.fence(); !strings.Contains(out, "nothing to fence") {
		t.Errorf("fence beside the next image: %s", out)
	}
	if _, err := d.client.Version(t.Context()); err != nil {
		t.Errorf("the next image does not answer: %v", err)
	}
	d.signal(unix.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if got := fmt.Sprint(d.starts()); got != "[first-start after-reload]" {
		t.Errorf("starts: %s", got)
	}
}

// configure replaces the machine's own configuration.
func (d *liveDaemon) configure(text []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, "lbcluster.yaml"), text, 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// TestFenceAfterDeath: killed, the daemon leaves its lock to fence, which finds
// nothing and may be repeated.
func TestFenceAfterDeath(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	d := startLive(t)
	d.signal(unix.SIGKILL)
	_ = d.cmd.Wait()
	for range 2 {
		begin := time.Now()
		out := d.fence()
		if strings.Contains(out, "A daemon runs") || os.Geteuid() == 0 && !strings.Contains(out, "left nothing behind") {
			t.Errorf("fence after its death: %s", out)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}

func (d *liveDaemon) signal(s unix.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}
