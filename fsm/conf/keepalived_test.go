package conf

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew; commit only what you understand")

// memory serves files from a map.
type memory map[string]string

func (m memory) open(name string) ([]byte, error) {
	if s, ok := m[name]; ok {
		return []byte(s), nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (m memory) glob(pattern string) (names []string, err error) {
	for _, n := range slices.Sorted(maps.Keys(m)) {
		ok, err := path.Match(pattern, n)
		if err != nil {
			return nil, err
		}
		if ok {
			names = append(names, n)
		}
	}
	return names, nil
}

// read parses text as the file "f".
func read(text string) (Result, []Problem) {
	m := memory{"f": text}
	return Parse("f", m.open, m.glob)
}

func lines[T fmt.Stringer](list []T) string {
	var b strings.Builder
	for _, x := range list {
		fmt.Fprintln(&b, x)
	}
	return b.String()
}

// TestGolden reads every testdata/*.conf and compares what was understood.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(files) < 2 {
		t.Fatalf("the samples are missing: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, problems := Parse(file, os.ReadFile, filepath.Glob)
			js, err := json.MarshalIndent(r.Config, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got := "problems:\n" + lines(problems) + "notices:\n" + lines(r.Notices)
			if len(problems) == 0 {
				got += string(js) + "\n"
			}
			golden(t, file+".golden", got)
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

// TestPair spells out what the sample must mean, whatever the golden file says.
func TestPair(t *testing.T) {
	r, problems := Parse("testdata/pair.conf", os.ReadFile, nil)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	c := r.Config
	if got := fmt.Sprint(c.Routers[0].Addresses); got != "[{172.25.88.100/32   false}]" {
		t.Errorf("addresses %s", got)
	}
	s := c.Services[0]
	if s.String() != "tcp/172.25.88.100:80" || s.Scheduler != "rr" || s.Method != fsm.DirectRouting || s.Persistence != 0 {
		t.Errorf("service %+v", s)
	}
	sec := func(n int) fsm.Duration { return fsm.Duration(time.Duration(n) * time.Second) }
	for i, rs := range s.RealServers {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 25, 88, byte(2 + i)}), 80)
		want := fsm.Check{Kind: fsm.CheckTCP, Dest: addr, ConnectTimeout: sec(3), Retry: 3,
			DelayBeforeRetry: sec(3), DelayLoop: sec(6), Warmup: sec(6)}
		if rs.AddrPort() != addr || rs.Weight != 1 || len(rs.Checks) != 1 || rs.Checks[0] != want {
			t.Errorf("real server %d: %+v", i, rs)
		}
	}
}

// TestUnclosed: the place of the block that lacks its brace, and nothing else.
func TestUnclosed(t *testing.T) {
	_, problems := Parse("testdata/pair-unclosed.conf", os.ReadFile, nil)
	if len(problems) != 1 || problems[0].Line != 34 || problems[0].Keyword != "virtual_server" ||
		!strings.Contains(problems[0].Text, "never closed") {
		t.Error(lines(problems))
	}
}
