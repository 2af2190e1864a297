package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// TestRollingUpgrade: nothing is written that a member of the old version cannot
// read, whoever leads; once all are upgraded everything can be, and then an old
// program gets in no more.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	a, token := foundBy(t, newOldMachine(t, "a", 2))
	b, c := newOldMachine(t, "b", 2), newOldMachine(t, "c", 2)
	b.join(token)
	c.join(token)
	all := []*machineUnderTest{a, b, c}
	awaitVoters(t, all, 3)
	onlyV3 := fsm.Command{Settings: &fsm.SetSettings{Health: "any-down"}}
	for i, m := range all {
		if used := a.node.Table().Used; used != 2 {
			t.Fatalf("before %s is upgraded, version %d was used", m.cfg.Name, used)
		}
		m.reads = 3
		m.restart()
		eventually(t, "the others hear of it", func() bool { return said(all, mustID(m), 3) })
		_, err := m.node.Propose(within10(t), onlyV3)
		if last := i == len(all)-1; last != (err == nil) || !last && !strings.Contains(err.Error(), "older") {
			t.Errorf("%d of 3 are upgraded: %v", i+1, err)
		}
		if _, err := m.node.Propose(within10(t), settle([]string{"robust", "default", "fast"}[i])); err != nil {
			t.Errorf("%d of 3 are upgraded: what all can read: %v", i+1, err)
		}
	}
	for _, m := range all {
		eventually(t, "the table has it", func() bool { return m.node.Table().Settings.Health == "any-down" })
		if err := m.node.Status().Trouble; err != "" {
			t.Errorf("%s: %s", m.cfg.Name, err)
		}
	}
	late := newOldMachine(t, "late", 2)
	fresh, err := a.node.NewToken(within10(t), time.Minute, 2, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := late.node.Join(within10(t), "", fresh, fsm.Director); err == nil || !strings.Contains(err.Error(), "lbcluster on late is too old") {
		t.Errorf("an old program joins: %v", err)
	}
	late.reads = 0
	late.restart()
	late.join(fresh)
}

func said(all []*machineUnderTest, id fsm.MemberID, reads int) bool {
	for _, m := range all {
		if got, ok := m.node.Table().Member(id); !ok || got.Reads != reads {
			return false
		}
	}
	return true
}

// TestDowngradeIsRefused: a program that is too old for what its data folder has
// neither starts nor touches it.
func TestDowngradeIsRefused(t *testing.T) {
	t.Parallel()
	m, _ := found(t, "a")
	m.stop()
	path := filepath.Join(m.cfg.Dir, fileTable)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(b), `{"v":3,`, `{"v":99,"news":{},`, 1)
	if newer == string(b) {
		t.Fatalf("no version in %.80s", b)
	}
	if err := os.WriteFile(path, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	before := contents(t, m.cfg.Dir)
	if err := Readable(m.cfg.Dir); !errors.Is(err, fsm.ErrUnknownCommand) {
		t.Errorf("it could be executed: %v", err)
	}
	_, err = New(m.cfg)
	if !errors.Is(err, fsm.ErrUnknownCommand) || !strings.Contains(err.Error(), "install the newer one again") {
		t.Errorf("it starts: %v", err)
	}
	if after := contents(t, m.cfg.Dir); after != before {
		t.Errorf("the folder was %s and is %s", before, after)
	}
}

// contents are the names, sizes and times of a folder's files.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			out.WriteString(path + " " + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
