package health

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/farm"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

var (
	update = flag.Bool("update", false, "write docs/health-speed.md")
	newer  = flag.String("record", "", "with -update: take this health.json in first")
)

const (
	kept = "../testdata/health.json"
	page = "../../docs/health-speed.md"
)

func read(t *testing.T, name string) (all []Figure) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The page says what the record does.
func TestHealthPage(t *testing.T) {
	if _, err := os.Stat("../../docs"); err != nil {
		t.Skip("the sources are not here")
	}
	if *newer != "" {
		var older []Figure
		if _, err := os.Stat(kept); err == nil {
			older = read(t, kept)
		}
		b, err := json.MarshalIndent(Merge(older, read(t, *newer)), "", " ")
		if err == nil {
			err = os.WriteFile(kept, append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all := read(t, kept)
	if *update {
		if err := os.WriteFile(page, []byte(Page(all)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != Page(all) {
		t.Errorf("%s is not what the record gives (%v): go test ./e2e/health -update writes it", page, err)
	}
	for _, want := range []string{Fast.String(), Example.String(), "entries of the Raft log", crowds[0].String(), crowds[2].String()} {
		if !strings.Contains(Page(all), want) {
			t.Errorf("nothing is told of %q", want)
		}
	}
}

func TestMerge(t *testing.T) {
	old := []Figure{{Part: Deaths, What: "a"}, {Part: Checkers, What: "b"}}
	got := Merge(old, []Figure{{Part: Checkers, What: "c"}, {Part: Checkers, What: "d"}})
	if len(got) != 3 || got[0].What != "a" || got[1].What != "c" || got[2].What != "d" {
		t.Errorf("got %+v", got)
	}
}

// The settings that are meant are what both programs get.
func TestPairConf(t *testing.T) {
	b, err := os.ReadFile("../../deploy/keepalived-pair.conf")
	if err != nil {
		t.Skip("the sources are not here")
	}
	for _, s := range []Settings{Example, Fast, {Loop: 9, Timeout: 8, Retry: 7, Pause: 5}} {
		for _, text := range []string{with(string(b), s), forPair(with(string(b), s))} {
			for _, c := range checksOf(t, text) {
				got := Settings{int(c.DelayLoop.D().Seconds()), int(c.ConnectTimeout.D().Seconds()), c.Retry, int(c.DelayBeforeRetry.D().Seconds())}
				if got != s {
					t.Errorf("got %+v, want %+v, from\n%s", got, s, text)
				}
			}
		}
	}
	pair := forPair(string(b))
	if strings.Contains(pair, "172.25.88.100") || !strings.Contains(pair, "virtual_router_id 52") || !strings.Contains(asBackup(pair), "priority 50") {
		t.Errorf("the pair's is\n%s", pair)
	}
}

func checksOf(t *testing.T, text string) (all []fsm.Check) {
	t.Helper()
	for _, s := range parse(t, text).Services {
		for _, r := range s.RealServers {
			all = append(all, r.Checks...)
		}
	}
	if len(all) == 0 {
		t.Fatalf("nothing is checked in\n%s", text)
	}
	return all
}

func parse(t *testing.T, text string) fsm.Config {
	t.Helper()
	r, problems := conf.Parse("f", func(string) ([]byte, error) { return []byte(text), nil }, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return r.Config
}

// A crowd is as many different servers as it says, in as many virtual servers.
func TestCrowdConf(t *testing.T) {
	for _, c := range []Crowd{{250, 1}, {120, 3}, {10000, 1}} {
		entries, servers, virtual := 0, map[netip.Addr]bool{}, map[netip.Addr]bool{}
		for _, s := range parse(t, crowdConf(c, each)).Services {
			virtual[s.Addr] = true
			for _, r := range s.RealServers {
				entries++
				servers[r.Addr] = crowdNetwork.Contains(r.Addr)
				if len(r.Checks) != 1 || r.Checks[0].DelayLoop.D() != time.Second {
					t.Fatalf("%s: %+v", c, r)
				}
			}
		}
		if entries != c.entries() || len(servers) != c.Servers || len(virtual) != c.Repeated*((c.Servers+pool-1)/pool) {
			t.Errorf("%s: %d real servers, %d different, %d virtual servers", c, entries, len(servers), len(virtual))
		}
	}
}

// Turns in which the machine stood still count in no figure but one.
func TestFigures(t *testing.T) {
	at := time.Unix(100, 0)
	both := func(first, last int) map[string]change {
		c := change{at.Add(time.Duration(first) * time.Millisecond), at.Add(time.Duration(last) * time.Millisecond)}
		return map[string]change{ours: c, theirs: c}
	}
	turns := []turn{
		{down: true, began: at, tables: both(10, 30), vote: at.Add(5 * time.Millisecond), failed: map[string]int{ours: 3, theirs: 4}},
		{down: false, began: at, tables: both(10, 90), vote: at.Add(5 * time.Millisecond)},
		{down: true, began: at, tables: both(10, 9000), vote: at, standing: true},
	}
	got := map[string]float64{}
	for _, f := range figures(Fast, turns) {
		got[f.Who+": "+f.What] = f.Value
	}
	for what, want := range map[string]float64{
		"lbcluster: a dead server is out of all tables, of 1 deaths: worst":        30,
		"keepalived: requests that failed meanwhile, of 50 a second: median":       4,
		"lbcluster: from the first table to the last, of 2 changes: worst":         80,
		"lbcluster: from the deciding vote to the last table, of 2 changes: worst": 85,
		": changes left out, for the machine stood still":                          1,
	} {
		if v, ok := got[what]; !ok || v != want {
			t.Errorf("%s: %v, want %v, in %v", what, v, want, got)
		}
	}
}

func TestAims(t *testing.T) {
	got := aims([]Figure{
		{Deaths, Fast.String(), ours, "from the deciding vote to the last table, of 20 changes: median", 500, "ms"},
		{Deaths, Fast.String(), ours, "from the deciding vote to the last table, of 20 changes: worst", 101, "ms"},
		{Checkers, crowds[0].String(), ours, cpuACheck, 0.3, "ms"}, {Checkers, crowds[0].String(), theirs, cpuACheck, 0.2, "ms"},
		{Checkers, crowds[1].String(), ours, cpuACheck, 0.3, "ms"},
	})
	const want = "* All tables change within 100 ms of the deciding vote, the worst of 20: missed, with 101 ms.\n" +
		"* No more CPU a check than keepalived: 1.50 times as much with 1000 servers, each every 1 s.\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestLoadFigures(t *testing.T) {
	c := crowd{Crowd{200, 10}, each}
	u, idle := lab.Usage{RSS: 30, CPU: 3 * time.Second}, lab.Usage{CPU: 500 * time.Millisecond} // in 5 s
	n := farm.Counts{Accepted: 2000, Again: 1000, Late: 10}
	got := map[string]string{}
	for _, t := range tables(loadFigures(c, ours, u, idle, n, 10*time.Second)) {
		for _, r := range t.rows {
			got[r.what] = r.cells[0] + r.cells[1]
		}
	}
	for what, want := range map[string]string{
		"CPU a check, without that, ms": "1-", "CPU a check, all of it, ms": "1.5-", "CPU before there were checks, %": "10-",
		"checks that reached the servers, a second": "200-", "checks later than a tenth of the interval, %": "1-",
	} {
		if got[what] != want {
			t.Errorf("%s: %q, want %q, of %v", what, got[what], want, got)
		}
	}
	for _, f := range loadFigures(c, theirs, u, idle, n, time.Second) {
		if strings.Contains(f.What, "later") {
			t.Error("what is late of ten checks of one address is told")
		}
	}
}
