package breakglass

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

const config = `
routers:
  - name: VI_1
    vrid: 51
    interface: eth7
    addresses: [10.1.0.1]
  - name: VI_2
    vrid: 52
    addresses: ["2001:db8::1"]
services:
  - address: 10.1.0.1:80
    protocol: tcp
    method: dr
    scheduler: rr
    real_servers:
      - {address: 10.0.0.50, weight: 3}
`

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func apply(t *testing.T, table *fsm.Table, c fsm.Command) *fsm.Table {
	t.Helper()
	c.At = epoch
	next, _, err := table.Apply(c)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// site is a table with a set.
func site(t *testing.T) *fsm.Table {
	t.Helper()
	table := apply(t, fsm.New(), fsm.Command{Found: &fsm.Found{Cluster: "lab", Name: "dir1", Addr: netip.MustParseAddrPort("10.9.0.1:7500"), Profile: "default"}})
	r, problems := conf.ParseYAML("site.yaml", []byte(config))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return apply(t, table, fsm.Command{Apply: &fsm.ApplySet{Set: "default", Config: r.Config}})
}

func spares(t *testing.T, table *fsm.Table, n int) *fsm.Table {
	return apply(t, table, fsm.Command{Settings: &fsm.SetSettings{Spares: &n}})
}

func keeper(dir string) *Keeper {
	return New(Config{Dir: dir, By: "a test", Log: slog.New(slog.DiscardHandler)})
}

// TestFiles: each revision's files are whole and can be applied; those of sets that are
// gone go too; nobody else can read them.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	k, table := keeper(dir), site(t)
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, dirFiles, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := os.Mkdir(filepath.Join(dir, dirFiles+".new"), 0o700); err != nil { // of a crash
		t.Fatal(err)
	}
	for range 2 {
		if err := k.writeFiles(table, epoch); err != nil {
			t.Fatal(err)
		}
	}
	r, problems := conf.ParseYAML("set", []byte(read("set-default.yaml")))
	if len(problems) > 0 || len(table.Diff("default", r.Config)) > 0 {
		t.Errorf("the YAML is another configuration: %v %v", problems, table.Diff("default", r.Config))
	}
	if _, a, err := fsm.ReadSaved([]byte(read("cluster.snap"))); err != nil || len(table.DiffAgreement(a)) > 0 {
		t.Errorf("the snapshot is another table: %v", err)
	}
	if text := read("serve.sh"); !strings.Contains(text, "-A -t 10.1.0.1:80 -s rr") || !strings.Contains(text, "revision 2 of cluster lab") {
		t.Errorf("%s", text)
	}
	table = apply(t, table, fsm.Command{Apply: &fsm.ApplySet{Set: "default"}})
	if err := k.writeFiles(table, epoch); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, dirFiles, "set-default.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file of a set that is gone is still there")
	}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestFullDisk: what was there stays when the new files cannot be written.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	k, table := keeper(dir), site(t)
	if err := k.writeFiles(table, epoch); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, dirFiles, "serve.sh"))
	if err != nil {
		t.Fatal(err)
	}
	k.cfg.Dir = "/dev/full" // no folder can be made in it
	if err := k.writeFiles(spares(t, table, 1), epoch); err == nil {
		t.Fatal("no error")
	}
	if after, err := os.ReadFile(filepath.Join(dir, dirFiles, "serve.sh")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%v: it was changed", err)
	}
}

// TestSnapshots: one each interval, if something was decided; so many are kept.
func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	k, table := keeper(dir), site(t)
	at := func(after time.Duration, table *fsm.Table) int {
		t.Helper()
		if err := k.writeSnapshot(table, epoch.Add(after)); err != nil {
			t.Fatal(err)
		}
		names, err := snapshots(filepath.Join(dir, dirSnapshots))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	if n := at(0, table); n != 0 {
		t.Errorf("%d though none is wanted", n)
	}
	every, kept := fsm.Duration(time.Hour), 2
	table = apply(t, table, fsm.Command{Settings: &fsm.SetSettings{SnapshotEvery: &every, SnapshotsKept: &kept}})
	one, two, three := spares(t, table, 1), spares(t, table, 2), spares(t, table, 3)
	for _, c := range []struct {
		after time.Duration
		table *fsm.Table
		want  int
	}{
		{0, table, 1}, {time.Minute, one, 1}, {time.Hour, table, 1}, {time.Hour, one, 2}, {2 * time.Hour, two, 2}, {3 * time.Hour, three, 2},
	} {
		if n := at(c.after, c.table); n != c.want {
			t.Errorf("after %v: %d snapshots, want %d", c.after, n, c.want)
		}
	}
	names, _ := snapshots(filepath.Join(dir, dirSnapshots))
	if want := "20260101T030000Z-r"; !strings.HasPrefix(names[1], want) || !strings.HasPrefix(names[0], "20260101T020000Z-r") {
		t.Errorf("%v", names)
	}
	b, err := os.ReadFile(filepath.Join(dir, dirSnapshots, names[1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, a, err := fsm.ReadSaved(b); err != nil || a.Settings.Spares != 3 {
		t.Errorf("%v %+v", err, a.Settings)
	}
}

// TestHangingDisk: tables go on being taken from whoever sends them, and the end does
// not wait; after an error it is tried again.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := site(t)
		tables := make(chan *fsm.Table, 1)
		k := New(Config{Watch: func(context.Context) <-chan *fsm.Table { return tables }, Log: slog.New(slog.DiscardHandler)})
		hang := make(chan struct{})
		defer close(hang)
		var wrote []fsm.Revision
		k.write = func(t *fsm.Table, _ time.Time) error {
			if wrote = append(wrote, t.Revision); len(wrote) == 3 {
				<-hang
			}
			return errors.New("full")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		tables <- table
		time.Sleep(90 * time.Second)
		if len(wrote) != 2 || wrote[1] != table.Revision {
			t.Errorf("wrote %v: an error is tried again after a minute", wrote)
		}
		tables <- spares(t, table, 1)
		time.Sleep(time.Minute)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(wrote) != 3 {
			t.Errorf("wrote %v", wrote)
		}
	})
}

// TestScript runs serve.sh with commands that only write down how they were called.
func TestScript(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "serve.sh")
	if err := os.WriteFile(path, script(site(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	stub := func(name, body string) {
		text := "#!/bin/sh\n" + body
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	note := "echo \"$(basename $0) $*\" >> " + log + "\n"
	for _, name := range []string{"arping", "tc", "rm"} {
		stub(name, note)
	}
	stub("pidof", "exit 1\n")
	stub("ipvsadm", "case $1 in -S) ;; *) "+strings.TrimSpace(note)+"; cat >> "+log+";; esac\n")
	stub("ip", `case "$*" in
*"route get 10.1.0.1"*) echo "10.1.0.1 dev eth0 src 10.1.0.9 uid 0" ;;
*"link show"*) echo "2: eth0: <UP>" ;;
*"route get"*) exit 2 ;;
*"addr show to 10.1.0.1"*) echo "2: eth0    inet 10.1.0.1/32 scope global eth0" ;;
*"addr show"*) ;;
*) echo "ip $*" >> `+log+` ;;
esac
`)
	run := func(arg string) (string, error) {
		_ = os.Remove(log)
		cmd := exec.Command("sh", path, arg)
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		did, _ := os.ReadFile(log) // none: it did nothing
		return string(out) + string(did), err
	}
	for _, c := range []struct {
		arg   string
		fails bool
		want  []string
	}{
		{"tables", false, []string{"ipvsadm -R", "-A -t 10.1.0.1:80 -s rr", "-a -t 10.1.0.1:80 -r 10.0.0.50:80 -g -w 3"}},
		{"up", true, []string{"rm -rf /sys/fs/bpf/lbcluster", "tc qdisc del dev eth0 clsact", "ip addr replace 10.1.0.1/32 dev eth0", "arping -q -U -c 3 -I eth0 10.1.0.1", "no network of this machine holds 2001:db8::1/128"}},
		{"down", false, []string{"ip addr del 10.1.0.1/32 dev eth0"}},
		{"show", false, []string{"10.1.0.1/32 eth7", "2001:db8::1/128 -", "-s rr"}},
		{"", true, []string{"usage:"}},
	} {
		out, err := run(c.arg)
		if (err != nil) != c.fails {
			t.Errorf("%q: %v\n%s", c.arg, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q did not do %q:\n%s", c.arg, want, out)
			}
		}
	}
	stub("pidof", "echo 77\n")
	if out, err := run("up"); err == nil || strings.Contains(out, "ip addr") || !strings.Contains(out, "lbcluster runs on this machine") {
		t.Errorf("beside a daemon: %v\n%s", err, out)
	}
}
