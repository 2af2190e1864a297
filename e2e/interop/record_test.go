package interop

import (
	"slices"
	"testing"
	"time"
)

func TestRecordRoundTrip(t *testing.T) {
	rows := []Row{
		{StepPeerStarts, Cells[0], Seen{Holders: Holders{Cluster: true}}},
		{StepPeerStarts, Cells[5], Seen{Holders: Holders{Peer: true}, After: 1234 * time.Millisecond, Both: time.Millisecond, Taken: 2}},
		{StepPathCut, Cells[7], Seen{Holders: Holders{true, true}, After: 62 * time.Second, Nobody: 3 * time.Second, Twice: time.Minute}},
		{StepAllStop, Cells[7], Seen{}},
	}
	got, err := ReadRecord(WriteRecord(rows))
	if err != nil || !slices.Equal(got, rows) {
		t.Errorf("%+v, %v\n%s", got, err, WriteRecord(rows))
	}
}

func TestReadRecordRefuses(t *testing.T) {
	const good = "higher, preempt: cluster after 0s, both 0s, nobody 0s, twice 0s, taken 0\n"
	if _, err := ReadRecord([]byte("== x\n" + good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		good, "== x\nsomething\n", "== x\nhigher: cluster after 0s, both 0s, nobody 0s, twice 0s, taken 0\n",
		"== x\nhigher, preempt: them after 0s, both 0s, nobody 0s, twice 0s, taken 0\n",
		"== x\nhigher, preempt: cluster after 0, both 0s, nobody 0s, twice s, taken 0\n",
		"== x\nhigher, preempt: cluster after 0s, both 0s, nobody 0s, twice 0s, taken many\n",
		"== x\nhigher, preempt: cluster after 0s\n",
	} {
		if rows, err := ReadRecord([]byte(bad)); err == nil {
			t.Errorf("%q is read as %+v", bad, rows)
		}
	}
}
