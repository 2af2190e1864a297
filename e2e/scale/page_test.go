package scale

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "write docs/size.md and docs/size.svg")
	record = flag.String("record", "", "with -update: take this size.json in first")
)

const (
	kept = "../testdata/size.json"
	docs = "../../docs/"
)

// The page and the plot say what the record does.
func TestSizePage(t *testing.T) {
	if _, err := os.Stat(docs); err != nil {
		t.Skip("the sources are not here")
	}
	if *record != "" {
		b, err := json.MarshalIndent(Renew(figures(t, kept), figures(t, *record)), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(kept, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all := figures(t, kept)
	for name, want := range map[string]string{"size.md": Page(all), "size.svg": Plot(all)} {
		if *update {
			if err := os.WriteFile(docs+name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(docs + name); err != nil || string(got) != want {
			t.Errorf("docs/%s is not what the record gives (%v): go test ./e2e/scale -update writes it", name, err)
		}
	}
	for _, l := range lines {
		if !strings.Contains(Plot(all), l.label) || !hasFigure(all, l.who, l.what) {
			t.Errorf("the record has no %s of %s", l.what, l.who)
		}
	}
}

func figures(t *testing.T, path string) (all []Figure) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A part that is measured again replaces what was known of it, and nothing else.
func TestRenew(t *testing.T) {
	known := []Figure{{What: "a"}, {Part: leases, What: "b"}, {Part: large, What: "c"}}
	got := Renew(known, []Figure{{Part: leases, What: "d"}})
	if want := []Figure{{What: "a"}, {Part: large, What: "c"}, {Part: leases, What: "d"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Renew(known, []Figure{{Part: Sizes, What: "d"}}); len(got) != 3 || got[2].What != "d" {
		t.Errorf("the sizes have no name in old records: %v", got)
	}
}

func hasFigure(all []Figure, who, what string) bool {
	for _, f := range all {
		if f.Who == who && f.What == what {
			return true
		}
	}
	return false
}
