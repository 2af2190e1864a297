package e2e

import (
	"strings"
	"testing"

	"lbcluster/e2e/health"
	"lbcluster/e2e/lab"
)

// A server that died leaves the tables of all directors, and of a keepalived pair that
// checks it too, and comes back to them. How long it takes is told; make bench measures
// it.
func TestDeadServerLeavesAllTables(t *testing.T) {
	lab.Need(t)
	said := ""
	for _, f := range health.Quick(t) {
		t.Logf("%s: %s: %.0f %s", f.Who, f.What, f.Value, f.Unit)
		said += f.What + "\n"
	}
	if !strings.Contains(said, "left out") {
		t.Errorf("no turn was taken, only\n%s", said)
	}
}

// Servers that flap together are voted on together, and calm writes nothing.
func TestLogOfFlaps(t *testing.T) {
	lab.Need(t)
	crowd := health.Crowd{Servers: 200, Repeated: 1}
	l := health.QuickLog(t, crowd)
	t.Logf("%+v", l)
	if opinions := 2 * 3 * crowd.Servers; l.Entries == 0 || l.Entries > opinions/2 {
		t.Errorf("%d entries for %d opinions", l.Entries, opinions)
	}
	if l.Calm != 0 {
		t.Errorf("%d entries in the calm", l.Calm)
	}
}
