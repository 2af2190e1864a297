package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

// TestMain makes the test binary the command lbcluster for the scripts.
func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"lbcluster": main}) }

// TestScripts runs testdata/script/*.txtar: the real command line as processes
// of its own, against an API server over a real unix socket, with a fake daemon
// behind it. -update rewrites what the scripts compare with.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setupScript,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		RequireExplicitExec: false,
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("no condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": cmdDaemon,
			"status": cmdStatus,
			"jsonok": cmdJSON,
		},
	})
}

// fakeKey finds the fake daemon of a script.
type fakeKey struct{}

func setupScript(env *testscript.Env) error {
	fake := apitest.New()
	env.Values[fakeKey{}] = fake
	socket := filepath.Join(env.WorkDir, "s")
	env.Setenv(socketEnv, socket)
	env.Setenv("TZ", "UTC")
	example, err := filepath.Abs("../../deploy/keepalived-pair.conf")
	if err != nil {
		return err
	}
	env.Setenv("KEEPALIVED", example)
	ln, err := api.Listen(socket)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	srv := api.NewServer(fake, "dir1", "test", slog.New(slog.DiscardHandler))
	go func() { done <- srv.Run(ctx, ln) }()
	env.Defer(func() {
		stop()
		if err := <-done; err != nil {
			env.T().Fatal(err)
		}
	})
	return nil
}

// cmdDaemon sets the fake daemon up: see the switch.
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	fake := ts.Value(fakeKey{}).(*apitest.Fake)
	switch args[0] {
	case "cluster": // three directors
		_, err := fake.Init(context.Background(), api.InitRequest{})
		ts.Check(err)
		fake.Grow("dir2", fsm.Director)
		fake.Grow("dir3", fsm.Director)
	case "alone": // one director
		_, err := fake.Init(context.Background(), api.InitRequest{})
		ts.Check(err)
	case "peer": // somebody who is no member advertises what is routed
		fake.Set(func(f *apitest.Fake) {
			f.Edit = func(s *api.DirectorStatus) {
				for i := range s.VRRP {
					s.VRRP[i].Heard = append(s.VRRP[i].Heard, api.Speaker{Addr: netip.MustParseAddr("10.0.0.99"), Version: 2, Priority: 90, Count: 5, AgeMS: 300})
				}
			}
		})
	case "dead": // ID: the member does not answer
		fake.Set(func(f *apitest.Fake) {
			f.Dead = map[fsm.MemberID]string{fsm.MemberID(args[1]): "no answer within 1s"}
		})
	case "dead2": // ID ID: both do not answer
		fake.Set(func(f *apitest.Fake) {
			f.Dead = map[fsm.MemberID]string{fsm.MemberID(args[1]): "no answer within 1s", fsm.MemberID(args[2]): "no answer within 1s"}
		})
	case "vote": // ID SERVER up|down: one director's opinion
		castVote(ts, fake, fsm.MemberID(args[1]), netip.MustParseAddrPort(args[2]), args[3] == "up")
	case "rival": // somebody applies the same set right before the next apply
		fake.Set(func(f *apitest.Fake) {
			f.BeforeApply = func() {
				fake.Must(fsm.Command{By: "eve@dir2", Apply: &fsm.ApplySet{Set: "default", Config: fsm.Config{Globals: fsm.Globals{RouterID: "EVE"}}}})
			}
		})
	case "busy": // something else in the table changes right before the next apply
		fake.Set(func(f *apitest.Fake) {
			f.BeforeApply = func() {
				fake.Must(fsm.Command{By: "eve@dir2", Settings: &fsm.SetSettings{Profile: "robust"}})
			}
		})
	case "alive": // somebody who is said to be off is not
		fake.Set(func(f *apitest.Fake) {
			f.Refuse = fmt.Errorf("%w: dir3 is not powered off: it answers over TLS", fsm.ErrDenied)
		})
	case "tale": // NAME: the members recorded it
		records := tales[args[1]](fake.Table().Units()[0].ID)
		fake.Set(func(f *apitest.Fake) { f.Records = records })
	case "obeys": // leases follow moves and drains at once
		fake.Set(func(f *apitest.Fake) { f.Obeys = true })
	case "owns": // ID ROUTER: it is reported to own it
		u, _ := fake.Table().UnitByName(args[2])
		fake.Must(fsm.Command{Ownership: &fsm.Ownership{Router: u.ID, Member: fsm.MemberID(args[1]), Owns: true, Why: "test"}})
	case "keepalived": // FILE: what every director's IPVS table has from elsewhere, one service, as ipvsadm -Sn prints it
		f := api.Foreign{Kind: "service", What: "tcp/172.25.88.100:80", Fix: "ipvsadm -D -t 172.25.88.100:80", Rules: ts.ReadFile(args[1])}
		fake.Set(func(fake *apitest.Fake) {
			fake.Edit = func(s *api.DirectorStatus) { s.Kernel.Foreign = []api.Foreign{f} }
		})
	case "late": // the time of the change that waits for a confirmation is over
		fake.Must(fsm.Command{Undo: &fsm.Undo{Revision: fake.Table().Pending.Revision, Late: true}})
	case "noquorum": // nothing can be committed
		fake.Set(func(f *apitest.Fake) { f.Fail = fmt.Errorf("commit: %w", api.ErrNoQuorum) })
	default:
		ts.Fatalf("daemon: unknown %q", args[0])
	}
}

func castVote(ts *testscript.TestScript, fake *apitest.Fake, id fsm.MemberID, server netip.AddrPort, up bool) {
	for _, target := range fake.Table().Targets() {
		if target.Server == server {
			vote := fsm.Vote{Up: up}
			if !up {
				vote.Detail = "connection refused"
			}
			fake.Must(fsm.Command{Votes: &fsm.CastVotes{Member: id, Opinions: []fsm.Opinion{{Target: target.Target, Vote: vote}}}})
			return
		}
	}
	ts.Fatalf("no target has server %s", server)
}

// cmdStatus runs "lbcluster ARGS" and demands its exit status: status N ARGS...
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("lbcluster", args[1:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("lbcluster %s: exit status %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// cmdJSON demands that the last output is JSON, one value or more.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	dec := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile("stdout"))))
	n := 0
	for ; dec.More(); n++ {
		var v any
		if err := dec.Decode(&v); err != nil {
			ts.Fatalf("standard output is no JSON: %v", err)
		}
	}
	if n == 0 {
		ts.Fatalf("standard output is empty")
	}
}

// TestEventsFollow: what happens shows up at once, and an interrupt is the
// ordinary end.
func TestEventsFollow(t *testing.T) {
	fake := apitest.NewCluster()
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- api.NewServer(fake, "dir1", "test", slog.New(slog.DiscardHandler)).Run(serving, ln)
	}()
	ctx, interrupt := context.WithCancel(t.Context())
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"events", "-f", "--socket", socket}, strings.NewReader(""), in, io.Discard)
	}()
	lines := bufio.NewScanner(out)
	for range len(fake.Table().Events) {
		if !lines.Scan() {
			t.Fatal("the history ended early")
		}
	}
	fake.Must(fsm.Command{By: "eve@dir2", Settings: &fsm.SetSettings{Profile: "fast"}})
	if !lines.Scan() || !strings.Contains(lines.Text(), "eve@dir2") {
		t.Errorf("news: %q", lines.Text())
	}
	interrupt()
	if got := <-code; got != exitOK {
		t.Errorf("exit status %d after an interrupt", got)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
