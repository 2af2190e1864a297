package oracle

import (
	"maps"
	"testing"
)

// The dumps are keepalived's own, of testdata/mixed.conf,
// without lines that are state.
func TestReadDump(t *testing.T) {
	got := ReadDump(string(read(t, "testdata/vrrp.log")), string(read(t, "testdata/checkers.log")))
	if *update {
		golden(t, "testdata/facts.txt", WriteRecord(map[string]Facts{"dump": got}))
	}
	want, err := ReadRecord(read(t, "testdata/facts.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Compare("dump", want["dump"], got) {
		t.Errorf("%v: want %q, got %q", d.Fact, d.Theirs, d.Ours)
	}
}

// A field that nobody knows is a fact all the same: it can't go unnoticed.
func TestReadDumpKeepsTheUnknown(t *testing.T) {
	vrrp := "------< VRRP Topology >------\n VRRP Instance = V\n   New thing = 7\n"
	checkers := "------< LVS Topology >------\n ------< Virtual server >------\n VS VIP = 10.0.0.1, VPORT = 80\n   Early = a\n   protocol = TCP\n   Late = b\n" +
		"   ------< Real server >------\n   RIP = 10.0.0.2, RPORT = 80, WEIGHT = 1 EFF WEIGHT = 1\n   Odd = c\n" +
		"------< Health checkers >------\n [10.0.0.1]:tcp:80 -> [10.0.0.2]:tcp:80\n   Strange = d\n"
	want := Facts{
		{"vrrp_instance V", "New thing"}:                                                    "7",
		{"virtual_server tcp 10.0.0.1 80", "Early"}:                                         "a",
		{"virtual_server tcp 10.0.0.1 80", "Late"}:                                          "b",
		{"virtual_server tcp 10.0.0.1 80 > real_server 10.0.0.2 80", "weight"}:              "1",
		{"virtual_server tcp 10.0.0.1 80 > real_server 10.0.0.2 80", "Odd"}:                 "c",
		{"virtual_server tcp 10.0.0.1 80 > real_server 10.0.0.2 80 > check 1", "Strange 1"}: "d",
	}
	if got := ReadDump(vrrp, checkers); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestComplaints(t *testing.T) {
	got := Complaints("Mon Nov 23 06:36:00 2026: (/etc/k.conf: Line 5) Unknown keyword 'x'\n", "(Line 12) too small\n(Line 12) too small\n")
	want := []Complaint{{"5", "Unknown keyword 'x'"}, {"12", "too small"}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
}
