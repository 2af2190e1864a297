package tell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
)

// lab is a table and the members that tell of it; all see each change at once.
type lab struct {
	t         *testing.T
	mu        sync.Mutex
	table     *fsm.Table
	members   map[fsm.MemberID]*member
	mails     []Mail                              // accepted
	answer    func(by fsm.MemberID, m Mail) error // of the mail server
	ran       []string                            // by whom, in order
	hooks     []Hook                              // requests, accepted or not
	hooksFail bool
	deaf      bool // the log takes nothing
}

type member struct {
	*Runner
	stop  func()
	ended chan error
}

var epoch = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

const vip = "10.0.0.100"

func newLab(t *testing.T, directors int) *lab {
	l := &lab{t: t, table: fsm.New(), members: map[fsm.MemberID]*member{}, answer: func(fsm.MemberID, Mail) error { return nil }}
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i)}), 7946)
	}
	l.do(fsm.Command{Found: &fsm.Found{Cluster: "lab", Name: "dir1", Addr: addr(1), Profile: "default"}})
	hash := strings.Repeat("ab", 32)
	l.do(fsm.Command{AddToken: &fsm.Token{Hash: hash, Uses: 9, Expires: epoch.Add(time.Hour)}})
	present := fsm.Present
	for i := 2; i <= directors; i++ {
		l.do(fsm.Command{Enrol: &fsm.Enrol{TokenHash: hash, Request: fmt.Sprint(i), Name: fmt.Sprint("dir", i), Role: fsm.Director, Addr: addr(i)}})
		l.do(fsm.Command{Member: &fsm.SetMember{ID: fsm.MemberID(fmt.Sprint("m", i)), State: &present}})
	}
	l.apply("default", fsm.Globals{RouterID: "LVS_1", NotificationEmail: []string{"root", "ops@lab.example"}, EmailFrom: "lb@lab.example", SMTPServer: "127.0.0.1"})
	for i := 1; i <= directors; i++ {
		l.start(fsm.MemberID(fmt.Sprint("m", i)))
	}
	return l
}

func (l *lab) apply(set string, g fsm.Globals) {
	cfg := fsm.Config{Globals: g}
	if set == "default" {
		cfg.Routers = []fsm.Router{{
			Name: "VI_1", Interface: "eth0", VRID: 51, Priority: 100, Version: 2, AdvertInterval: fsm.Duration(time.Second), Alert: true,
			Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix(vip + "/32")}},
		}}
		v := fsm.VirtualServer{ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr(vip), Port: 80, Protocol: fsm.TCP}, Scheduler: "rr", Method: fsm.DirectRouting, Alert: true}
		for i := range 2 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i)})
			v.RealServers = append(v.RealServers, fsm.RealServer{Addr: a, Port: 80, Weight: 1, Checks: []fsm.Check{{
				Kind: fsm.CheckTCP, Dest: netip.AddrPortFrom(a, 80), ConnectTimeout: fsm.Duration(time.Second), DelayLoop: fsm.Duration(time.Second),
			}}})
		}
		cfg.Services = []fsm.VirtualServer{v}
	}
	l.do(fsm.Command{Apply: &fsm.ApplySet{Set: set, Config: cfg}})
}

func (l *lab) start(id fsm.MemberID) {
	m, _ := l.table.Member(id)
	ctx, cancel := context.WithCancel(l.t.Context())
	r := New(Config{Self: id, Name: m.Name, Log: slog.New(slog.DiscardHandler), Propose: l.propose, Send: func(ctx context.Context, m Mail) error {
		l.mu.Lock()
		answer := l.answer
		l.mu.Unlock()
		if err := answer(id, m); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.mu.Lock()
		l.mails = append(l.mails, m)
		l.mu.Unlock()
		return nil
	}, Post: func(_ context.Context, h Hook) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.hooks = append(l.hooks, h)
		if l.hooksFail {
			return errors.New("503 Service Unavailable")
		}
		return nil
	}, Run: func(_ context.Context, _ *fsm.Table, list []fsm.Notice) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, n := range list {
			l.ran = append(l.ran, fmt.Sprintf("%s: %s %s", id, n.Kind, n.State))
		}
	}})
	one := &member{Runner: r, ended: make(chan error, 1)}
	one.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-one.ended; err != nil {
			l.t.Error(err)
		}
	})
	l.mu.Lock()
	l.members[id] = one
	r.Update(l.table)
	l.mu.Unlock()
	go func() { one.ended <- r.Run(ctx) }()
}

func (l *lab) propose(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf {
		return fsm.Result{}, errors.New("no leader")
	}
	if ctx.Err() != nil {
		return fsm.Result{}, ctx.Err()
	}
	c.At = epoch
	next, res, err := l.table.Apply(c)
	if err == nil {
		err = next.Check()
	}
	l.table = next
	for _, m := range l.members {
		m.Update(next)
	}
	return res, err
}

func (l *lab) do(c fsm.Command) {
	l.t.Helper()
	if _, err := l.propose(context.Background(), c); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) now() *fsm.Table {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.table
}

// taken are the mails that were accepted so far.
func (l *lab) taken() []Mail {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mails)
}

func (l *lab) owns(id fsm.MemberID, owns bool) {
	l.do(fsm.Command{Ownership: &fsm.Ownership{Router: l.now().Routers[0].ID, Member: id, Owns: owns, Why: "a test"}})
}

func (l *lab) silent(id fsm.MemberID, silent bool) {
	l.do(fsm.Command{Member: &fsm.SetMember{ID: id, Silent: &silent}})
}

// votes has every director find the real servers of these numbers up or down.
func (l *lab) votes(up bool, servers ...int) {
	for _, m := range l.now().Members {
		v := &fsm.CastVotes{Member: m.ID}
		for _, i := range servers {
			v.Opinions = append(v.Opinions, fsm.Opinion{Target: l.now().Targets()[i].Target, Vote: fsm.Vote{Up: up, Detail: "connection refused"}})
		}
		l.do(fsm.Command{Votes: v})
	}
}

// want takes the mails that were accepted since.
func (l *lab) want(subjects ...string) []Mail {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var got []string
	for _, m := range l.mails {
		got = append(got, m.Subject)
	}
	if !slices.Equal(got, subjects) {
		l.t.Errorf("accepted\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(subjects, "\n  "))
	}
	mails := l.mails
	l.mails = nil
	return mails
}

func (l *lab) stop() {
	for _, m := range l.members {
		m.stop()
	}
}

func story(t *testing.T, directors int, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, directors)
		defer l.stop()
		f(l)
	})
}

const (
	master = "[LVS_1] VRRP Instance VI_1 - Entering MASTER state"
	down2  = "[LVS_1] Realserver [10.0.0.2]:tcp:80 of virtual server [10.0.0.100]:tcp:80 - DOWN"
)

func TestOneMailForEachChange(t *testing.T) {
	story(t, 3, func(l *lab) {
		l.owns("m1", true)
		time.Sleep(time.Minute)
		m := l.want(master)[0]
		if m.Server != "127.0.0.1:25" || m.Helo != "dir1" || m.Timeout != 30*time.Second || m.From != "lb@lab.example" || !slices.Equal(m.To, []string{"root@dir1", "ops@lab.example"}) {
			t.Errorf("%+v", m)
		}
		if !strings.Contains(m.Body, "dir1 took virtual router VI_1: a test") || !strings.HasSuffix(m.ID, "@lab.example") {
			t.Errorf("%s\n%s", m.ID, m.Body)
		}
		l.owns("m2", true) // the owner was killed
		time.Sleep(time.Minute)
		l.want(master)
		l.votes(false, 0)
		time.Sleep(time.Minute)
		l.want(down2)
		if n := len(l.now().Notices); n != 0 {
			t.Errorf("%d notices are kept", n)
		}
	})
}

func TestManyChangesAreOneMail(t *testing.T) {
	story(t, 1, func(l *lab) {
		l.owns("m1", true)
		time.Sleep(time.Second)
		l.votes(false, 0)
		l.votes(false, 1)
		time.Sleep(time.Minute)
		m := l.want(master + " (and 3 more)")[0]
		for _, line := range []string{"Realserver [10.0.0.3]:tcp:80", "Virtualserver [10.0.0.100]:tcp:80 - DOWN", "too few real servers"} {
			if !strings.Contains(m.Body, line) {
				t.Errorf("no %s in\n%s", line, m.Body)
			}
		}
	})
}

func TestAHandoverIsOneChange(t *testing.T) {
	story(t, 2, func(l *lab) {
		l.owns("m1", true)
		time.Sleep(time.Minute)
		l.want(master)
		l.owns("m1", false)
		time.Sleep(time.Second)
		l.owns("m2", true)
		time.Sleep(time.Minute)
		l.want(master)
		l.owns("m2", false)
		time.Sleep(time.Minute)
		l.want("[LVS_1] VRRP Instance VI_1 - Entering FAULT state")
	})
}

func TestMemberLostAndBack(t *testing.T) {
	story(t, 3, func(l *lab) {
		l.silent("m1", true)
		time.Sleep(time.Minute)
		l.want("[LVS_1] Member dir1 - LOST")
		if c := l.now().Channels[0]; c.Teller != "m2" {
			t.Errorf("%s tells", c.Teller)
		}
		l.silent("m1", false)
		time.Sleep(time.Minute)
		l.want("[LVS_1] Member dir1 - BACK")
		if c := l.now().Channels[0]; c.Teller != "m2" {
			t.Errorf("%s tells: the duty went back for nothing", c.Teller)
		}
	})
}

// What is common to two sets is told once to the same people, and to each of
// different ones.
func TestSetsWithTheSameRecipients(t *testing.T) {
	story(t, 2, func(l *lab) {
		l.apply("other", fsm.Globals{RouterID: "OTHER", NotificationEmail: []string{"root", "ops@lab.example"}, SMTPServer: "127.0.0.1"})
		l.apply("third", fsm.Globals{RouterID: "THIRD", NotificationEmail: []string{"else@lab"}, SMTPServer: "127.0.0.1"})
		l.silent("m2", true)
		l.votes(false, 0)
		time.Sleep(time.Minute)
		subjects := []string{}
		for _, m := range l.taken() {
			subjects = append(subjects, m.Subject)
		}
		slices.Sort(subjects)
		if len(subjects) != 2 || !strings.HasPrefix(subjects[0], down2+" (and 1 more)") || subjects[1] != "[THIRD] Member dir2 - LOST" {
			t.Errorf("%q", subjects)
		}
	})
}

// A server that is away is tried by one director after the other, with pauses that
// grow, and the mail stays the same one.
func TestServerAwayThenBack(t *testing.T) {
	story(t, 3, func(l *lab) {
		var tries []time.Time
		by, ids := map[fsm.MemberID]int{}, map[string]bool{}
		l.answer = func(id fsm.MemberID, m Mail) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			tries, ids[m.ID] = append(tries, time.Now()), true
			by[id]++
			return errors.New("connection refused")
		}
		l.owns("m1", true)
		time.Sleep(time.Hour)
		l.votes(false, 0) // waits behind
		time.Sleep(time.Second)
		if len(by) != 3 || len(ids) != 1 {
			t.Errorf("tried by %v, as %v", by, ids)
		}
		if n := len(tries); n < 20 || n > 70 {
			t.Errorf("%d tries in an hour", n)
		}
		status := strings.Join(l.members["m1"].Status(), "")
		if !strings.Contains(status, "cannot be delivered: connection refused") || !strings.Contains(status, "2 events wait") {
			t.Errorf("status %q", status)
		}
		l.mu.Lock()
		l.answer = func(fsm.MemberID, Mail) error { return nil }
		l.mu.Unlock()
		time.Sleep(time.Hour)
		l.want(master, down2)
		for id, m := range l.members {
			if s := m.Status(); len(s) > 0 {
				t.Errorf("%s still says %q", id, s)
			}
		}
	})
}

// Killed after the server has accepted, before the log knows: the next teller sends
// the same batch under the same Message-ID, whatever came in between.
func TestTellerDiesBetween(t *testing.T) {
	story(t, 2, func(l *lab) {
		l.answer = func(id fsm.MemberID, m Mail) error {
			if id == "m1" {
				l.mu.Lock()
				l.deaf = true
				l.mu.Unlock()
			}
			return nil
		}
		l.owns("m1", true)
		time.Sleep(10 * time.Second)
		first := l.want(master)[0]
		l.members["m1"].stop()
		l.mu.Lock()
		l.deaf = false
		l.mu.Unlock()
		l.votes(false, 0)
		l.silent("m1", true)
		time.Sleep(time.Minute)
		again := l.want(master, down2+" (and 1 more)")[0]
		if again.ID != first.ID || !again.Date.Equal(first.Date) {
			t.Errorf("sent as %s, then as %s", first.ID, again.ID)
		}
	})
}

// The teller alone is cut off from the log for a while: it remembers what it sent.
func TestLogAwayAfterSending(t *testing.T) {
	story(t, 2, func(l *lab) {
		l.answer = func(fsm.MemberID, Mail) error {
			l.mu.Lock()
			l.deaf = true
			l.mu.Unlock()
			return nil
		}
		l.owns("m1", true)
		time.Sleep(time.Minute)
		l.want(master)
		l.mu.Lock()
		l.deaf = false
		l.mu.Unlock()
		time.Sleep(time.Minute)
		l.want()
		if c := l.now().Channels[0]; c.Told != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestRefusedForGood(t *testing.T) {
	story(t, 2, func(l *lab) {
		l.answer = func(_ fsm.MemberID, m Mail) error {
			if m.Subject == master {
				return fmt.Errorf("%w: 554 no", ErrRefused)
			}
			return nil
		}
		l.owns("m1", true)
		time.Sleep(6 * time.Hour)
		if c := l.now().Channels[0]; c.Told != 1 {
			t.Fatalf("%+v", c)
		}
		if e := l.now().Events[len(l.now().Events)-1].Text; !strings.Contains(e, "gave up telling 1 event") || !strings.Contains(e, "554 no") {
			t.Error(e)
		}
		l.votes(false, 0)
		time.Sleep(time.Minute)
		l.want(down2)
	})
}

// A server of one set that hangs delays no other set's mail.
func TestHangingServerHoldsOnlyItsOwn(t *testing.T) {
	story(t, 1, func(l *lab) {
		l.apply("slow", fsm.Globals{NotificationEmail: []string{"x@y"}, SMTPServer: "slow"})
		release := make(chan struct{})
		l.answer = func(_ fsm.MemberID, m Mail) error {
			if m.Server == "slow:25" {
				<-release
			}
			return nil
		}
		l.silentWitness()
		l.owns("m1", true)
		time.Sleep(time.Minute)
		l.want(master + " (and 1 more)")
		close(release)
		time.Sleep(time.Second)
		l.want("[dir1] Member wit - LOST")
	})
}

// silentWitness adds one and loses it.
func (l *lab) silentWitness() {
	l.do(fsm.Command{Enrol: &fsm.Enrol{TokenHash: strings.Repeat("ab", 32), Request: "w", Name: "wit", Role: fsm.Witness, Addr: netip.MustParseAddrPort("10.0.0.99:7946")}})
	id := l.now().Members[len(l.now().Members)-1].ID
	present, silent := fsm.Present, true
	l.do(fsm.Command{Member: &fsm.SetMember{ID: id, State: &present}})
	l.do(fsm.Command{Member: &fsm.SetMember{ID: id, Silent: &silent}})
}

func TestAlertsComeFromEachMember(t *testing.T) {
	story(t, 3, func(l *lab) {
		l.mu.Lock()
		l.deaf = true
		l.mu.Unlock()
		n := fsm.Notice{Kind: "quorum", Name: "Quorum of dir1", State: "LOST", Text: "no leader"}
		fail := true
		ids := map[string]int{}
		l.answer = func(_ fsm.MemberID, m Mail) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			ids[m.ID]++
			if fail {
				return errors.New("no route")
			}
			return nil
		}
		l.members["m1"].Alert(n)
		l.members["m2"].Alert(n)
		time.Sleep(20 * time.Second)
		if s := strings.Join(l.members["m1"].Status(), ""); !strings.Contains(s, "no route") {
			t.Errorf("status %q", s)
		}
		l.members["m1"].Alert(fsm.Notice{Kind: "quorum", Name: "Quorum of dir1", State: "BACK", Text: "a leader"})
		l.mu.Lock()
		fail = false
		l.mu.Unlock()
		time.Sleep(time.Minute)
		l.mu.Lock()
		got := len(l.mails)
		l.mu.Unlock()
		if got != 3 || len(ids) != 3 {
			t.Errorf("%d mails, ids %v", got, ids)
		}
		for range 500 {
			l.members["m3"].Alert(n)
		}
		l.members["m3"].mu.Lock()
		defer l.members["m3"].mu.Unlock()
		if s := l.members["m3"].outs[fsm.Channel{Kind: fsm.ChannelMail, Set: "default"}]; len(s.alerts) != alertsKept || s.lost != 400 {
			t.Errorf("%d alerts are kept, %d lost", len(s.alerts), s.lost)
		}
	})
}

// Programs run at once, in order, on one director or on each; mail does not wait for
// them, nor they for mail.
func TestPrograms(t *testing.T) {
	story(t, 3, func(l *lab) {
		l.answer = func(fsm.MemberID, Mail) error { return errors.New("refused") }
		cfg := l.now().Config("default")
		cfg.Services[0].Notify.Down = &fsm.Script{Command: "/x"}
		cfg.Globals.FIFOs.LVS = &fsm.FIFO{Path: "/run/lvs"}
		l.do(fsm.Command{Apply: &fsm.ApplySet{Set: "default", Config: cfg}})
		want := func(lines ...string) {
			t.Helper()
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			slices.SortStableFunc(l.ran, func(a, b string) int { return strings.Compare(a[:2], b[:2]) })
			if !slices.Equal(l.ran, lines) {
				t.Errorf("ran %q, want %q", l.ran, lines)
			}
			l.ran = nil
		}
		l.votes(false, 0, 1)
		want("m1: server DOWN", "m1: server DOWN", "m1: pool DOWN")
		l.votes(true, 0)
		want("m1: server UP", "m1: pool UP")
		l.silent("m1", true)
		l.votes(false, 0)
		want("m2: server DOWN", "m2: pool DOWN")
		l.do(fsm.Command{Settings: &fsm.SetSettings{Scripts: fsm.ScriptsEach}})
		l.votes(true, 1)
		want("m2: server UP", "m2: pool UP", "m3: server UP", "m3: pool UP")
		if s := strings.Join(l.members["m2"].Status(), ""); strings.Contains(s, "scripts") {
			t.Errorf("status %q", s)
		}
	})
}
