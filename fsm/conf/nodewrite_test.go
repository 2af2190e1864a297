package conf

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

func TestWriteForNode(t *testing.T) {
	r, problems := Parse("testdata/pair.conf", os.ReadFile, nil)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	out, err := WriteKeepalivedFor(r.Config, Node{
		Name: "dir2", Priorities: map[string]uint8{"VI_1": 90}, States: map[string]string{"VI_1": "BACKUP"}, Interfaces: map[string]string{"VI_1": "ens3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/pair.node.golden", string(out))
	if r.Config.Routers[0].Priority != 100 || r.Config.Routers[0].Interface != "eth0" {
		t.Error("the configuration itself was changed")
	}
	if _, err := WriteKeepalivedFor(r.Config, Node{Name: "dir2", Interfaces: map[string]string{"VI_1": "no such name at all"}}); err == nil {
		t.Error("a name that no interface can have is written")
	}
}

// What is written for two nodes and merged again is the same configuration, and
// says who is at home.
func TestNodesMergeAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		high, low := map[string]uint8{}, map[string]uint8{}
		for i := range cfg.Routers {
			cfg.Routers[i].Priority, cfg.Routers[i].Initial = 150, "MASTER"
			cfg.Routers[i].Peering.NoPreempt, cfg.Routers[i].Peering.PreemptDelay = false, 0 // which keepalived ignores then
			high[cfg.Routers[i].Name], low[cfg.Routers[i].Name] = 150, 140
		}
		var sources []Source
		for name, priorities := range map[string]map[string]uint8{"dir1": high, "dir2": low} {
			text, err := WriteKeepalivedFor(cfg, Node{Name: name, Priorities: priorities})
			if err != nil {
				t.Fatal(err)
			}
			read, problems := Parse(name, func(string) ([]byte, error) { return text, nil }, nil)
			if len(problems) > 0 {
				t.Fatal(lines(problems))
			}
			sources = append(sources, Source{name, read})
		}
		m, err := Merge(sources, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range m.Differences {
			if !d.PerNode {
				t.Fatalf("differs: %s", d)
			}
		}
		m.Config.Globals.RouterID = cfg.Globals.RouterID
		if left := fsm.Compare(cfg, m.Config); len(left) > 0 {
			t.Fatalf("left: %+v", left)
		}
		for _, h := range m.Homes {
			if h.Source != "dir1" {
				t.Fatalf("at home: %+v", h)
			}
		}
	})
}

// keepalivedEnv names the keepalived that judges, where it is not in $PATH.
const keepalivedEnv = "LBCLUSTER_KEEPALIVED"

// judge returns a function that has real keepalived check a file, in a network
// namespace with the interfaces that the tests use; it skips the test without
// keepalived, or where no namespace can be made.
func judge(t *testing.T) func(text string) error {
	path := os.Getenv(keepalivedEnv)
	if path == "" {
		var err error
		if path, err = exec.LookPath("keepalived"); err != nil {
			t.Skip("there is no keepalived here, nor in $" + keepalivedEnv)
		}
	}
	if exec.Command("unshare", "-n", "ip", "link", "add", "eth0", "type", "veth").Run() != nil {
		t.Skip("no network namespace with an interface can be made here")
	}
	file := filepath.Join(t.TempDir(), "keepalived.conf")
	const script = `for i in eth0 eth1 ens3 bond0.7; do ip link add $i type veth && ip link set $i up; done
exec "$0" -t -f "$1" 2>&1`
	return func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		out, err := exec.Command("unshare", "-n", "sh", "-c", script, path, file).CombinedOutput()
		if err == nil && len(out) == 0 {
			return nil
		}
		return errors.Join(err, errors.New(string(out)))
	}
}

// TestKeepalivedAccepts: keepalived -t has nothing to say about what is written.
func TestKeepalivedAccepts(t *testing.T) {
	accepts := judge(t)
	if err := accepts("vrrp_instance x {\n gibberish\n}\n"); err == nil {
		t.Fatal("the judge accepts everything")
	}
	for _, name := range []string{"testdata/pair.conf", "testdata/node.conf"} {
		r, problems := Parse(name, os.ReadFile, nil)
		if len(problems) > 0 {
			t.Fatal(lines(problems))
		}
		text, err := WriteKeepalivedFor(r.Config, Node{Name: "dir1"})
		if err == nil {
			err = accepts(string(text))
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// What keepalived does not take is said. Each of these was refused or ignored
// by keepalived 2.2.7.
func TestKeepalivedLimits(t *testing.T) {
	router := fsm.Router{Name: "VI_1", Interface: "eth0", Track: []fsm.Tracker{
		{Kind: fsm.TrackInterface, Name: "eth0"}, {Kind: fsm.TrackScript, Name: "s", Interval: fsm.Duration(500 * time.Millisecond), Timeout: fsm.Duration(time.Second)},
	}}
	for _, tt := range []struct {
		name string
		cfg  fsm.Config
		want int
	}{
		{"none", fsm.Config{Routers: []fsm.Router{{Name: "VI_1", Interface: "eth0"}}}, 0},
		{"own interface and half seconds", fsm.Config{Routers: []fsm.Router{router}}, 2},
		{"no interface", fsm.Config{Routers: []fsm.Router{{Name: "VI_1"}}}, 1},
		{"group tracks it too", fsm.Config{Routers: []fsm.Router{{Name: "VI_1", Interface: "eth0"}},
			Groups: []fsm.SyncGroup{{Name: "g", Routers: []string{"VI_1"}, Track: router.Track[:1]}}}, 1},
		{"no servers", fsm.Config{Services: []fsm.VirtualServer{{}}}, 1},
		{"mail", fsm.Config{Globals: fsm.Globals{SMTPTimeout: fsm.Duration(1500 * time.Millisecond)}}, 1},
	} {
		if got := KeepalivedLimits(tt.cfg); len(got) != tt.want {
			t.Errorf("%s: %q, want %d", tt.name, got, tt.want)
		}
	}
}
