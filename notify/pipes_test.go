package notify

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
	"lbcluster/script"
)

// readAll is what waits in a pipe.
func readAll(t *testing.T, path string) string {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var all []byte
	for buf := make([]byte, 65536); ; {
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			return string(all)
		}
		all = append(all, buf[:n]...)
	}
}

func newPipes(t *testing.T) (*Pipes, *bytes.Buffer, string) {
	t.Helper()
	var log bytes.Buffer
	return NewPipes(slog.New(slog.NewTextHandler(&log, nil))), &log, t.TempDir()
}

func TestPipesGetKeepalivedsLines(t *testing.T) {
	p, log, dir := newPipes(t)
	f := fsm.FIFOs{All: &fsm.FIFO{Path: dir + "/all"}, VRRP: &fsm.FIFO{Path: dir + "/vrrp"}, LVS: &fsm.FIFO{Path: dir + "/lvs"}}
	p.Want([]fsm.FIFO{*f.All, *f.VRRP, *f.LVS})
	r := New(p, slog.New(slog.DiscardHandler))
	vi := Subject{Name: "VI_1", Priority: 100, Pipes: f.Paths(true)}
	r.Set(vi, Backup)
	r.Set(vi, Master)
	r.Set(vi, Master)
	r.Set(Subject{Name: "VG_1", Group: true, Pipes: f.Paths(true)}, Fault)
	key := fsm.ServiceKey{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80, Protocol: fsm.TCP}
	six := fsm.ServiceKey{Addr: netip.MustParseAddr("2001:db8::1"), Port: 53, Protocol: fsm.UDP}
	table := fsm.New()
	table.Sets = []fsm.Set{{Name: "default", Globals: fsm.Globals{FIFOs: f}}}
	Servers{Pipes: p, Log: slog.New(slog.DiscardHandler)}.Tell(t.Context(), table, []fsm.Notice{
		{Kind: fsm.NoticeServer, Set: "default", Service: key, Server: netip.MustParseAddrPort("10.0.0.2:80"), State: "DOWN"},
		{Kind: fsm.NoticePool, Set: "default", Service: key, State: "DOWN"},
		{Kind: fsm.NoticeServer, Set: "default", Service: six, Server: netip.MustParseAddrPort("[2001:db8::2]:53"), State: "UP"},
		{Kind: fsm.NoticePool, Set: "default", Service: fsm.ServiceKey{Mark: 7}, State: "UP"},
		{Kind: fsm.NoticeServer, Set: "default", Service: fsm.ServiceKey{Mark: 7}, Server: netip.MustParseAddrPort("10.0.0.2:0"), State: "UP"},
		{Kind: fsm.NoticeMore, Set: "default"},
	})
	const vrrp = "INSTANCE \"VI_1\" BACKUP 100\nINSTANCE \"VI_1\" MASTER 100\nGROUP \"VG_1\" FAULT 0\n"
	const lvs = "RS [10.0.0.2]:tcp:80 [10.0.0.1]:tcp:80 DOWN\nVS [10.0.0.1]:tcp:80 DOWN\n" +
		"RS [2001:db8::2]:udp:53 [2001:db8::1]:udp:53 UP\nVS FWM 7 UP\nRS [10.0.0.2]:none:0 FWM 7 UP\n"
	for name, want := range map[string]string{"all": vrrp + lvs, "vrrp": vrrp, "lvs": lvs} {
		if got := readAll(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s has\n%swant\n%s", name, got, want)
		}
	}
	if log.Len() > 0 {
		t.Error(log)
	}
	p.Want(nil)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPipeThatNobodyReads(t *testing.T) {
	p, log, dir := newPipes(t)
	path := dir + "/f"
	p.Want([]fsm.FIFO{{Path: path}})
	line := strings.Repeat("x", 99) + "\n"
	for range 2000 {
		p.Write([]string{path}, line)
	}
	if n := strings.Count(log.String(), "is it read?"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
	if got := readAll(t, path); len(got) == 0 || len(got)%100 != 0 {
		t.Errorf("%d bytes: lines were torn", len(got))
	}
	p.Write([]string{path}, "again\n")
	if got := readAll(t, path); got != "again\n" || !strings.Contains(log.String(), "is read again") {
		t.Errorf("%q\n%s", got, log)
	}
}

func TestWhatIsNoPipeIsLeftAlone(t *testing.T) {
	p, log, dir := newPipes(t)
	file, link := dir+"/file", dir+"/link"
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		p.Want([]fsm.FIFO{{Path: file}, {Path: link}, {Path: dir + "/none/x"}})
	}
	p.Write([]string{file, link}, "line\n")
	if b, _ := os.ReadFile(file); string(b) != "mine" {
		t.Errorf("the file is %q", b)
	}
	if n := strings.Count(log.String(), "cannot be opened"); n != 3 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
	p.Want(nil)
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
	made := dir + "/made"
	if err := unix.Mkfifo(made, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Want([]fsm.FIFO{{Path: made}})
	p.Want(nil)
	if _, err := os.Stat(made); err != nil {
		t.Errorf("a pipe that was there is gone: %v", err)
	}
}

// A reader is a real program here: it gets the path, is started again when it ends, and
// is gone afterwards.
func TestPipesReader(t *testing.T) {
	p, _, dir := newPipes(t)
	path, out, prog := dir+"/f", dir+"/out", dir+"/reader"
	if err := os.WriteFile(prog, []byte("#!/bin/sh\nread line <\"$2\"; echo \"$1 $line\" >>"+out+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, func() bool { return false }) }()
	p.Want([]fsm.FIFO{{Path: path, User: "root", Script: &fsm.Script{Command: prog + " word", User: "root"}}})
	wait := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			b, _ := os.ReadFile(out)
			if string(b) == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the reader wrote %q, want %q", b, want)
			}
		}
	}
	p.Write([]string{path}, "first\n")
	wait("word first\n")
	p.Write([]string{path}, "second\n")
	wait("word first\nword second\n")
	p.StopReaders()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the pipe is still there")
	}
}

// The programs of one virtual server run one after the other, and a slow one holds no
// other virtual server's.
func TestServersPrograms(t *testing.T) {
	var mu sync.Mutex
	var ran []string
	block := make(chan struct{})
	s := Servers{Pipes: NewPipes(slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler), run: func(ctx context.Context, j script.Job) (int, error) {
		if j.Command == "slow" {
			<-block
		}
		mu.Lock()
		defer mu.Unlock()
		ran = append(ran, j.Command+" "+j.User)
		if j.Command == "quick" {
			close(block)
		}
		return 1, os.ErrInvalid
	}}
	service := func(last byte, up, down string) fsm.VirtualServer {
		a := netip.AddrFrom4([4]byte{10, 0, 0, last})
		return fsm.VirtualServer{
			ServiceKey: fsm.ServiceKey{Addr: a, Port: 80, Protocol: fsm.TCP}, Scheduler: "rr", Method: fsm.DirectRouting,
			Notify: fsm.UpDown{Down: &fsm.Script{Command: "pool", User: "u"}},
			RealServers: []fsm.RealServer{{Addr: netip.MustParseAddr("10.0.0.9"), Port: 80, Weight: 1,
				Notify: fsm.UpDown{Up: &fsm.Script{Command: up}, Down: &fsm.Script{Command: down}}}},
		}
	}
	table := fsm.New()
	table.Services = []fsm.VirtualServer{service(1, "after", "slow"), service(2, "up", "quick")}
	server := netip.MustParseAddrPort("10.0.0.9:80")
	one, two := table.Services[0].ServiceKey, table.Services[1].ServiceKey
	s.Tell(t.Context(), table, []fsm.Notice{
		{Kind: fsm.NoticeServer, Service: one, Server: server, State: "DOWN"},
		{Kind: fsm.NoticePool, Service: one, State: "DOWN"},
		{Kind: fsm.NoticePool, Service: one, State: "UP"}, // has no program
		{Kind: fsm.NoticeServer, Service: one, Server: server, State: "UP"},
		{Kind: fsm.NoticeServer, Service: two, Server: server, State: "DOWN"},
		{Kind: fsm.NoticeServer, Service: fsm.ServiceKey{Mark: 3}, Server: server, State: "DOWN"}, // gone meanwhile
	})
	if want := []string{"quick ", "slow ", "pool u", "after "}; !slices.Equal(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
}
