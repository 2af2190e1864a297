package scale

import (
	"encoding/json"
	"flag"
	"os"
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
		b, err := os.ReadFile(*record)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(kept, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	var all []Figure
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
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

func hasFigure(all []Figure, who, what string) bool {
	for _, f := range all {
		if f.Who == who && f.What == what {
			return true
		}
	}
	return false
}
