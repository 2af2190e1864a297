package fsm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawTable is a table after some commands.
func drawTable(t *rapid.T) *Table {
	table := founded(t)
	for range rapid.IntRange(1, 25).Draw(t, "steps") {
		table, _, _ = table.Apply(drawCommand(t, table)) // one that fails changes nothing
	}
	return table
}

func drawSnapshots(t *rapid.T, s *SetSettings) {
	every := Duration(rapid.SampledFrom([]int64{0, 1, int64(time.Hour)}).Draw(t, "every"))
	kept := rapid.IntRange(-1, 9).Draw(t, "kept")
	s.SnapshotEvery, s.SnapshotsKept = &every, &kept
}

// drawReinstate draws what the table has, with this and that changed.
func drawReinstate(t *rapid.T, table *Table) *Reinstate {
	a := table.Agreement()
	if table.Cluster == "" {
		a.Settings.Profile = "default"
	}
	if len(a.Sets) > 0 && rapid.Bool().Draw(t, "without a set") {
		a.Sets = a.Sets[1:]
	}
	for _, name := range []string{"default", "web"} {
		if rapid.IntRange(0, 2).Draw(t, "another set") > 0 {
			continue
		}
		a.Sets = slices.DeleteFunc(slices.Clone(a.Sets), func(s AgreedSet) bool { return s.Name == name })
		if cfg := drawConfig(t); !cfg.empty() {
			a.Sets = append(a.Sets, AgreedSet{name, cfg})
		}
		slices.SortFunc(a.Sets, func(x, y AgreedSet) int { return cmp.Compare(x.Name, y.Name) })
	}
	if len(a.Sets) == 2 && rapid.IntRange(0, 3).Draw(t, "swap") == 0 {
		a.Sets[0].Config, a.Sets[1].Config = a.Sets[1].Config, a.Sets[0].Config
	}
	if rapid.IntRange(0, 2).Draw(t, "settings") == 0 {
		a.Settings = a.Settings.with(*drawSettings(t))
	}
	for range rapid.IntRange(0, 2).Draw(t, "overrides") {
		o := drawOverride(t, table)
		a.Overrides = append(a.Overrides, Override{Service: o.Service, Server: o.Server, State: o.State, Weight: o.Weight, Within: o.Within})
	}
	if rapid.Bool().Draw(t, "pins") {
		a.Pins = map[string]string{
			rapid.SampledFrom([]string{"VI_1", "VI_2", "VG_1"}).Draw(t, "unit"): rapid.SampledFrom([]string{"dir0", "dir1", "dir2", "dir9"}).Draw(t, "at"),
		}
	}
	return &Reinstate{Agreement: a, Why: rapid.SampledFrom([]string{"", "why\x00"}).Draw(t, "why")}
}

// TestSavedComesBack: what is saved can be read, changes nothing where it was saved, and
// makes another cluster agree on the same.
func TestSavedComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := drawTable(t)
		b, err := table.Save(epoch, "dir1\n")
		if err != nil {
			t.Fatal(err)
		}
		s, a, err := ReadSaved(b)
		if err != nil || s.Cluster != table.Cluster || s.Revision != table.Revision {
			t.Fatalf("%v, %+v\n%s", err, s, b)
		}
		if again, err := json.Marshal(table.Agreement()); err != nil || !bytes.Equal(again, mustJSON(t, a)) {
			t.Fatalf("%v: it was read as\n%s\ninstead of\n%s", err, mustJSON(t, a), again)
		}
		var flat bytes.Buffer
		if err := json.Compact(&flat, b); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadSaved(flat.Bytes()); err != nil {
			t.Fatalf("without its white space: %v", err)
		}
		other := founded(t)
		next, _, err := other.Apply(Command{At: epoch, Reinstate: &Reinstate{Agreement: a, Why: "a test"}})
		if errors.Is(err, ErrInvalid) {
			return // its members are elsewhere: an address may be one's own here
		}
		if err != nil {
			t.Fatal(err)
		}
		if left := next.DiffAgreement(a); len(left) > 0 {
			t.Fatalf("left: %v", left)
		}
	})
}

func mustJSON(t interface{ Fatal(...any) }, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSavedDamage: no single changed byte gets through unnoticed.
func TestSavedDamage(t *testing.T) {
	table, _, err := founded(t).Apply(Command{At: epoch, Settings: &SetSettings{Profile: "fast"}})
	if err != nil {
		t.Fatal(err)
	}
	good, err := table.Save(epoch, "dir1")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, with := range []byte{good[i] ^ 1, good[i] ^ 0x20, 'x'} {
			bad := bytes.Clone(good)
			if bad[i] = with; with == good[i] {
				continue
			}
			var got bytes.Buffer
			if json.Compact(&got, bad) == nil && bytes.Equal(got.Bytes(), want.Bytes()) {
				continue // white space between the words
			}
			s, _, err := ReadSaved(bad)
			if err == nil && strings.EqualFold(string(bad), string(good)) {
				continue // a field's name in capitals is the same name
			}
			if err == nil {
				t.Fatalf("byte %d: %q instead of %q was not noticed: %+v", i, with, good[i], s)
			}
		}
	}
	for n := range good[:len(good)-2] {
		if _, _, err := ReadSaved(good[:n]); !errors.Is(err, ErrInvalid) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
	}
}

// TestSavedNewer: what a newer program wrote is refused as that, not as damage.
func TestSavedNewer(t *testing.T) {
	good, err := founded(t).Save(epoch, "dir1")
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Replace(good, []byte(`"lbcluster_snapshot": 1`), []byte(`"lbcluster_snapshot": 2`), 1)
	_, _, err = ReadSaved(newer)
	if !errors.Is(err, ErrUnknownCommand) || !strings.Contains(err.Error(), "version 2") {
		t.Error(err)
	}
	var s Saved
	if err := json.Unmarshal(good, &s); err != nil {
		t.Fatal(err)
	}
	s.Agreement = json.RawMessage(`{"settings":{"profile":"default"},"sets":[],"tides":3}`)
	s.SHA256 = s.sum(s.Agreement)
	if _, _, err = ReadSaved(mustJSON(t, s)); !errors.Is(err, ErrUnknownCommand) || !strings.Contains(err.Error(), "tides") {
		t.Error(err)
	}
	for _, text := range []string{"", "{}", "null", "[]", `{"v":3,"table":{}}`, "virtual_server"} {
		if _, _, err := ReadSaved([]byte(text)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzReadSaved(f *testing.F) {
	good, err := founded(f).Save(epoch, "dir1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, a, err := ReadSaved(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnknownCommand) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if s.Format != SavedFormat {
			t.Fatal(s.Format)
		}
		table := founded(t)
		next, _, err := table.Apply(Command{At: epoch, Reinstate: &Reinstate{Agreement: a}})
		if err == nil && next.Check() != nil {
			t.Fatal(next.Check())
		}
	})
}

// TestReinstateWaits: while a member does not read it, a snapshot is not restored.
func TestReinstateWaits(t *testing.T) {
	if c := (Command{Reinstate: &Reinstate{}}); c.Needs() != CommandVersion {
		t.Errorf("it needs version %d", c.Needs())
	}
	table := founded(t)
	if _, _, err := table.Apply(Command{Version: 2, At: epoch, Reinstate: &Reinstate{Agreement: table.Agreement()}}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}
