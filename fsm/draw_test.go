package fsm

import (
	"fmt"
	"net/netip"
	"time"

	"pgregory.net/rapid"
)

// The generators draw from small pools, so that commands meet: same names,
// same addresses, same servers under several virtual servers, stale ids.

func addr4(last int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(last)}) }

func drawRouter(t *rapid.T) Router {
	r := Router{
		Name:           rapid.SampledFrom([]string{"VI_1", "VI_2", "VI_3"}).Draw(t, "router"),
		Interface:      rapid.SampledFrom([]string{"eth0", "eth1"}).Draw(t, "interface"),
		VRID:           uint8(rapid.IntRange(1, 3).Draw(t, "vrid")),
		Priority:       uint8(rapid.IntRange(1, 255).Draw(t, "priority")),
		Version:        2,
		AdvertInterval: Duration(time.Second),
		Alert:          rapid.Bool().Draw(t, "alert"),
	}
	for range rapid.IntRange(1, 2).Draw(t, "addresses") {
		r.Addresses = append(r.Addresses, Address{Prefix: netip.PrefixFrom(addr4(rapid.IntRange(100, 104).Draw(t, "vip")), 32)})
	}
	return r
}

func drawService(t *rapid.T) VirtualServer {
	v := VirtualServer{
		ServiceKey: ServiceKey{Addr: addr4(rapid.IntRange(100, 104).Draw(t, "vip")), Port: 80, Protocol: rapid.SampledFrom(Protocols).Draw(t, "protocol")},
		Scheduler:  rapid.SampledFrom(Schedulers).Draw(t, "scheduler"),
		Method:     rapid.SampledFrom(Methods).Draw(t, "method"),
		OnePacket:  rapid.IntRange(0, 9).Draw(t, "ops") == 0,
		HashPort:   rapid.IntRange(0, 9).Draw(t, "hash") == 0,
		Group:      rapid.SampledFrom([]string{"", "web"}).Draw(t, "group"),
		Alert:      rapid.Bool().Draw(t, "alert"),
		Notify:     drawUpDown(t),
	}
	if rapid.IntRange(0, 4).Draw(t, "marked") == 0 {
		v.ServiceKey = ServiceKey{Mark: rapid.Uint32Range(1, 2).Draw(t, "mark")}
		for range rapid.IntRange(0, 2).Draw(t, "matches") {
			v.Matches = append(v.Matches, Match{
				Addr: netip.PrefixFrom(addr4(rapid.IntRange(100, 104).Draw(t, "matched")), 32), Protocol: rapid.SampledFrom(Protocols).Draw(t, "protocol"),
			})
		}
	}
	for _, last := range rapid.SliceOfNDistinct(rapid.IntRange(1, 4), 0, 3, rapid.ID[int]).Draw(t, "servers") {
		r := RealServer{Addr: addr4(last), Port: v.Port, Weight: rapid.IntRange(0, 3).Draw(t, "weight"), Inhibit: rapid.Bool().Draw(t, "inhibit"), NoAlert: rapid.IntRange(0, 4).Draw(t, "no alert") == 0,
			Backup: len(v.RealServers) > 0 && rapid.Bool().Draw(t, "backup"), Notify: drawUpDown(t)}
		for range rapid.IntRange(0, 2).Draw(t, "checks") {
			r.Checks = append(r.Checks, Check{
				Kind: CheckTCP, Dest: netip.AddrPortFrom(r.Addr, 80), ConnectTimeout: Duration(time.Second),
				Retry: rapid.IntRange(0, 1).Draw(t, "retry"), DelayLoop: Duration(time.Second), Alpha: rapid.IntRange(0, 3).Draw(t, "alpha") == 0,
			})
		}
		if v.Mark == 0 && v.Protocol == TCP && v.Method == DirectRouting && rapid.IntRange(0, 3).Draw(t, "dsr") == 0 {
			r.Checks = append(r.Checks, Check{
				Kind: CheckTCP, DSR: true, Dest: netip.AddrPortFrom(v.Addr, v.Port), ConnectTimeout: Duration(time.Second), DelayLoop: Duration(time.Second),
			})
		}
		if rapid.IntRange(0, 2).Draw(t, "weighs") == 0 {
			r.Checks = append(r.Checks, Check{
				Kind: CheckMisc, Dest: netip.AddrPortFrom(r.Addr, 0), ConnectTimeout: Duration(time.Second), DelayLoop: Duration(time.Second),
				Script: &ScriptCheck{Script: Script{Command: "/bin/load"}, Timeout: Duration(time.Second), Dynamic: true},
			})
		}
		if rapid.IntRange(0, 2).Draw(t, "adds") == 0 {
			r.Checks = append(r.Checks, Check{
				Kind: CheckFile, Dest: netip.AddrPortFrom(r.Addr, 0), ConnectTimeout: Duration(time.Second), DelayLoop: Duration(time.Second),
				File: &FileCheck{Path: "/run/load", Weight: rapid.IntRange(0, 1).Draw(t, "times")},
			})
		}
		v.RealServers = append(v.RealServers, r)
	}
	if v.Quorum = uint32(rapid.IntRange(0, 4).Draw(t, "quorum")); v.Quorum > 1 {
		v.Hysteresis = uint32(rapid.IntRange(0, int(v.Quorum)-1).Draw(t, "hysteresis"))
	}
	if rapid.Bool().Draw(t, "slowly") {
		v.SlowStart = Duration(time.Minute)
	}
	if rapid.Bool().Draw(t, "sorry") {
		v.Sorry = &SorryServer{Addr: addr4(9), Port: v.Port, Inhibit: rapid.Bool().Draw(t, "sorry inhibit")}
	}
	return v
}

func drawUpDown(t *rapid.T) UpDown {
	one := func() *Script {
		if rapid.IntRange(0, 4).Draw(t, "script") > 0 {
			return nil
		}
		return &Script{Command: "/x"}
	}
	return UpDown{Up: one(), Down: one()}
}

func drawConfig(t *rapid.T) Config {
	var c Config
	c.Globals.RouterID = rapid.SampledFrom([]string{"", "LVS"}).Draw(t, "router_id")
	if rapid.Bool().Draw(t, "mail") {
		c.Globals.NotificationEmail, c.Globals.SMTPServer = []string{"admin@lab"}, "127.0.0.1"
		if rapid.IntRange(0, 4).Draw(t, "fifo") == 0 {
			c.Globals.FIFOs.LVS = &FIFO{Path: "/run/f"}
		}
		c.Globals.NoEmailFaults = rapid.IntRange(0, 4).Draw(t, "no faults") == 0
	}
	for range rapid.IntRange(0, 2).Draw(t, "routers") {
		c.Routers = append(c.Routers, drawRouter(t))
	}
	for range rapid.IntRange(0, 3).Draw(t, "services") {
		c.Services = append(c.Services, drawService(t))
	}
	if len(c.Routers) > 0 && rapid.IntRange(0, 2).Draw(t, "grouped") == 0 {
		g := SyncGroup{Name: rapid.SampledFrom([]string{"VG_1", "VG_2"}).Draw(t, "group")}
		for _, r := range c.Routers[:rapid.IntRange(1, len(c.Routers)).Draw(t, "in group")] {
			g.Routers = append(g.Routers, r.Name)
		}
		c.Groups = append(c.Groups, g)
	}
	return c
}

func drawSettings(t *rapid.T) *SetSettings {
	s := &SetSettings{Profile: rapid.SampledFrom([]string{"", "default", "fast", "slow"}).Draw(t, "profile")}
	if rapid.Bool().Draw(t, "sets spares") {
		spares := rapid.IntRange(-1, 3).Draw(t, "spares")
		s.Spares = &spares
	}
	if rapid.IntRange(0, 3).Draw(t, "sets guard") == 0 {
		guard := Duration(rapid.Int64Range(-1, int64(12*time.Second)).Draw(t, "guard"))
		s.Guard = &guard
	}
	s.FailBack = rapid.SampledFrom([]FailBack{"", "", FailBackAuto, FailBackManual, "x"}).Draw(t, "fail back")
	if rapid.IntRange(0, 4).Draw(t, "sets snapshots") == 0 {
		drawSnapshots(t, s)
	}
	s.FlapDamping = rapid.SampledFrom([]Damping{"", DampingOff, DampingOn, "x"}).Draw(t, "damping")
	s.Health = rapid.SampledFrom([]HealthPolicy{"", HealthMajority, HealthAnyDown, "x"}).Draw(t, "health")
	if rapid.IntRange(0, 4).Draw(t, "sets webhooks") == 0 {
		urls := rapid.SampledFrom([]string{"", "http://h/x", "https://h/x,http://h", "ftp://h", "http://h,http://h"}).Draw(t, "webhooks")
		s.Webhooks = &urls
	}
	s.Scripts = rapid.SampledFrom([]ScriptsPolicy{"", ScriptsOnce, ScriptsEach, "x"}).Draw(t, "scripts")
	return s
}

func drawMove(t *rapid.T) *Move {
	m := &Move{Unit: uint64(rapid.IntRange(1, 5).Draw(t, "unit"))}
	if rapid.IntRange(0, 2).Draw(t, "to") > 0 {
		m.To = drawID(t)
	}
	m.Pin = rapid.IntRange(0, 3).Draw(t, "pin") == 0
	m.Unpin = rapid.IntRange(0, 3).Draw(t, "unpin") == 0
	return m
}

func drawID(t *rapid.T) MemberID { return memberID(uint64(rapid.IntRange(1, 7).Draw(t, "id"))) }

func drawVotes(t *rapid.T, table *Table) *CastVotes {
	v := &CastVotes{Member: drawID(t)}
	targets := []Target{"", "no such target"}
	for _, info := range table.Targets() {
		targets = append(targets, info.Target, info.Target, info.Target)
	}
	for range rapid.IntRange(0, 4).Draw(t, "opinions") {
		v.Opinions = append(v.Opinions, Opinion{rapid.SampledFrom(targets).Draw(t, "target"), Vote{
			rapid.Bool().Draw(t, "up"), rapid.SampledFrom([]string{"", "refused", "time-out\n\xff"}).Draw(t, "detail"),
			rapid.SampledFrom([]Weighing{{}, {}, {1, 0}, {1, 253}, {2, 30}, {1, 254}, {-1, 3}, {0, -2}, {0, 1 << 40}}).Draw(t, "weighs"),
		}})
	}
	return v
}

func drawOverride(t *rapid.T, table *Table) *SetOverride {
	o := &SetOverride{
		Server: netip.AddrPortFrom(addr4(rapid.IntRange(1, 4).Draw(t, "server")), 80),
		State:  rapid.SampledFrom([]AdminState{Enabled, Drained, Disabled}).Draw(t, "state"),
	}
	if len(table.Services) > 0 && rapid.Bool().Draw(t, "one service") {
		o.Service = rapid.SampledFrom(table.Services).Draw(t, "service").ServiceKey
	}
	if rapid.Bool().Draw(t, "has weight") {
		weight := rapid.IntRange(-1, 5).Draw(t, "weight")
		o.Weight = &weight
	}
	if o.State == Drained && rapid.Bool().Draw(t, "ends") {
		o.Within = Duration(rapid.IntRange(0, 3).Draw(t, "within")) * Duration(time.Minute)
	}
	if len(table.Overrides) > 0 && rapid.IntRange(0, 4).Draw(t, "over") == 0 {
		was := rapid.SampledFrom(table.Overrides).Draw(t, "which")
		return &SetOverride{Service: was.Service, Server: was.Server, Over: true, Since: was.Since}
	}
	return o
}

func drawSetMember(t *rapid.T) *SetMember {
	s := &SetMember{ID: drawID(t)}
	if rapid.Bool().Draw(t, "sets state") {
		state := rapid.SampledFrom([]MemberState{Present, Present, Leaving, Joining}).Draw(t, "state")
		s.State = &state
	}
	if rapid.Bool().Draw(t, "sets silence") {
		silent := rapid.Bool().Draw(t, "silent")
		s.Silent = &silent
	}
	if rapid.IntRange(0, 2).Draw(t, "sets drained") == 0 {
		drained := rapid.Bool().Draw(t, "drained")
		s.Drained = &drained
	}
	if rapid.IntRange(0, 4).Draw(t, "sets networks") == 0 {
		networks := []Network{}
		for _, last := range rapid.SliceOfN(rapid.IntRange(1, 4), 0, 3).Draw(t, "networks") {
			networks = append(networks, Network{Prefix: netip.PrefixFrom(addr4(last), 24)})
		}
		s.Networks = &networks
	}
	if rapid.IntRange(0, 4).Draw(t, "says what it reads") == 0 {
		s.Reads = rapid.IntRange(1, 5).Draw(t, "reads")
	}
	return s
}

func drawEnrol(t *rapid.T) *Enrol {
	n := rapid.IntRange(1, 8).Draw(t, "machine")
	return &Enrol{
		TokenHash: hash(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "token")),
		Request:   fmt.Sprint("r", rapid.IntRange(n, n+1).Draw(t, "request")),
		Name:      fmt.Sprint("dir", n),
		Role:      rapid.SampledFrom([]Role{Director, Director, Director, Witness, Reader}).Draw(t, "role"),
		// 10.0.0.3 and .4 are real servers at times.
		Addr:  netip.AddrPortFrom(addr4(n+2), 7946),
		Reads: rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "reads"),
	}
}

// drawApplyExtras draws what version 3 brought.
func drawApplyExtras(t *rapid.T, a *ApplySet) {
	if rapid.IntRange(0, 3).Draw(t, "homes") == 0 {
		a.Homes = map[string]MemberID{rapid.SampledFrom([]string{"VI_1", "VI_2", "VG_1"}).Draw(t, "unit"): drawID(t)}
	}
	if rapid.IntRange(0, 3).Draw(t, "to confirm") == 0 {
		a.ConfirmWithin = Duration(time.Minute)
	}
	a.Why = rapid.SampledFrom([]string{"", "why\x00"}).Draw(t, "why")
}

func drawPending(t *rapid.T, table *Table) Revision {
	if table.Pending != nil && rapid.IntRange(0, 4).Draw(t, "the pending one") > 0 {
		return table.Pending.Revision
	}
	return Revision(rapid.IntRange(1, 5).Draw(t, "revision"))
}

// drawTell mostly draws what a teller would say.
func drawTell(t *rapid.T, table *Table) *Tell {
	w := &Tell{
		Kind: rapid.SampledFrom([]ChannelKind{ChannelMail, ChannelRun}).Draw(t, "kind"),
		Set:  rapid.SampledFrom([]string{"default", "web", "x"}).Draw(t, "set"), Member: drawID(t),
	}
	if rapid.Bool().Draw(t, "of") {
		w.Of = w.Member
	}
	seq := rapid.Uint64Range(0, 6).Draw(t, "notice")
	if c, ok := table.Channel(Channel{Kind: w.Kind, Set: w.Set, Of: w.Of}); ok && rapid.IntRange(0, 4).Draw(t, "the teller") > 0 {
		w.Member, seq = c.Teller, rapid.Uint64Range(c.Told, table.LastNotice).Draw(t, "notice")
	}
	switch rapid.IntRange(0, 4).Draw(t, "word") {
	case 0:
		w.Pass = true
	case 1, 2:
		w.Claim = seq
	default:
		w.Told, w.GaveUp = seq, rapid.SampledFrom([]string{"", "", "refused\x00"}).Draw(t, "gave up")
	}
	return w
}

// drawCommand draws a command that may or may not work on table.
func drawCommand(t *rapid.T, table *Table) Command {
	c := Command{By: "root@dir1", At: epoch.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "at")) * time.Second)}
	if rapid.IntRange(0, 9).Draw(t, "old") == 0 {
		c.Version = rapid.IntRange(1, 2).Draw(t, "version") // as of a member that is not upgraded
	}
	if rapid.IntRange(0, 9).Draw(t, "at revision") == 0 {
		c.IfRevision = Revision(rapid.IntRange(1, 5).Draw(t, "revision"))
	}
	switch rapid.SampledFrom([]string{
		"found", "enrol", "enrol", "enrol", "member", "member", "member", "remove", "token", "apply", "apply", "apply",
		"votes", "votes", "votes", "votes", "override", "override", "settings", "owner", "owner", "move", "move",
		"confirm", "undo", "ramp", "ramp", "tell", "tell", "tell", "reinstate", "reinstate",
	}).Draw(t, "command") {
	case "reinstate":
		c.Reinstate = drawReinstate(t, table)
	case "tell":
		c.Tell = drawTell(t, table)
	case "ramp":
		c.Ramp = &Ramp{}
		for _, info := range table.Targets() {
			h := table.Health[info.Target]
			c.Ramp.Steps = append(c.Ramp.Steps, RampStep{info.Target, h.Since, h.Step + rapid.IntRange(0, 2).Draw(t, "by")})
		}
	case "found":
		c.Found = &Found{Cluster: "lab", Name: "dir0", Addr: netip.AddrPortFrom(addr4(200), 7946)}
	case "enrol":
		c.Enrol = drawEnrol(t)
	case "member":
		c.Member = drawSetMember(t)
	case "remove":
		c.Remove = &Remove{ID: drawID(t)}
	case "token":
		c.AddToken = &Token{Hash: hash(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "token")), Uses: rapid.IntRange(1, 4).Draw(t, "uses"),
			Expires: epoch.Add(time.Minute)}
	case "apply":
		c.Apply = &ApplySet{Set: rapid.SampledFrom([]string{"default", "web"}).Draw(t, "set"), Config: drawConfig(t)}
		if c.Version == 0 {
			drawApplyExtras(t, c.Apply)
		}
	case "confirm":
		c.Confirm = &Confirm{Revision: drawPending(t, table)}
	case "undo":
		c.Undo = &Undo{Revision: drawPending(t, table), Late: rapid.Bool().Draw(t, "late")}
	case "votes":
		c.Votes = drawVotes(t, table)
	case "override":
		c.Override = drawOverride(t, table)
	case "settings":
		c.Settings = drawSettings(t)
	case "move":
		c.Move = drawMove(t)
	case "owner":
		c.Ownership = &Ownership{Router: uint64(rapid.IntRange(1, 4).Draw(t, "router")), Member: drawID(t), Owns: rapid.Bool().Draw(t, "owns"), Why: "w"}
	}
	return c
}

// founded is a table with a director and tokens, so that most commands can work.
func founded(t interface{ Fatal(...any) }) *Table {
	table := New()
	for _, c := range []Command{
		{At: epoch, Found: &Found{Cluster: "lab", Name: "dir0", Addr: netip.AddrPortFrom(addr4(200), 7946)}},
		{At: epoch, AddToken: &Token{Hash: hash("a"), Uses: 50, Expires: epoch.Add(time.Hour)}},
	} {
		next, _, err := table.Apply(c)
		if err != nil {
			t.Fatal(err)
		}
		table = next
	}
	return table
}
