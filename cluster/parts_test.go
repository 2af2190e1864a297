package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

func TestTokenText(t *testing.T) {
	want := joinToken{Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7400")}, Secret: bytes.Repeat([]byte{1}, 32), CA: bytes.Repeat([]byte{2}, 32)}
	text := want.String()
	if !strings.HasPrefix(text, "lbc1-") || strings.ContainsAny(text, "+/= \n") {
		t.Errorf("token %q does not survive a shell", text)
	}
	got, err := parseToken("\n " + text + " \n")
	if err != nil || got.String() != text {
		t.Errorf("read back %+v, %v", got, err)
	}
	for _, bad := range []string{"", "lbc1-", "lbc2-" + text[5:], text[:40], text + "=", "lbc1-bnVsbA", strings.Repeat("a", maxToken+1)} {
		if _, err := parseToken(bad); !errors.Is(err, ErrToken) {
			t.Errorf("%.50q: error %v", bad, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(joinToken{Secret: make([]byte, 32), CA: make([]byte, 32)}.String())
	f.Add("lbc1-e30")
	f.Add("lbc1-")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := parseToken(text)
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Errorf("error %v is no ErrToken", err)
			}
			return
		}
		again, err := parseToken(tok.String())
		if err != nil || again.String() != tok.String() {
			t.Errorf("%+v is read back as %+v, %v", tok, again, err)
		}
	})
}

// FuzzWire feeds everything that comes off the network.
func FuzzWire(f *testing.F) {
	f.Add([]byte(`{"secret":"AA==","request":"x","name":"a","role":"director","addr":"1.2.3.4:5","csr":"MA=="}`))
	f.Add([]byte(`{"code":"conflict","error":"no"}`))
	f.Add([]byte(`{"id":"m1","applied":3}`))
	f.Add([]byte("m1@127.0.0.1:7400"))
	f.Add([]byte(`{"committed":{},"applied":1,"table":{"v":1,"table":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var req enrolRequest
		if json.Unmarshal(b, &req) == nil && req.check() == nil {
			parseRequest(req.CSR)
		}
		parseRequest(b)
		var a enrolAnswer
		if json.Unmarshal(b, &a) == nil {
			parseAuthority(a.CA, a.CAKey)
		}
		for _, status := range []int{200, 409, 500} {
			var h hello
			readAnswer(&http.Response{StatusCode: status, Body: http.NoBody}, &h)
			rec := httptest.NewRecorder()
			rec.WriteHeader(status)
			rec.Write(b)
			if err := readAnswer(rec.Result(), &h); err == nil && status != 200 {
				t.Errorf("status %d is no error", status)
			}
		}
		readSnapshot(bytes.NewReader(b))
		if id, addr, err := parseServerAddress(raft.ServerAddress(b)); err == nil && serverAddress(id, addr) == "" {
			t.Error("empty address")
		}
		idNumber(fsm.MemberID(b))
	})
}

func TestFaultsKeepTheirKind(t *testing.T) {
	for _, known := range faults {
		w := httptest.NewRecorder()
		writeFault(w, fmt.Errorf("while doing it: %w", known.err))
		err := readAnswer(w.Result(), new(hello))
		if !errors.Is(err, known.err) || err.Error() != "while doing it: "+known.err.Error() {
			t.Errorf("%s came back as %v", known.code, err)
		}
	}
	// A halted member wraps both; what its caller must learn is that it halted.
	w := httptest.NewRecorder()
	writeFault(w, fmt.Errorf("%w: %w", ErrHalted, fsm.ErrUnknownCommand))
	if err := readAnswer(w.Result(), nil); !errors.Is(err, ErrHalted) || errors.Is(err, fsm.ErrUnknownCommand) {
		t.Errorf("halted came back as %v", err)
	}
	w = httptest.NewRecorder()
	writeFault(w, errors.New("something else"))
	if err := readAnswer(w.Result(), nil); err == nil || err.Error() != "something else" {
		t.Errorf("other errors: %v", err)
	}
}

func TestGone(t *testing.T) {
	table := &fsm.Table{NextMember: 6, Members: []fsm.Member{{ID: "m1"}, {ID: "m5"}}}
	for id, want := range map[fsm.MemberID]bool{
		"m1": false, "m5": false,
		"m2": true, "m4": true, // given once, not there any more
		"m6": false, "m99": false, // this table is behind
		"": true, "m": true, "m0": true, "x3": true, "m-1": true, "m1x": true, "m99999999999999999999": true,
	} {
		if got := gone(table, id); got != want {
			t.Errorf("gone(%q) = %v", id, got)
		}
	}
	if gone(fsm.New(), "m1") {
		t.Error("an empty table refuses a member")
	}
}

func TestBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		ctx, cancel := context.WithCancel(t.Context())
		ch := b.watch(ctx)
		synctest.Wait()
		for rev := fsm.Revision(1); rev <= 5; rev++ {
			b.publish(&fsm.Table{Revision: rev})
			synctest.Wait()
		}
		b.publish(&fsm.Table{Revision: 3}) // Raft replays its log
		synctest.Wait()
		if got := <-ch; got.Revision != 5 {
			t.Errorf("a slow reader got revision %d first, want the newest", got.Revision)
		}
		select {
		case got := <-ch:
			t.Errorf("and then revision %d", got.Revision)
		default:
		}
		done := make(chan error)
		go func() { done <- b.until(ctx, func(t *fsm.Table) bool { return t.Revision >= 6 }) }()
		b.publish(&fsm.Table{Revision: 6})
		if err := <-done; err != nil {
			t.Error(err)
		}
		cancel()
		synctest.Wait()
		for range ch { // one table may be left
		}
		if err := b.until(ctx, func(*fsm.Table) bool { return false }); !errors.Is(err, context.Canceled) {
			t.Errorf("until after the end: %v", err)
		}
		b.reset()
		if t2, _ := b.latest(); t2.Revision != 0 {
			t.Error("not reset")
		}
	})
}

func TestContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool // m3
		c := &contacts{
			every:   time.Second,
			members: func() []fsm.MemberID { return []fsm.MemberID{"m2", "m3", "m4"} },
			greet: func(ctx context.Context, id fsm.MemberID) (hello, error) {
				if id == "m4" { // hangs, and holds up nobody
					<-ctx.Done()
					return hello{}, ctx.Err()
				}
				if id == "m3" && down.Load() {
					return hello{}, errors.New("no answer")
				}
				return hello{ID: id, Applied: 7}, nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.run(ctx) }()
		start := time.Now()
		time.Sleep(5500 * time.Millisecond)
		down.Store(true)
		time.Sleep(4 * time.Second)
		down.Store(false)
		time.Sleep(time.Second)
		seen := c.all()
		if k := seen["m2"]; !k.Since.Equal(start) || time.Since(k.Last) > time.Second || k.Hello.Applied != 7 {
			t.Errorf("m2, always there: %+v", k)
		}
		if k := seen["m3"]; k.Since.Sub(start) != 10*time.Second || k.Err != "" {
			t.Errorf("m3, back after 4 s: since %v, %q", k.Since.Sub(start), k.Err)
		}
		if k := seen["m4"]; !k.Last.IsZero() || k.Err == "" {
			t.Errorf("m4, never there: %+v", k)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestBucket(t *testing.T) {
	b, now := newBucket(3, 2), time.Unix(0, 0)
	took := 0
	for range 10 {
		if b.take(now) {
			took++
		}
	}
	if took != 3 {
		t.Errorf("a burst of %d, want 3", took)
	}
	if b.take(now.Add(400 * time.Millisecond)) {
		t.Error("one more after 0.4 s at 2 a second")
	}
	if !b.take(now.Add(600 * time.Millisecond)) {
		t.Error("none after 0.6 s at 2 a second")
	}
}

// A connection that never speaks is cut, and holds none of the others up.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	b := newMachineUnderTest(t, "b")
	for range maxHandshakes / 2 {
		c, err := net.Dial("tcp", a.cfg.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte{0x16})
	}
	began := time.Now()
	token, err := a.node.NewToken(within10(t), time.Minute, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	b.join(token)
	if d := time.Since(began); d > handshakeLimit {
		t.Errorf("joining beside them took %v", d)
	}
	eventually(t, "they are cut", func() bool { return a.node.Status().Refused >= maxHandshakes/2 })
}

func TestConfigRefused(t *testing.T) {
	good := Config{Dir: t.TempDir(), Name: "a", Addr: netip.MustParseAddrPort("127.0.0.1:7400")}
	for name, spoil := range map[string]func(*Config){
		"folder":   func(c *Config) { c.Dir = "" },
		"name":     func(c *Config) { c.Name = "" },
		"address":  func(c *Config) { c.Addr = netip.AddrPort{} },
		"wildcard": func(c *Config) { c.Addr = netip.MustParseAddrPort("0.0.0.0:7400") },
		"port":     func(c *Config) { c.Addr = netip.MustParseAddrPort("127.0.0.1:65535") },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	n, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	// In no cluster everything says so.
	if _, ok := n.Identity(); ok || n.Table().Revision != 0 || n.Status().Enrolled {
		t.Error("a new node is in a cluster")
	}
	if c, a := n.Voters(); len(c.Voters)+len(a.Voters) != 0 {
		t.Error("a new node has voters")
	}
	for name, f := range map[string]func() error{
		"Propose":  func() error { _, err := n.Propose(t.Context(), settle("fast")); return err },
		"NewToken": func() error { _, err := n.NewToken(t.Context(), time.Hour, 1, ""); return err },
		"Leave":    func() error { return n.Leave(t.Context()) },
		"Ask":      func() error { _, err := n.Ask(t.Context(), "m1", "x"); return err },
	} {
		if err := f(); !errors.Is(err, ErrUnenrolled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What the table would refuse is refused before anything is written.
	if _, err := n.Init(t.Context(), "no such profile", 0); !errors.Is(err, fsm.ErrInvalid) {
		t.Errorf("Init with a bad profile: %v", err)
	}
	if again, err := New(good); err != nil {
		t.Error(err)
	} else if _, ok := again.Identity(); ok {
		t.Error("a refused Init left an identity")
	}
}

func TestSpacingFollowsTheProfile(t *testing.T) {
	for profile, want := range map[string]time.Duration{"default": 4 * time.Second, "fast": 4 * time.Second, "robust": 8 * time.Second, "": 4 * time.Second} {
		for _, guard := range []time.Duration{0, time.Second, fsm.MaxGuard} {
			s := fsm.Settings{Profile: profile, Guard: fsm.Duration(guard)}
			got := (Timing{}).withDefaults().spacing(s)
			if extra := got - want; extra < guard || extra > guard*6/5 {
				t.Errorf("profile %q, guard %v: %v", profile, guard, got)
			}
			// R16: the longest promise, by the clock that runs slowest.
			if promise := (3*time.Second + guard) * 1166 / 1000; got < promise {
				t.Errorf("profile %q, guard %v: %v is within a promise of %v", profile, guard, got, promise)
			}
		}
	}
}

func TestLogsReachSlog(t *testing.T) {
	var out bytes.Buffer
	l := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	h := newHCLogger(l, "raft")
	h.Debug("not shown")
	h.With("term", 3).Warn("hello", "servers", hclog.Fmt("%d of %d", 2, 3))
	h.Named("x").Error("no")
	fmt.Fprint(h.StandardWriter(nil), "[DEBUG] memberlist: quiet\n[ERR] memberlist: trouble\nplain\n")
	want := `level=WARN msg=hello part=raft term=3 servers="2 of 3"
level=ERROR msg=no part=raft
level=WARN msg=trouble part=raft
level=INFO msg=plain part=raft
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	if h.IsDebug() || !h.IsWarn() {
		t.Error("levels are wrong")
	}
}

// Anybody can show the CA's certificate, which is no secret; only a member has
// one that is signed with its key.
func TestPinnedDemandsAMember(t *testing.T) {
	ca, err := newAuthority("c1")
	if err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority("c1")
	if err != nil {
		t.Fatal(err)
	}
	hash := ca.hash()
	for name, test := range map[string]struct {
		signer, shown *authority
		want          error
	}{
		"a member":             {ca, ca, nil},
		"another cluster":      {other, other, ErrWrongCA},
		"a borrowed CA":        {other, ca, ErrWrongCA},
		"no CA, only the leaf": {ca, nil, ErrWrongCA},
	} {
		key, _, err := newMemberKey()
		if err != nil {
			t.Fatal(err)
		}
		certPEM, err := test.signer.sign("m1", "c1", key.Public())
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(certPEM)
		leaf := tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
		if test.shown != nil {
			leaf.Certificate = append(leaf.Certificate, test.shown.cert.Raw)
		}
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{alpnJoin}})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			if c, err := ln.Accept(); err == nil {
				c.(*tls.Conn).Handshake()
				c.Close()
			}
		}()
		c, err := tls.Dial("tcp", ln.Addr().String(), pinned(hash[:]))
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if err == nil {
			c.Close()
		}
		ln.Close()
		<-served
	}
}

// After a command that it cannot read a machine applies nothing, not even what
// it could: its table would not be the others'.
func TestMachineHalts(t *testing.T) {
	fl, err := openFloor(t.TempDir()+"/x", 0)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(fl, func(*fsm.Table) {})
	apply := func(index uint64, c fsm.Command) outcome {
		t.Helper()
		c.Version, c.By, c.At = fsm.CommandVersion, "test", time.Unix(1, 0)
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return m.Apply(&raft.Log{Index: index, Data: b}).(outcome)
	}
	found := &fsm.Found{Cluster: "c1", Name: "a", Addr: netip.MustParseAddrPort("192.0.2.1:7400")}
	if o := apply(1, fsm.Command{Found: found}); o.err != nil || o.result.Member != "m1" {
		t.Fatalf("found: %+v", o)
	}
	if o := apply(2, settle("nonsense")); !errors.Is(o.err, fsm.ErrInvalid) {
		t.Errorf("a refused command: %v", o.err)
	}
	if o := m.Apply(&raft.Log{Index: 3, Data: []byte("garbage")}).(outcome); !errors.Is(o.err, ErrHalted) {
		t.Errorf("garbage: %v", o.err)
	}
	if o := apply(4, settle("fast")); !errors.Is(o.err, ErrHalted) {
		t.Errorf("a good command after it: %+v", o)
	}
	if table, applied, halted := m.state(); table.Settings.Profile != "default" || applied != 2 || halted == nil {
		t.Errorf("profile %s, applied %d, halted %v", table.Settings.Profile, applied, halted)
	}
}
