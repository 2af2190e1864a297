package conf

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// TestMerge reads testdata/merge/*.txtar: the files of the nodes, and in "take"
// the choices.
func TestMerge(t *testing.T) {
	files, err := filepath.Glob("testdata/merge/*.txtar")
	if err != nil || len(files) < 4 {
		t.Fatalf("the samples are missing: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := Merge(sourcesOf(t, a))
			golden(t, file+".golden", mergedText(m, err))
		})
	}
}

func sourcesOf(t *testing.T, a *txtar.Archive) (sources []Source, choices []string) {
	for _, f := range a.Files {
		if f.Name == "take" {
			choices = strings.Fields(string(f.Data))
			continue
		}
		open := func(string) ([]byte, error) { return f.Data, nil }
		r, problems := Parse(f.Name, open, nil)
		if len(problems) > 0 {
			t.Fatal(lines(problems))
		}
		sources = append(sources, Source{f.Name, r})
	}
	return sources, choices
}

func mergedText(m Merged, err error) string {
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, d := range m.Differences {
		switch {
		case d.Open():
			b.WriteString("DECIDE ")
		case d.PerNode:
			b.WriteString("node   ")
		default:
			b.WriteString("taken " + d.Taken + " ")
		}
		b.WriteString(strings.ReplaceAll(d.String(), "\n      ", "\n  ") + "\n")
	}
	for _, h := range m.Homes {
		fmt.Fprintf(&b, "home of %s: %s (%s)\n", h.Unit, h.Source, h.Why)
	}
	b.WriteString("notices:\n" + lines(m.Notices))
	js, _ := json.MarshalIndent(m.Config, "", "  ")
	return b.String() + string(js) + "\n"
}

const tiny = `vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority %d
    state %s
    virtual_ipaddress {
        10.0.0.1
    }
}
`

func source(t *testing.T, name, text string) Source {
	r, problems := Parse(name, func(string) ([]byte, error) { return []byte(text), nil }, nil)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	return Source{name, r}
}

func TestMergeHomes(t *testing.T) {
	for _, tt := range []struct {
		name, a, b, want string
		priority         uint8
	}{
		{"priority", fmt.Sprintf(tiny, 100, "BACKUP"), fmt.Sprintf(tiny, 150, "BACKUP"), "b/k.conf priority 150 in b/k.conf:4, 100 in a/k.conf:4", 150},
		{"priority before state", fmt.Sprintf(tiny, 100, "MASTER"), fmt.Sprintf(tiny, 150, "BACKUP"), "b/k.conf priority 150 in b/k.conf:4, 100 in a/k.conf:4", 150},
		{"state", fmt.Sprintf(tiny, 100, "MASTER"), fmt.Sprintf(tiny, 100, "BACKUP"), "a/k.conf state MASTER in a/k.conf:5, BACKUP in b/k.conf:5", 100},
		{"none", fmt.Sprintf(tiny, 100, "BACKUP"), fmt.Sprintf(tiny, 100, "BACKUP"), "", 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Merge([]Source{source(t, "a/k.conf", tt.a), source(t, "b/k.conf", tt.b)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, h := range m.Homes {
				got += h.Source + " " + h.Why
			}
			if got != tt.want || m.Config.Routers[0].Priority != tt.priority {
				t.Errorf("home %q with priority %d, want %q", got, m.Config.Routers[0].Priority, tt.want)
			}
		})
	}
}

// A sync group is at home where all its routers are.
func TestMergeHomesOfGroups(t *testing.T) {
	pair := func(p1, p2 int) string {
		second := strings.NewReplacer("VI_1", "VI_2", "51", "52", "10.0.0.1", "10.0.0.2").Replace(tiny)
		return fmt.Sprintf(tiny, p1, "BACKUP") + fmt.Sprintf(second, p2, "BACKUP") + "vrrp_sync_group VG_1 {\n group {\n VI_1\n VI_2\n }\n}\n"
	}
	for _, tt := range []struct {
		a, b string
		want string
	}{
		{pair(100, 100), pair(150, 150), "VG_1 b"},
		{pair(100, 150), pair(150, 100), ""},
	} {
		m, err := Merge([]Source{source(t, "a", tt.a), source(t, "b", tt.b)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, h := range m.Homes {
			got += h.Unit + " " + h.Source
		}
		if got != tt.want {
			t.Errorf("homes %q, want %q", got, tt.want)
		}
	}
}

func TestMergeChoices(t *testing.T) {
	a := source(t, "x/lb.conf", fmt.Sprintf(tiny, 100, "BACKUP"))
	b := source(t, "y/lb.conf", strings.Replace(fmt.Sprintf(tiny, 100, "BACKUP"), "10.0.0.1", "10.0.0.9", 1))
	c := source(t, "z/other.conf", fmt.Sprintf(tiny, 100, "BACKUP"))
	for _, tt := range []struct {
		take, want string // the VIP; empty: an error or open
		err        bool
	}{
		{"", "", false},
		{"x/lb.conf", "10.0.0.1", false},
		{"y/lb.conf", "10.0.0.9", false},
		{"y/lb.conf:7", "10.0.0.9", false},
		{"x/lb.conf:7", "10.0.0.1", false},
		{"lb.conf", "", true}, // both are called so
		{"x/lb.conf:4", "", true},
		{"y/lb.conf:", "", true},
		{"lb2", "", true},
	} {
		t.Run(tt.take, func(t *testing.T) {
			m, err := Merge([]Source{a, b}, strings.Fields(tt.take))
			if (err != nil) != tt.err {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			open := false
			for _, d := range m.Differences {
				open = open || d.Open()
			}
			if open != (tt.want == "") {
				t.Fatalf("open: %v, %v", open, m.Differences)
			}
			if got := m.Config.Routers[0].Addresses[0].Prefix.Addr().String(); tt.want != "" && got != tt.want {
				t.Errorf("got %s", got)
			}
		})
	}
	if _, err := Merge([]Source{a, c}, []string{"other.conf"}); err != nil {
		t.Errorf("a short name that tells the files apart: %v", err)
	}
}

// Whichever side is taken, the result says nothing that is not in a file, and
// taking one file in everything gives that file, but for what may differ.
func TestMergeTakesOneSideWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := drawnSource(t, "one"), drawnSource(t, "two")
		for i, want := range []Source{one, two} {
			m, err := Merge([]Source{one, two}, []string{want.Name})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range m.Differences {
				if d.Open() {
					t.Fatalf("still open: %v", d)
				}
			}
			for _, d := range fsm.Compare(m.Config, want.Result.Config) {
				if !perNode[d.Field] && d.Field != "order" && d.Field != "virtual_ipaddress" {
					t.Fatalf("taking file %d leaves %+v", i, d)
				}
			}
		}
		m, err := Merge([]Source{one, one}, nil)
		if err != nil || len(m.Differences) > 0 {
			t.Fatalf("a file differs from itself: %v %v", m.Differences, err)
		}
	})
}

func drawnSource(t *rapid.T, name string) Source {
	text, err := WriteKeepalived(drawConfig(t))
	if err != nil {
		t.Skip(err)
	}
	r, problems := Parse(name, func(string) ([]byte, error) { return text, nil }, nil)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	return Source{name, r}
}
