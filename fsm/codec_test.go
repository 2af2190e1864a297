package fsm

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", ``, "unexpected end"},
		{"null", `null`, "version 0"},
		{"array", `[]`, "cannot unmarshal"},
		{"no version", `{"by":"a","at":"2026-01-01T00:00:00Z","settings":{"profile":"fast"}}`, "version 0"},
		{"newer", `{"v":4,"frobnicate":{}}`, "upgrade lbcluster"},
		{"negative", `{"v":-1}`, "version -1"},
		{"no body", `{"v":1,"by":"a","at":"2026-01-01T00:00:00Z"}`, "0 bodies"},
		{"two bodies", `{"v":1,"remove":{"id":"m1"},"settings":{"profile":"fast"}}`, "2 bodies"},
		{"unknown body", `{"v":1,"frobnicate":{}}`, "unknown field"},
		{"unknown field", `{"v":1,"remove":{"id":"m1","now":true}}`, "unknown field"},
		{"more after it", `{"v":1,"remove":{"id":"m1"}} {}`, "after top-level value"},
		{"wrong type", `{"v":1,"remove":{"id":1}}`, "cannot unmarshal"},
		{"bad address", `{"v":1,"override":{"server":"10.0.0.1"}}`, "not an ip:port"},
		{"bad duration", `{"v":1,"apply":{"set":"s","config":{"globals":{"vrrp_garp_interval":"1 week"}}}}`, "duration"},
		{"year 0", `{"v":1,"at":"0000-06-01T00:00:00Z","remove":{"id":"m1"}}`, "years"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(tt.in))
			if !errors.Is(err, ErrUnknownCommand) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ErrUnknownCommand with %q", err, tt.want)
			}
		})
	}
}

// Encode must not let into the log what no member can read back.
func TestEncodeRefuses(t *testing.T) {
	bad := Config{Routers: []Router{{Name: "r", Addresses: []Address{{Prefix: netip.PrefixFrom(addr4(1), 99)}}}}}
	for name, c := range map[string]Command{
		"no body":        {},
		"newer":          {Version: CommandVersion + 1, Remove: &Remove{"m1"}},
		"invalid prefix": {Apply: &ApplySet{Set: "s", Config: bad}},
		"far future":     {At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), Remove: &Remove{"m1"}},
	} {
		if b, err := c.Encode(); err == nil {
			t.Errorf("%s: encoded as %s", name, b)
		}
	}
}

func TestEncodeBringsTimesToUTC(t *testing.T) {
	c := Command{At: time.Now().In(time.FixedZone("x", 3600)), Remove: &Remove{"m1"}}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(b)
	if err != nil || !back.At.Equal(c.At) || back.At.Location() != time.UTC {
		t.Errorf("got %v, %v, want %v in UTC", back.At, err, c.At)
	}
}

func TestApplyRefusesNewerVersion(t *testing.T) {
	table := founded(t)
	next, _, err := table.Apply(Command{Version: CommandVersion + 1, Settings: &SetSettings{Profile: "fast"}})
	if !errors.Is(err, ErrUnknownCommand) || next != table {
		t.Errorf("got %v", err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	good := string(mustSnapshot(t, richTable(t)))
	if _, err := Restore([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"newer", `{"v":3`, `{"v":4`, "version 4"},
		{"no version", `{"v":3,`, `{`, "version 0"},
		{"no table", good, `{"v":1}`, "no table"},
		{"unknown field", `"cluster":`, `"clusters":`, "unknown field"},
		{"cut off", `]}}],"used":3}}`, `]}}`, "unexpected end"},
		{"history ahead", `"history":[{"revision":6`, `"history":[{"revision":11`, "history at revision 11"},
		{"waiting for nothing", `"history":[`, `"pending":{"set":"default","revision":7,"at":"2026-01-01T00:00:00Z","by":"","within":"1m0s","before":{"globals":{},"routers":[],"services":[]}},"history":[`, "not in the history"},
		{"unit without a place", `"places":{"1":`, `"places":{"7":`, "no place"},
		{"order without a director", `{"order":["m1","m2"]}`, `{"order":["m1"]}`, "without m2"},
		{"order with a joining one", `{"order":["m1","m2"]}`, `{"order":["m1","m2","m3"]}`, "no present director"},
		{"pinned elsewhere", `{"order":["m1","m2"]}`, `{"order":["m1","m2"],"pin":"m2"}`, "pinned to m2"},
		{"pinned to nobody", `{"order":["m1","m2"]}`, `{"order":["m1","m2"],"pin":"m9"}`, "no member"},
		{"moved to nobody", `{"order":["m1","m2"]}`, `{"order":["m1","m2"],"moved":"m9"}`, "was moved to m9"},
		{"moved home for good", `{"order":["m1","m2"]}`, `{"order":["m1","m2"],"moved":"m1","arrived":true}`, "back home"},
		{"member twice", `"id":"m2"`, `"id":"m1"`, "out of order"},
		{"name twice", `"name":"dir1"`, `"name":"dir0"`, "member dir0"},
		{"id above the next", `"next_member":4`, `"next_member":3`, "not below m3"},
		{"router above the next", `"next_router":2`, `"next_router":1`, "not below 1"},
		{"huge number", `"next_router":2`, `"next_router":18446744073709551615`, "too large"},
		{"no director", `"role":"director"`, `"role":"witness"`, "no present director"},
		{"role", `"role":"director","state":"present","addr":"10.0.0.201`, `"role":"king","state":"present","addr":"10.0.0.201`, "king"},
		{"state", `"state":"joining"`, `"state":"lost"`, "lost"},
		{"vote of nobody", `"m1":{"up"`, `"m9":{"up"`, "no present director"},
		{"vote of a joining", `"m1":{"up"`, `"m3":{"up"`, "no present director"},
		{"votes on nothing", `{"10.0.0.2:80 tcp`, `{"10.0.0.3:80 tcp`, "no target"},
		{"health flipped", `{"down":true`, `{"down":false`, "disagree"},
		{"set gone", `"sets":[{"name":"default"`, `"sets":[{"name":"another"`, "owns something"},
		{"scheduler", `"scheduler":"rr"`, `"scheduler":"xx"`, "scheduler"},
		{"override of nothing", `"overrides":[{"server":"10.0.0.2:80"`, `"overrides":[{"server":"10.0.0.9:80"`, "not there"},
		{"owner of nothing", `"owners":{"1":`, `"owners":{"7":`, "owner"},
		{"owner nobody", `"owners":{"1":"m1"`, `"owners":{"1":"m8"`, "owner"},
		{"revision behind events", `"revision":10,"next_member"`, `"revision":9,"next_member"`, "event"},
		{"profile", `"profile":"default"`, `"profile":"x"`, "profile"},
		{"token", `"hash":"aaa`, `"hash":"zaa`, "SHA-256"},
		{"used what cannot be", `"used":3`, `"used":4`, "version 4 of commands"},
		{"not founded, not empty", `"cluster":"lab"`, `"cluster":""`, "not empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.ReplaceAll(good, tt.old, tt.new)
			if bad == good {
				t.Fatalf("%q is not in %s", tt.old, good)
			}
			if _, err := Restore([]byte(bad)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// richTable has something of everything.
func richTable(t interface{ Fatal(...any) }) *Table {
	table := founded(t)
	present := Present
	server := RealServer{Addr: addr4(2), Port: 80, Weight: 1, Checks: []Check{aCheck(addr4(2))}}
	for _, c := range []Command{
		{Enrol: &Enrol{TokenHash: hash("a"), Request: "r1", Name: "dir1", Role: Director, Addr: netip.AddrPortFrom(addr4(201), 7946)}},
		{Member: &SetMember{ID: "m2", State: &present}},
		{Enrol: &Enrol{TokenHash: hash("a"), Request: "r2", Name: "dir2", Role: Director, Addr: netip.AddrPortFrom(addr4(202), 7946)}},
		{Apply: &ApplySet{Set: "default", Config: Config{
			Routers: []Router{{
				Name: "VI_1", VRID: 51, Priority: 100, Version: 2, AdvertInterval: Duration(time.Second),
				Addresses: []Address{{Prefix: netip.PrefixFrom(addr4(100), 32)}},
			}},
			Services: []VirtualServer{{
				ServiceKey: ServiceKey{Addr: addr4(100), Port: 80, Protocol: TCP}, Scheduler: "rr", Method: DirectRouting, RealServers: []RealServer{server},
			}},
		}}},
		{Votes: &CastVotes{"m1", []Opinion{{server.Target(), Vote{Detail: "refused"}}}}},
		{Override: &SetOverride{Server: server.AddrPort(), State: Drained}},
		{Ownership: &Ownership{Router: 1, Member: "m2", Owns: true}},
		{Ownership: &Ownership{Router: 1, Member: "m1", Owns: true}},
	} {
		c.At = epoch
		next, result, err := table.Apply(c)
		if err != nil || !result.Changed {
			t.Fatal(err, c)
		}
		table = next
	}
	return table
}

func aCheck(server netip.Addr) Check {
	return Check{
		Kind: CheckTCP, Dest: netip.AddrPortFrom(server, 80), ConnectTimeout: Duration(3 * time.Second), Retry: 3,
		DelayBeforeRetry: Duration(3 * time.Second), DelayLoop: Duration(6 * time.Second), Warmup: Duration(6 * time.Second),
	}
}

func TestSnapshotOfNew(t *testing.T) {
	b := mustSnapshot(t, New())
	back, err := Restore(b)
	if err != nil || !bytes.Equal(b, mustSnapshot(t, back)) {
		t.Errorf("got %v, %s", err, b)
	}
	if strings.Contains(string(b), "null") {
		t.Errorf("a list is null: %s", b)
	}
}

func FuzzDecode(f *testing.F) {
	weight := 5
	state := Present
	for _, c := range []Command{
		{Found: &Found{Cluster: "lab", Name: "a", Addr: netip.AddrPortFrom(addr4(1), 1)}},
		{Member: &SetMember{ID: "m1", State: &state}},
		{Override: &SetOverride{Server: netip.AddrPortFrom(addr4(1), 1), Weight: &weight}},
		{AddToken: &Token{Hash: hash("a"), Uses: 1, Expires: epoch}},
		{Votes: &CastVotes{"m1", []Opinion{{"t", Vote{Up: true, Detail: "x"}}}}},
		{Apply: &ApplySet{Set: "s", Config: richTable(f).Config("default")}},
	} {
		b, err := c.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	table := richTable(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrUnknownCommand) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatalf("decoded, but not encoded: %v", err)
		}
		c2, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		if b2, _ := c2.Encode(); !bytes.Equal(again, b2) {
			t.Fatalf("%s became %s", again, b2)
		}
		for _, start := range []*Table{New(), table} {
			next, _, _ := start.Apply(c)
			if err := next.Check(); err != nil {
				t.Fatal(err)
			}
			if _, err := Restore(mustSnapshot(t, next)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add(mustSnapshot(f, New()))
	f.Add(mustSnapshot(f, founded(f)))
	f.Add(mustSnapshot(f, richTable(f)))
	silent := true
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := Restore(b)
		if err != nil {
			return
		}
		again := mustSnapshot(t, table)
		back, err := Restore(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, mustSnapshot(t, back)) {
			t.Fatal("a snapshot of a restored table differs")
		}
		table.Effective()
		next, _, _ := table.Apply(Command{Member: &SetMember{ID: "m1", Silent: &silent}})
		if err := next.Check(); err != nil {
			t.Fatal(err)
		}
	})
}
