package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

func TestLeaderDies(t *testing.T) {
	t.Parallel()
	all := three(t)
	dead := leaderOf(t, all)
	res, err := dead.node.Propose(within10(t), settle("fast"))
	if err != nil {
		t.Fatal(err)
	}
	dead.stop()
	rest := slices.DeleteFunc(slices.Clone(all), func(m *machineUnderTest) bool { return m == dead })
	for i, m := range rest {
		if _, err := m.node.Propose(within10(t), settle([]string{"robust", "default"}[i])); err != nil {
			t.Fatalf("write on %s after the leader's end: %v", m.cfg.Name, err)
		}
	}
	eventually(t, "the dead member is silent", func() bool {
		m, _ := findMember(rest[0].node.Table().Members, mustID(dead))
		return m.Silent
	})
	// It comes back with everything, and what was acknowledged is there.
	dead.start()
	if dead.node.Table().Revision < res.Revision {
		t.Errorf("it starts with revision %d, but had acknowledged %d", dead.node.Table().Revision, res.Revision)
	}
	if id, _ := dead.node.Identity(); id.NewlyEnrolled {
		t.Error("after a restart it calls itself newly enrolled")
	}
	eventually(t, "the member is back", func() bool {
		m, _ := findMember(dead.node.Table().Members, mustID(dead))
		return !m.Silent && dead.node.Table().Settings.Profile == "default"
	})
	awaitVoters(t, all, 3)
}

func mustID(m *machineUnderTest) fsm.MemberID {
	id, _ := m.node.Identity()
	return id.ID
}

func TestAcknowledgedWritesSurviveRestarts(t *testing.T) {
	t.Parallel()
	all := three(t)
	var last fsm.Revision
	for i := range 6 {
		m := all[i%3]
		last = write(t, m, []string{"fast", "robust"}[i%2])
		all[(i+1)%3].restart()
	}
	// All at once: nobody is left to remember but the disks.
	for _, m := range all {
		m.stop()
	}
	if err := os.Remove(filepath.Join(all[0].cfg.Dir, fileTable)); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		m.start()
	}
	for _, m := range all {
		if err := m.node.WaitRevision(within10(t), last); err != nil {
			t.Fatal(err)
		}
		if got := m.node.Table().Settings.Profile; got != "robust" {
			t.Errorf("%s has profile %q", m.cfg.Name, got)
		}
	}
}

func TestNoLeader(t *testing.T) {
	t.Parallel()
	all := three(t)
	all[1].stop()
	all[2].stop()
	table := all[0].node.Table()
	eventually(t, "contact is lost", func() bool {
		n, _ := all[0].node.session.reachable([]fsm.MemberID{"m1", "m2", "m3"}, time.Now())
		return n == 1 && all[0].node.Status().State != "Leader"
	})
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	_, err := all[0].node.Propose(ctx, settle("fast"))
	if !errors.Is(err, ErrNoLeader) || !strings.Contains(err.Error(), "1 of 3 voters reachable from m1") {
		t.Errorf("error %v", err)
	}
	// A patient caller is told in time as well.
	all[0].node.t.Propose = 300 * time.Millisecond
	began := time.Now()
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := all[0].node.Propose(ctx, settle("fast")); !errors.Is(err, ErrNoLeader) || time.Since(began) > 10*time.Second {
		t.Errorf("error %v after %v", err, time.Since(began))
	}
	if all[0].node.Table() != table {
		t.Error("the table changed without a leader")
	}
	// And after a restart alone it still shows the table it had.
	all[0].restart()
	if got := all[0].node.Table(); got.Revision != table.Revision || len(got.Members) != 3 {
		t.Errorf("after a restart alone: revision %d of %d members", got.Revision, len(got.Members))
	}
	awaitVoters(t, all[:1], 3)
}

func TestLeave(t *testing.T) {
	t.Parallel()
	all := three(t)
	leader := leaderOf(t, all)
	if err := leader.node.RemoveMember(within10(t), mustID(leader)); !errors.Is(err, fsm.ErrInvalid) {
		t.Errorf("a member removes itself: %v", err)
	}
	// The leader leaves: it hands over, loses its vote and goes.
	gone := mustID(leader)
	if err := leader.node.Leave(within10(t)); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	if _, ok := leader.node.Identity(); ok || leader.node.Table().Cluster != "" {
		t.Error("it left, but has an identity or a table")
	}
	if _, err := leader.node.Propose(within10(t), settle("fast")); !errors.Is(err, ErrUnenrolled) {
		t.Errorf("a write after leaving: %v", err)
	}
	if kept, _ := filepath.Glob(filepath.Join(leader.cfg.Dir, "left-*", fileIdentity)); len(kept) != 1 {
		t.Errorf("the old identity was not kept: %v", kept)
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(m *machineUnderTest) bool { return m == leader })
	awaitVoters(t, rest, 1)
	for _, m := range rest {
		eventually(t, "the table forgets it", func() bool {
			_, in := findMember(m.node.Table().Members, gone)
			return !in
		})
	}
	// The next one too; the last one cannot.
	if err := rest[0].node.Leave(within10(t)); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	if _, err := rest[1].node.Propose(within10(t), settle("fast")); err != nil {
		t.Errorf("the last member cannot write: %v", err)
	}
	eventually(t, "the table has one member", func() bool { return len(rest[1].node.Table().Members) == 1 })
	if err := rest[1].node.Leave(within10(t)); !errors.Is(err, ErrLastMember) {
		t.Errorf("the last member leaves: %v", err)
	}
	// Who left may join again, under a new id, without a restart.
	token, err := rest[1].node.NewToken(within10(t), time.Minute, 1, fsm.Director)
	if err != nil {
		t.Fatal(err)
	}
	leader.join(token)
	if id := mustID(leader); id != "m4" {
		t.Errorf("the new id is %s, want m4: ids are never used again", id)
	}
}

func TestRemovedMemberIsLockedOut(t *testing.T) {
	t.Parallel()
	all := three(t)
	out := all[2]
	before := time.Now()
	if err := all[1].node.RemoveMember(within10(t), "m3"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is told that it was removed", func() bool {
		_, err := out.node.Ask(within10(t), "m1", "name")
		return errors.Is(err, ErrRemoved)
	})
	awaitVoters(t, all[:2], 1)
	if d := time.Since(before); d < quick.Spacing {
		t.Errorf("two changes of the voters within %v", d)
	}
	// The others do not talk to it either.
	if _, err := all[0].node.Ask(within10(t), "m3", "name"); err == nil {
		t.Error("a removed member was asked")
	}
	if _, err := all[0].node.Propose(within10(t), settle("fast")); err != nil {
		t.Error(err)
	}
	if out.node.Table().Settings.Profile == "fast" {
		t.Error("a removed member receives the table")
	}
	// It can give itself up.
	if err := out.node.Leave(within10(t)); err != nil {
		t.Errorf("Leave of a removed member: %v", err)
	}
}

func TestJoinRefused(t *testing.T) {
	t.Parallel()
	a, token := found(t, "a")
	b := newMachineUnderTest(t, "b")
	token1, err := a.node.NewToken(within10(t), time.Minute, 1, fsm.Witness)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := a.node.NewToken(within10(t), 30*time.Millisecond, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(40 * time.Millisecond) // tokens expire by the clock on the wall
	wrong := func(change func(*joinToken)) string {
		tok, err := parseToken(token)
		if err != nil {
			t.Fatal(err)
		}
		change(&tok)
		return tok.String()
	}
	revision := a.node.Table().Revision
	index := a.node.Status().Applied
	for name, test := range map[string]struct {
		addr, token string
		role        fsm.Role
		want        error
	}{
		"no token":          {"", "", fsm.Director, ErrToken},
		"cut token":         {"", token[:len(token)-9], fsm.Director, ErrToken},
		"wrong secret":      {"", wrong(func(t *joinToken) { t.Secret[0] ^= 1 }), fsm.Director, fsm.ErrDenied},
		"wrong CA":          {"", wrong(func(t *joinToken) { t.CA[0] ^= 1 }), fsm.Director, ErrWrongCA},
		"token without use": {"", token1, fsm.Director, fsm.ErrDenied}, // for a witness
		"expired":           {"", expired, fsm.Director, fsm.ErrDenied},
		"no address":        {"", wrong(func(t *joinToken) { t.Addrs = nil }), fsm.Director, ErrToken},
		"bad role":          {"", token, "king", fsm.ErrInvalid},
	} {
		if err := b.node.Join(within10(t), test.addr, test.token, test.role); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
		if _, ok := b.node.Identity(); ok {
			t.Fatalf("%s: joined", name)
		}
	}
	if err := b.node.Join(within10(t), "nowhere", token, fsm.Director); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
		t.Errorf("bad address: %v", err)
	}
	if got := a.node.Table().Revision; got != revision {
		t.Errorf("refused joins changed the table: revision %d, was %d", got, revision)
	}
	if got := a.node.Status().Applied; got != index {
		t.Errorf("refused joins got into the log: %d entries, were %d", got, index)
	}

	// The address given wins over the token's, which leads nowhere here.
	lost := wrong(func(t *joinToken) { t.Addrs[0] = freeAddr2(b) })
	if err := b.node.Join(within10(t), a.cfg.Addr.String(), lost, fsm.Director); err != nil {
		t.Fatalf("join at a given address: %v", err)
	}
	if err := b.node.Join(within10(t), "", token, fsm.Director); !errors.Is(err, ErrEnrolled) {
		t.Errorf("join twice: %v", err)
	}
	if _, err := b.node.Init(within10(t), "", 0); !errors.Is(err, ErrEnrolled) {
		t.Errorf("init after join: %v", err)
	}
	// A token for one, used by two.
	w1, w2 := newMachineUnderTest(t, "w1"), newMachineUnderTest(t, "w2")
	if err := w1.node.Join(within10(t), "", token1, fsm.Witness); err != nil {
		t.Fatal(err)
	}
	if err := w2.node.Join(within10(t), "", token1, fsm.Witness); !errors.Is(err, fsm.ErrDenied) {
		t.Errorf("a used-up token: %v", err)
	}
	// A name twice.
	again := newMachineUnderTest(t, "b")
	if err := again.node.Join(within10(t), "", token, fsm.Director); !errors.Is(err, fsm.ErrInvalid) {
		t.Errorf("a name twice: %v", err)
	}
	// The witness votes like everybody else.
	awaitVoters(t, []*machineUnderTest{a, b, w1}, 3)
}

func freeAddr2(m *machineUnderTest) netip.AddrPort { return freeAddr(m.t) }

// A joiner that loses the answer asks again and gets the same id.
func TestJoinAgainAfterLostAnswer(t *testing.T) {
	t.Parallel()
	a, token := found(t, "a")
	b := newMachineUnderTest(t, "b")
	tok, err := parseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	j, err := b.node.beginJoin(hashSecret(tok.Secret))
	if err != nil {
		t.Fatal(err)
	}
	lost, err := enrolAt(within10(t), []string{a.cfg.Addr.String()}, tok, j, enrolRequest{Name: b.cfg.Name, Role: fsm.Director, Addr: b.cfg.Addr, Reads: b.node.reads})
	if err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.join(token)
	if id := mustID(b); id != lost.ID {
		t.Errorf("joined as %s, the lost answer said %s", id, lost.ID)
	}
	if n := len(a.node.Table().Members); n != 2 {
		t.Errorf("%d members", n)
	}
}

func TestGarbageOnThePort(t *testing.T) {
	t.Parallel()
	all := three(t)
	addr := all[0].cfg.Addr.String()
	dial := func(cfg *tls.Config) (net.Conn, error) {
		cfg.InsecureSkipVerify = true
		return tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, cfg)
	}
	refusedRead := func(name string, c net.Conn, err error) {
		t.Helper()
		if err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: got %d bytes", name, n)
		}
	}
	for name, text := range map[string]string{"http": "GET / HTTP/1.0\r\n\r\n", "zeros": strings.Repeat("\x00", 4096), "tls": "\x16\x03\x01\xff\xff\x01"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
		_ = name
	}
	c, err := dial(&tls.Config{})
	refusedRead("no protocol", c, err)
	c, err = dial(&tls.Config{NextProtos: []string{"h2"}})
	refusedRead("unknown protocol", c, err)
	c, err = dial(&tls.Config{NextProtos: []string{alpnJoin, alpnMember}})
	refusedRead("two protocols", c, err)
	for _, proto := range []string{alpnMember, alpnRaft} {
		c, err = dial(&tls.Config{NextProtos: []string{proto}})
		refusedRead(proto+" without a certificate", c, err)
		c, err = dial(&tls.Config{NextProtos: []string{proto}, Certificates: []tls.Certificate{foreignCert(t, all[0])}})
		refusedRead(proto+" with a foreign certificate", c, err)
	}
	c, err = dial(&tls.Config{NextProtos: []string{alpnMember}, MaxVersion: tls.VersionTLS12})
	refusedRead("TLS 1.2", c, err)

	// What a joiner may not: members' requests, and bodies without end.
	c, err = dial(&tls.Config{NextProtos: []string{alpnJoin}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n")
	answer := make([]byte, 64)
	n, _ := c.Read(answer)
	if !strings.Contains(string(answer[:n]), "404") {
		t.Errorf("a joiner asks for hello: %q", answer[:n])
	}
	c2, err := dial(&tls.Config{NextProtos: []string{alpnJoin}})
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	fmt.Fprintf(c2, "POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{\"name\":\"%s", strings.Repeat("x", maxEnrolRequest))
	n, _ = c2.Read(answer)
	if !strings.Contains(string(answer[:n]), "422") {
		t.Errorf("a request without end: %q", answer[:n])
	}

	if n := all[0].node.Status().Refused; n < 8 {
		t.Errorf("%d refused connections counted", n)
	}
	if _, err := all[0].node.Propose(within10(t), settle("fast")); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// foreignCert is a certificate with the right names from a CA of its own.
func foreignCert(t *testing.T, m *machineUnderTest) tls.Certificate {
	t.Helper()
	id, _ := m.node.Identity()
	ca, err := newAuthority(id.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	key, keyPEM, err := newMemberKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.sign("m2", id.Cluster, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
