package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// told is a table of some directors whose sets have mail settings.
type told struct {
	t *testing.T
	*Table
	version int
}

func newTold(t *testing.T, directors int) *told {
	s := &told{t: t, Table: New()}
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(addr4(10+i), 7946) }
	s.do(Command{Found: &Found{Cluster: "lab", Name: "dir1", Addr: at(1), Profile: "default"}})
	s.do(Command{AddToken: &Token{Hash: hash("a"), Uses: 9, Expires: epoch.Add(time.Hour)}})
	present := Present
	for i := 2; i <= directors; i++ {
		s.do(Command{Enrol: &Enrol{TokenHash: hash("a"), Request: fmt.Sprint(i), Name: fmt.Sprint("dir", i), Role: Director, Addr: at(i)}})
		s.do(Command{Member: &SetMember{ID: memberID(uint64(i)), State: &present}})
	}
	return s
}

func (s *told) try(c Command) error {
	c.By, c.At, c.Version = "root@dir1", epoch, s.version
	next, _, err := s.Apply(c)
	s.Table = next
	if bad := next.Check(); bad != nil {
		s.t.Fatal(bad)
	}
	return err
}

func (s *told) do(c Command) {
	s.t.Helper()
	if err := s.try(c); err != nil {
		s.t.Fatal(err)
	}
}

func mailed(to ...string) Globals { return Globals{NotificationEmail: to, SMTPServer: "127.0.0.1"} }

// apply applies a set with servers under one virtual server.
func (s *told) apply(set string, g Globals, servers int) {
	s.t.Helper()
	v := VirtualServer{ServiceKey: ServiceKey{Addr: addr4(100), Port: 80, Protocol: TCP}, Scheduler: "rr", Method: DirectRouting}
	for i := range servers {
		a := netip.AddrFrom4([4]byte{10, 9, byte(i / 200), byte(1 + i%200)})
		v.RealServers = append(v.RealServers, RealServer{Addr: a, Port: 80, Weight: 1, Checks: []Check{{
			Kind: CheckTCP, Dest: netip.AddrPortFrom(a, 80), ConnectTimeout: Duration(time.Second), DelayLoop: Duration(time.Second),
		}}})
	}
	cfg := Config{Globals: g}
	if servers > 0 {
		cfg.Services = []VirtualServer{v}
	}
	s.do(Command{Apply: &ApplySet{Set: set, Config: cfg}})
}

func (s *told) vote(up bool) {
	s.t.Helper()
	for _, m := range s.Members {
		v := &CastVotes{Member: m.ID}
		for _, info := range s.Targets() {
			v.Opinions = append(v.Opinions, Opinion{info.Target, Vote{Up: up}})
		}
		s.do(Command{Votes: v})
	}
}

func (s *told) silent(id MemberID, silent bool) {
	s.t.Helper()
	s.do(Command{Member: &SetMember{ID: id, Silent: &silent}})
}

func (s *told) tell(w Tell) error {
	w.Kind, w.Set = ChannelMail, "default"
	return s.try(Command{Tell: &w})
}

func (s *told) want(lines ...string) {
	s.t.Helper()
	var got []string
	for _, n := range s.Notices {
		got = append(got, fmt.Sprintf("%d %s %s %s", n.Seq, n.Kind, n.State, n.Text))
	}
	if !slices.Equal(got, lines) {
		s.t.Errorf("kept\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(lines, "\n  "))
	}
}

func TestNobodyToTellKeepsNothing(t *testing.T) {
	s := newTold(t, 2)
	s.apply("default", Globals{NotificationEmail: []string{"a@b"}}, 1) // no server to send it through
	s.silent("m2", true)
	s.vote(false)
	s.want()
	if s.LastNotice != 0 || s.Channels != nil {
		t.Errorf("%+v", s.Channels)
	}
}

func TestClaimAndTold(t *testing.T) {
	s := newTold(t, 2)
	s.silent("m2", true) // before there is a channel: nobody's business
	s.apply("default", mailed("a@b"), 1)
	s.silent("m2", false)
	s.want("1 member BACK dir2 is back")
	for _, w := range []Tell{
		{Member: "m2", Claim: 1}, // not the teller
		{Member: "m1", Claim: 2}, // not there yet
		{Member: "m1", Told: 1},  // not claimed
	} {
		if s.tell(w) == nil {
			t.Errorf("%+v was taken", w)
		}
	}
	events := len(s.Events)
	if err := s.tell(Tell{Member: "m1", Claim: 1}); err != nil || len(s.Events) != events {
		t.Errorf("%v, %d events", err, len(s.Events)-events)
	}
	s.silent("m2", true)
	if s.tell(Tell{Member: "m1", Claim: 2}) == nil {
		t.Error("the batch grew after its claim")
	}
	if err := s.tell(Tell{Member: "m1", Told: 1}); err != nil {
		t.Error(err)
	}
	s.want("2 member LOST the cluster has no contact with dir2")
	if e := s.Events[len(s.Events)-1]; e.Kind != "told" || e.Text != "dir1 told 1 event (mail of set default)" {
		t.Errorf("%+v", e)
	}
	rev := s.Revision
	if err := s.tell(Tell{Member: "m1", Told: 1}); err != nil || s.Revision != rev {
		t.Errorf("told twice: %v, revision %d", err, s.Revision)
	}
}

func TestTheDutyMoves(t *testing.T) {
	s := newTold(t, 3)
	s.apply("default", mailed("a@b"), 1)
	want := func(teller MemberID) {
		t.Helper()
		if c := s.Channels[0]; c.Teller != teller {
			t.Errorf("%q tells, want %q", c.Teller, teller)
		}
	}
	want("m1")
	s.silent("m1", true)
	want("m2")
	s.silent("m1", false)
	want("m2") // there is no reason to move it back
	if err := s.tell(Tell{Member: "m2", Pass: true}); err != nil {
		t.Error(err)
	}
	want("m3")
	s.silent("m2", true)
	if err := s.tell(Tell{Member: "m3", Pass: true}); err != nil {
		t.Error(err)
	}
	want("m1")
	s.do(Command{Remove: &Remove{ID: "m1"}})
	want("m3")
	s.silent("m3", true)
	want("")
	s.silent("m2", false)
	want("m2")
}

func TestChannelsFollowTheSets(t *testing.T) {
	s := newTold(t, 2)
	s.apply("default", mailed("a@b"), 1)
	s.silent("m2", true)
	s.apply("other", mailed("c@d"), 0)
	if len(s.Channels) != 2 || s.Channels[1].Told != 1 {
		t.Fatalf("%+v", s.Channels)
	}
	s.silent("m2", false)
	if n, _ := s.Untold(s.Channels[1]); len(n) != 1 {
		t.Errorf("%+v", n)
	}
	s.apply("default", Globals{}, 1) // nobody waits for its notices any more
	s.want("2 member BACK dir2 is back")
	s.apply("other", Globals{}, 0)
	s.want()
}

func TestNoticesAreBounded(t *testing.T) {
	s := newTold(t, 1)
	s.apply("default", mailed("a@b"), 1500)
	s.vote(false)
	if n := len(s.Notices); n != noticesPerCommand+1 || s.Notices[n-1].Kind != NoticeMore {
		t.Fatalf("%d notices of one command, the last %+v", n, s.Notices[n-1])
	}
	for i := range 10 {
		s.vote(i%2 == 0)
	}
	list, lost := s.Untold(s.Channels[0])
	if len(list) != NoticesKept || lost == 0 || lost+uint64(len(list)) != s.LastNotice {
		t.Errorf("%d wait, %d are lost, of %d", len(list), lost, s.LastNotice)
	}
}

func TestWhatSaysNoAlertIsNotKept(t *testing.T) {
	s := newTold(t, 1)
	s.apply("default", mailed("a@b"), 1)
	cfg := s.Config("default")
	cfg.Services[0].RealServers = slices.Clone(cfg.Services[0].RealServers)
	cfg.Services[0].RealServers[0].NoAlert = true
	s.do(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	s.vote(false)
	s.want()
	cfg.Services = slices.Clone(cfg.Services)
	cfg.Services[0].Alert = true
	s.do(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	s.vote(true)
	s.want("1 pool UP enough real servers are up again (weight 1)")
}

// A command of version 2 starts no channel, for those who read it before knew none.
func TestOldCommandsTellNobody(t *testing.T) {
	s := newTold(t, 2)
	s.version = 2
	cfg := Config{Globals: mailed("a@b")}
	s.do(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	s.silent("m2", true)
	if s.Channels != nil || s.tell(Tell{Member: "m1", Claim: 1}) == nil {
		t.Errorf("%+v", s.Channels)
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.Globals.SMTPHelo = "x" },
		func(c *Config) { c.Globals.NoEmailFaults = true },
		func(c *Config) { c.Globals.FIFOs.All = &FIFO{Path: "/f"} },
	} {
		is := cfg
		change(&is)
		if s.try(Command{Apply: &ApplySet{Set: "default", Config: is}}) == nil {
			t.Errorf("version 2 took %+v", is)
		}
	}
	s.version = 0
	s.silent("m2", false)
	if len(s.Channels) != 1 {
		t.Errorf("%+v", s.Channels)
	}
}

func (s *told) channels() string {
	var all []string
	for _, c := range s.Channels {
		all = append(all, fmt.Sprintf("%s by %q", c, c.Teller))
	}
	return strings.Join(all, ", ")
}

func (s *told) scripts(p ScriptsPolicy) {
	s.t.Helper()
	s.do(Command{Settings: &SetSettings{Scripts: p}})
}

// Programs of servers run on one director, or on each: then a director does not hear
// of what happened while it was silent.
func TestScriptsOnceOrOnEach(t *testing.T) {
	s := newTold(t, 2)
	s.apply("default", Globals{}, 1)
	s.vote(false)
	if s.Channels != nil {
		t.Fatal(s.channels())
	}
	cfg := s.Config("default")
	cfg.Services[0].Notify.Down = &Script{Command: "/x"}
	s.do(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	want := func(channels string) {
		t.Helper()
		if got := s.channels(); got != channels {
			t.Errorf("%s\nwant %s", got, channels)
		}
	}
	want(`scripts of set default by "m1"`)
	s.vote(true)
	s.vote(false)
	s.want("1 pool UP enough real servers are up again (weight 1)", "2 pool DOWN too few real servers are up (weight 0, 1 needed)")
	s.scripts(ScriptsEach)
	want(`scripts of set default on m1 by "m1", scripts of set default on m2 by "m2"`)
	s.want() // to those who begin now it is history
	s.vote(true)
	s.silent("m2", true)
	want(`scripts of set default on m1 by "m1", scripts of set default on m2 by ""`)
	if n, _ := s.Untold(s.Channels[1]); len(n) != 0 {
		t.Errorf("m2 will hear of %v", n)
	}
	s.silent("m2", false)
	for _, w := range []Tell{
		{Kind: ChannelRun, Set: "default", Of: "m1", Member: "m2", Claim: 3},
		{Kind: ChannelRun, Set: "default", Member: "m1", Claim: 3},
	} {
		if s.try(Command{Tell: &w}) == nil {
			t.Errorf("%+v was taken", w)
		}
	}
	for _, w := range []Tell{{Claim: 3}, {Told: 3}} {
		w.Kind, w.Set, w.Of, w.Member = ChannelRun, "default", "m1", "m1"
		s.do(Command{Tell: &w})
	}
	s.want()
	s.scripts(ScriptsOnce)
	want(`scripts of set default by "m1"`)
	cfg = s.Config("default")
	cfg.Services = slices.Clone(cfg.Services)
	cfg.Services[0].Notify = UpDown{}
	s.do(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	want("")
	cfg.Globals.FIFOs.VRRP = &FIFO{Path: "/run/v"} // hears of no servers
	s.do(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	want("")
	cfg.Globals.FIFOs.LVS = &FIFO{Path: "/run/l"}
	s.do(Command{Apply: &ApplySet{Set: "default", Config: cfg}})
	want(`scripts of set default by "m1"`)
	cfg.Globals.FIFOs.All = &FIFO{Path: "/run/l"}
	if s.try(Command{Apply: &ApplySet{Set: "default", Config: cfg}}) == nil {
		t.Error("two pipes of one path were taken")
	}
}

func TestWebhooksHearOfAll(t *testing.T) {
	s := newTold(t, 2)
	s.apply("default", Globals{}, 1)
	set := func(urls string) error { return s.try(Command{Settings: &SetSettings{Webhooks: &urls}}) }
	for _, bad := range []string{"ftp://h/x", "http://", "http://h,", "http://h,http://h", "here", strings.Repeat("http://h,", 9) + "http://i"} {
		if set(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := set("https://h/secret,http://h:8080/other"); err != nil {
		t.Fatal(err)
	}
	if e := s.Events[len(s.Events)-1].Text; e != "webhooks is 2 (https://h, http://h:8080) (was none)" {
		t.Error(e)
	}
	if got := s.channels(); got != `webhook at http://h:8080 by "m1", webhook at https://h by "m1"` {
		t.Error(got)
	}
	s.vote(false) // the pool has no smtp_alert
	s.want("1 server DOWN real server 10.9.0.1:80 is down: dir1 of 1 says so", "2 pool DOWN too few real servers are up (weight 0, 1 needed)")
	if err := set("https://h/secret"); err != nil || len(s.Channels) != 1 || s.Channels[0].Told != 0 {
		t.Errorf("%v %+v", err, s.Channels)
	}
	if err := set(""); err != nil {
		t.Error(err)
	}
	s.want()
	s.version = 2
	if set("http://h") == nil {
		t.Error("version 2 set a webhook")
	}
}
