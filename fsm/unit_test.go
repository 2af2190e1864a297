package fsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// The text of a thing stands for the thing in Diff and Target: a field that it
// leaves out would be a change that nobody applies. So each field of each type
// is changed in turn; a field that is added later is found here.
func TestEveryFieldShowsInDiff(t *testing.T) {
	base := richTable(t).Config("default")
	base.Globals.NotificationEmail = []string{"a@b"}
	base.Globals.IPVS = IPVS{
		Sync:       &ConnSync{Interface: "eth1", Instance: "VI_1", ID: 51, Group: netip.MustParseAddr("224.0.0.82"), Port: 8849, TTL: 2, MaxLen: 1400},
		TCPTimeout: Duration(time.Minute), TCPFINTimeout: Duration(time.Minute), UDPTimeout: Duration(time.Minute),
		Sysctls: map[string]string{"sloppy_tcp": "0"},
	}
	base.Services[0].RealServers = append(base.Services[0].RealServers, RealServer{Addr: addr4(3), Port: 80})
	script := &Script{Command: "/bin/true x", User: "nobody"}
	notify := Notify{Master: script, Backup: script, Fault: script, Stop: script, Any: script}
	track := []Tracker{{Kind: TrackInterface, Name: "eth9"}}
	base.Routers[0].Track, base.Routers[0].Notify = track, notify
	base.Groups = []SyncGroup{{Name: "VG_1", Routers: []string{"VI_1"}, Track: track, Notify: notify}}
	table := founded(t)
	if problems := table.ValidateSet("default", base); len(problems) > 0 {
		t.Fatal(problems)
	}
	table, _, err := table.Apply(Command{Apply: &ApplySet{Set: "default", Config: base}})
	if err != nil {
		t.Fatal(err)
	}
	derived := map[string]bool{"Routers.ID": true, "Routers.Set": true, "Services.Set": true, "Groups.ID": true, "Groups.Set": true}
	seen := 0
	var cfg Config
	mutations(reflect.ValueOf(&cfg).Elem(), func() { cfg = deepCopy(base) }, func(path string) {
		seen++
		if got := len(table.Diff("default", cfg)) > 0; got == derived[path] {
			t.Errorf("%s changed: a difference is seen: %v", path, got)
		}
	})
	if seen < 100 {
		t.Errorf("only %d fields were tried", seen)
	}
}

func TestEveryCheckFieldShowsInTarget(t *testing.T) {
	base := Config{Services: []VirtualServer{{RealServers: []RealServer{{Addr: addr4(2), Port: 80, Checks: []Check{aCheck(addr4(2))}}}}}}
	was := base.Services[0].RealServers[0].Target()
	var cfg Config
	server := func() RealServer { return cfg.Services[0].RealServers[0] }
	const prefix = "Services.RealServers."
	mutations(reflect.ValueOf(&cfg).Elem(), func() { cfg = deepCopy(base) }, func(path string) {
		name, ok := strings.CutPrefix(path, prefix)
		if !ok {
			return
		}
		matters := name == "Addr" || name == "Port" || strings.HasPrefix(name, "Checks")
		if got := server().Target() != was; got != matters {
			t.Errorf("%s changed: the target changed: %v", path, got)
		}
	})
}

// deepCopy goes by JSON, which is how configurations travel.
func deepCopy(c Config) Config {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	var out Config
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

// mutations changes one leaf below root (of lists: of the first element) after
// a reset and calls try with its path; for each leaf in turn.
func mutations(root reflect.Value, reset func(), try func(path string)) {
	reset()
	for _, l := range leaves(root, nil, "") {
		reset()
		v := root
		for _, step := range l.way {
			if v.Kind() == reflect.Pointer {
				v = v.Elem()
			}
			if step < 0 {
				v = v.Index(0)
			} else {
				v = v.Field(step)
			}
		}
		alter(v)
		try(l.path)
	}
}

type way struct {
	path string
	way  []int // field numbers; -1: the first element
}

func leaves(v reflect.Value, at []int, path string) []way {
	here := append([]int(nil), at...)
	switch v.Interface().(type) {
	case netip.Addr, netip.AddrPort, netip.Prefix:
		return []way{{path, here}}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return leaves(v.Elem(), at, path)
	case reflect.Struct:
		var all []way
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name := strings.TrimPrefix(path+"."+f.Name, ".")
			if f.Anonymous {
				name = path
			}
			all = append(all, leaves(v.Field(i), append(here, i), name)...)
		}
		return all
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		return leaves(v.Index(0), append(here, -1), path)
	}
	return []way{{path, here}}
}

func alter(v reflect.Value) {
	switch x := v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(addr4(77)))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.AddrPortFrom(x.Addr(), x.Port()+1)))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.PrefixFrom(x.Addr(), x.Bits()-1)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Map:
		for _, k := range v.MapKeys() {
			v.SetMapIndex(k, reflect.ValueOf(v.MapIndex(k).String()+"x"))
		}
	default:
		panic("alter " + v.Type().String())
	}
}

func TestTargetIgnoresOrderOfChecks(t *testing.T) {
	a, b := aCheck(addr4(2)), aCheck(addr4(3))
	one := RealServer{Addr: addr4(2), Port: 80, Weight: 1, Checks: []Check{a, b}}
	two := RealServer{Addr: addr4(2), Port: 80, Weight: 2, Checks: []Check{b, a}}
	if one.Target() != two.Target() {
		t.Errorf("%q and %q", one.Target(), two.Target())
	}
	if got := (RealServer{Addr: addr4(2), Port: 80}).Target(); got != "" {
		t.Errorf("without checks: %q", got)
	}
}

// The same server with the same checks under two virtual servers is probed once.
func TestTargetsOnce(t *testing.T) {
	cfg := richTable(t).Config("default")
	second := cfg.Services[0]
	second.Port, second.Protocol = 80, UDP
	cfg.Services = append(cfg.Services, second)
	table, _, err := founded(t).Apply(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Targets(); len(got) != 1 || got[0].Server != netip.MustParseAddrPort("10.0.0.2:80") || len(got[0].Checks) != 1 {
		t.Errorf("got %v", got)
	}
}

// What the caller does with his configuration afterwards is his business.
func TestApplyKeepsNothingOfTheCaller(t *testing.T) {
	cfg := deepCopy(richTable(t).Config("default"))
	cfg.Globals.NotificationEmail = []string{"a@b"}
	weight := 7
	table, _, err := founded(t).Apply(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	if err != nil {
		t.Fatal(err)
	}
	table, _, err = table.Apply(Command{Override: &SetOverride{Server: netip.MustParseAddrPort("10.0.0.2:80"), Weight: &weight}})
	if err != nil {
		t.Fatal(err)
	}
	before := mustSnapshot(t, table)
	cfg.Globals.NotificationEmail[0] = "x"
	cfg.Routers[0].Addresses[0].Label = "x"
	cfg.Services[0].RealServers[0].Checks[0].Retry = 99
	cfg.Services[0].RealServers[0].Weight = 99
	weight = 99
	if after := mustSnapshot(t, table); !bytes.Equal(before, after) {
		t.Errorf("%s became %s", before, after)
	}
}

func TestOrder(t *testing.T) {
	member := func(id MemberID, role Role, state MemberState) Member {
		return Member{ID: id, Role: role, State: state}
	}
	table := &Table{
		Members: []Member{
			member("m1", Director, Present), member("m2", Witness, Present), member("m3", Director, Joining),
			member("m4", Director, Leaving), member("m9", Director, Present), member("m10", Director, Present),
		},
		Routers: []Router{{ID: 1}, {ID: 2}, {ID: 3}, {ID: 5}},
	}
	for router, want := range map[uint64]string{
		1: "[m1 m9 m10]", 2: "[m9 m10 m1]", 3: "[m10 m9 m1]", 4: "[]", 5: "[m1 m10 m9]",
	} {
		if got := fmt.Sprint(table.Order(router)); got != want {
			t.Errorf("router %d: %s, want %s", router, got, want)
		}
	}
	table.Places = table.places()
	table.Members[0].Silent, table.Members[5].Drained = true, true
	if got := fmt.Sprintln(table.Order(1), table.Home(1), table.Order(3), table.Home(3)); got != "[m9 m1] m1 [m9 m1] m10\n" {
		t.Errorf("with m1 silent and m10 drained: %s", got)
	}
	if got := (&Table{Routers: []Router{{ID: 1}}}).Order(1); got != nil {
		t.Errorf("without members: %v", got)
	}
}

func TestLookups(t *testing.T) {
	table := richTable(t)
	m, ok := table.MemberByName("dir1")
	m2, ok2 := table.Member("m2")
	if !ok || !ok2 || !reflect.DeepEqual(m, m2) {
		t.Errorf("member: %v %v", m, m2)
	}
	r, ok := table.RouterByName("VI_1")
	r2, ok2 := table.Router(1)
	if !ok || !ok2 || r.ID != 1 || r2.Name != "VI_1" {
		t.Errorf("router: %v %v", r, r2)
	}
	if v, ok := table.Service(ServiceKey{Addr: addr4(100), Port: 80, Protocol: TCP}); !ok || v.Scheduler != "rr" {
		t.Errorf("service: %v", v)
	}
	if _, ok := table.Service(ServiceKey{Addr: addr4(100), Port: 80, Protocol: UDP}); ok {
		t.Error("a service of another protocol")
	}
	if got := fmt.Sprint(table.VIPs()); got != "[10.0.0.100]" {
		t.Errorf("VIPs: %s", got)
	}
}

func TestMemberIDNumber(t *testing.T) {
	for id, want := range map[MemberID]uint64{"m1": 1, "m10": 10, "m0": 0, "m01": 0, "m+1": 0, "1": 0, "m": 0, "x1": 0, "m99999999999999999999": 0} {
		if n, ok := id.number(); ok != (want > 0) || ok && n != want {
			t.Errorf("%q: %d %v", id, n, ok)
		}
	}
}

func TestAdvertProblem(t *testing.T) {
	for _, tt := range []struct {
		version uint8
		d       time.Duration
		ok      bool
	}{
		{2, 0, false}, {2, 999 * time.Millisecond, false}, {2, time.Second, true}, {2, 255 * time.Second, true},
		{2, 256 * time.Second, false}, {3, 9 * time.Millisecond, false}, {3, 10 * time.Millisecond, true},
		{3, 15 * time.Millisecond, false}, {3, 40950 * time.Millisecond, true}, {3, 40960 * time.Millisecond, false},
	} {
		if got := advertProblem(tt.version, tt.d); (got == "") != tt.ok {
			t.Errorf("version %d, %v: %q", tt.version, tt.d, got)
		}
	}
}

func TestNameProblem(t *testing.T) {
	for name, ok := range map[string]bool{
		"VI_1": true, "web.example-1:2@x+": true, "网关": true, "": false, "-x": false, "a b": false, "a/b": false, "a\"": false,
		"a{": false, "a\n": false, "\xff": false, "a\u2028": false, "a\u0085": false, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false,
	} {
		if got := nameProblem(name); (got == "") != ok {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// Whether text is cleaned or goes through JSON first must not matter.
func TestCleanAgreesWithJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := string(rapid.SliceOf(rapid.SampledFrom([]byte("a\n\x7f\xff\xc3\xa9\xe2\x80\xa8\xef\xbf\xbd"))).Draw(t, "bytes"))
		limit := rapid.IntRange(0, 12).Draw(t, "limit")
		b, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		var carried string
		if err := json.Unmarshal(b, &carried); err != nil {
			t.Fatal(err)
		}
		got := clean(raw, limit)
		if got != clean(carried, limit) || !isClean(got, limit) || !utf8.ValidString(got) || len(got) > limit {
			t.Fatalf("%q is cleaned to %q, carried as %q", raw, got, carried)
		}
	})
}

// What a member puts into the history is shown on terminals.
func TestCleanLeavesTerminalsAlone(t *testing.T) {
	for _, bad := range []string{"\x1b[2J", "\u009b2J", "\u0085", "\u202egnp", "\u2066x"} {
		if got := clean(bad, maxDetail); isClean(bad, maxDetail) || got[0] != ' ' {
			t.Errorf("%q is cleaned to %q", bad, got)
		}
	}
	if good := "größer 漢字 ‘x’"; !isClean(good, maxDetail) {
		t.Errorf("%q is not clean", good)
	}
}

func TestEventsAreBounded(t *testing.T) {
	table := founded(t)
	var err error
	for i := range EventsKept + 10 {
		table, _, err = table.Apply(Command{Settings: &SetSettings{Profile: Profiles[1-i%2]}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(table.Events) != EventsKept || table.Events[0].Revision != table.Revision-EventsKept+1 {
		t.Errorf("%d events from revision %d at %d", len(table.Events), table.Events[0].Revision, table.Revision)
	}
}

// manyServers is a table with n checked servers in groups of 100.
func manyServers(t testing.TB, n int) *Table {
	var cfg Config
	for i := range n {
		if i%100 == 0 {
			key := ServiceKey{Addr: netip.AddrFrom4([4]byte{10, 9, byte(i / 100), 1}), Port: 80, Protocol: TCP}
			cfg.Services = append(cfg.Services, VirtualServer{ServiceKey: key, Scheduler: "rr", Method: DirectRouting})
		}
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i%250 + 1)})
		v := &cfg.Services[len(cfg.Services)-1]
		v.RealServers = append(v.RealServers, RealServer{Addr: addr, Port: 80, Weight: 1, Checks: []Check{aCheck(addr)}})
	}
	table, _, err := founded(t).Apply(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// votesOn are votes of the only director on all targets.
func votesOn(table *Table, up bool) Command {
	v := &CastVotes{Member: "m1"}
	for _, info := range table.Targets() {
		v.Opinions = append(v.Opinions, Opinion{info.Target, Vote{Up: up}})
	}
	return Command{Votes: v}
}

// A storm leaves older history, and says how much it was.
func TestStormIsSummedUp(t *testing.T) {
	table := manyServers(t, 1200)
	table, _, err := table.Apply(votesOn(table, false))
	if err != nil {
		t.Fatal(err)
	}
	const want = "and of further real servers 1180 are down and 0 up"
	said := slices.ContainsFunc(table.Events, func(e Event) bool { return e.Text == want })
	if !said || table.Events[0].Revision != 1 {
		t.Errorf("it is not summed up; the oldest event is of revision %d", table.Events[0].Revision)
	}
	if dests := table.Effective()[0].Dests; len(dests) != 0 {
		t.Errorf("%d destinations are left", len(dests))
	}
	var drains []Command
	for _, info := range table.Targets()[:EventsKept+5] {
		drains = append(drains, Command{Override: &SetOverride{Server: info.Server, State: Drained}})
	}
	for _, c := range drains {
		if table, _, err = table.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	table, result, err := table.Apply(Command{Apply: &ApplySet{Set: "default"}})
	if err != nil || len(table.Overrides)+len(table.Votes)+len(table.Health) != 0 {
		t.Fatalf("%v: %d overrides, %d votes, %d healths are left", err, len(table.Overrides), len(table.Votes), len(table.Health))
	}
	news := 0
	for _, e := range table.Events {
		if e.Revision == result.Revision {
			news++
		}
	}
	if news != 1+eventsPerCommand+1 {
		t.Errorf("the apply told %d events", news)
	}
}

// One vote among 10,000 servers must not cost as much as making the table.
func TestOneVoteIsCheap(t *testing.T) {
	table := manyServers(t, 10000)
	table, _, err := table.Apply(votesOn(table, true))
	if err != nil {
		t.Fatal(err)
	}
	c := Command{Votes: &CastVotes{"m1", []Opinion{{table.Targets()[5000].Target, Vote{Up: false}}}}}
	allocs := testing.AllocsPerRun(5, func() {
		if _, result, err := table.Apply(c); err != nil || !result.Changed {
			t.Fatal(err)
		}
	})
	if allocs > 500 {
		t.Errorf("one vote: %v allocations", allocs)
	}
	all := votesOn(table, false)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, result, err := table.Apply(all); err != nil || !result.Changed {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	// Copying the votes once for each would take a hundred times as much.
	if each := (after.TotalAlloc - before.TotalAlloc) / 10000; each > 10<<10 {
		t.Errorf("10,000 votes: %d bytes for each", each)
	}
}

// A table put together by hand, without an index, works too.
func TestTableByHand(t *testing.T) {
	rich := richTable(t)
	byHand := *rich
	byHand.idx = nil
	if len(byHand.Targets()) != 1 {
		t.Errorf("targets: %v", byHand.Targets())
	}
	next, _, err := byHand.Apply(votesOn(rich, true))
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Check(); err != nil {
		t.Error(err)
	}
	zero := &Table{}
	if _, _, err := zero.Apply(Command{Votes: &CastVotes{}}); err == nil {
		t.Error("the zero table takes votes")
	}
	if err := zero.Check(); err == nil {
		t.Error("the zero table is fine, but its ids would begin at 0")
	}
}
