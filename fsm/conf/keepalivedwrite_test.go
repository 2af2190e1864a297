package conf

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// TestKeepalivedOfPair: the sample survives being written; the text is golden.
func TestKeepalivedOfPair(t *testing.T) {
	r, problems := Parse("testdata/pair.conf", os.ReadFile, nil)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	out, err := WriteKeepalived(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/pair.written.golden", string(out))
}

// TestKeepalivedRoundTrip: whatever is valid comes back the same.
func TestKeepalivedRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		out, err := WriteKeepalived(cfg)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		m := memory{"f": string(out)}
		again, problems := Parse("f", m.open, m.glob)
		if len(problems) > 0 || !reflect.DeepEqual(again.Config, cfg) {
			t.Fatalf("%s\n%s\nwas %+v\nis  %+v", out, lines(problems), cfg, again.Config)
		}
	})
}

// TestKeepalivedOddWords: what looks like grammar is quoted.
func TestKeepalivedOddWords(t *testing.T) {
	for _, odd := range []string{"a b", "#x", "x!", "{", "}", "@dir1", "$_PWD", "${X}", "~SEQ(", "include", "global_defs", "virtual_server", "名字", "\\#", "a\\"} {
		cfg := fsm.Config{Globals: fsm.Globals{RouterID: odd, EmailFrom: odd, NotificationEmail: []string{odd, odd}, SMTPServer: odd}}
		if out, err := WriteKeepalived(cfg); err != nil {
			t.Errorf("%s: %v\n%s", odd, err, out)
		}
	}
}

// TestKeepalivedCannotSay: loss is an error, never silent.
func TestKeepalivedCannotSay(t *testing.T) {
	r, _ := Parse("testdata/pair.conf", os.ReadFile, nil)
	for _, c := range []struct {
		name   string
		change func(*fsm.Config)
		says   string
	}{
		{"a quote in a word", func(c *fsm.Config) { c.Globals.RouterID = `a"b` }, "cannot say"},
		{"nanoseconds", func(c *fsm.Config) {
			c.Globals.SMTPTimeout = fsm.Duration(time.Second + 1)
		}, "finer than a microsecond"},
		{"a line end in a word", func(c *fsm.Config) { c.Globals.EmailFrom = "a\nb" }, "cannot say"},
	} {
		cfg := r.Config
		c.change(&cfg)
		if _, err := WriteKeepalived(cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestWritersOfTables: what the table adds to a configuration (ids, sets, empty
// lists) and what it leaves to defaults does not disturb the writers.
func TestWritersOfTables(t *testing.T) {
	r, _ := Parse("testdata/pair.conf", os.ReadFile, nil)
	cfg := r.Config
	cfg.Routers = append([]fsm.Router{}, cfg.Routers...)
	cfg.Routers[0].ID, cfg.Routers[0].Set = 7, "default"
	cfg.Services = append([]fsm.VirtualServer{}, cfg.Services...)
	cfg.Services[0].Set, cfg.Services[0].RealServers = "default", []fsm.RealServer{}
	cfg.Services[0].Persistence = fsm.Duration(time.Minute) // and no mask
	if out, err := WriteKeepalived(cfg); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	out, err := WriteYAML(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if again, problems := ParseYAML("f", out); len(problems) > 0 || again.Config.Services[0].PersistenceMask != 32 {
		t.Errorf("%s\n%s", lines(problems), out)
	}
}
