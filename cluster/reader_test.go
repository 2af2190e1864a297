package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// serve1 applies one virtual server per VIP, all with the real server 10.1.1.2.
func serve1(t *testing.T, m *machineUnderTest, vips ...string) {
	t.Helper()
	var c fsm.Config
	for _, vip := range vips {
		c.Services = append(c.Services, fsm.VirtualServer{
			ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr(vip), Port: 80, Protocol: fsm.TCP},
			Scheduler:  "rr", Method: fsm.DirectRouting,
			RealServers: []fsm.RealServer{{Addr: netip.MustParseAddr("10.1.1.2"), Port: 80, Weight: 1}},
		})
	}
	if _, err := m.node.Propose(within10(t), fsm.Command{At: time.Now(), By: "test", Apply: &fsm.ApplySet{Set: "default", Config: c}}); err != nil {
		t.Fatal(err)
	}
}

func text(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// A reader sees the VIPs of its addresses, from whichever member answers, follows
// the members, and gets nothing else from them.
func TestReader(t *testing.T) {
	t.Parallel()
	all := three(t)
	awaitVoters(t, all, 3) // each new voter may cost the leader its office
	token, err := leaderOf(t, all).node.NewToken(within10(t), time.Minute, 2, fsm.Reader)
	if err != nil {
		t.Fatal(err)
	}
	intruder := newMachineUnderTest(t, "intruder")
	for _, role := range []fsm.Role{fsm.Director, fsm.Witness} {
		if err := intruder.node.Join(within10(t), "", token, role); !errors.Is(err, fsm.ErrDenied) {
			t.Errorf("a reader's token makes a %s: %v", role, err)
		}
	}
	before := len(all[0].node.Table().Members)
	id, members, err := EnrolReader(within10(t), "", token, "web1")
	if err != nil {
		t.Fatal(err)
	}
	if len(members) != 3 || len(all[0].node.Table().Members) != before {
		t.Errorf("told of members %v; the table has %d", members, len(all[0].node.Table().Members))
	}
	r, err := NewReader(id, ReaderAnswer{Members: members})
	if err != nil {
		t.Fatal(err)
	}
	own := []netip.Addr{netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("fe80::1")}
	ask := func() ReaderAnswer {
		t.Helper()
		a, err := r.VIPs(within10(t), own)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := ask(); len(a.VIPs) != 0 || len(a.Members) != 3 {
		t.Errorf("before anything is applied: %+v", a)
	}
	serve1(t, all[0], "172.16.0.2", "172.16.0.1")
	eventually(t, "the VIPs are told", func() bool { return text(ask().VIPs) == "172.16.0.1 172.16.0.2" })
	for _, m := range all[:2] {
		m.stop()
	}
	if got := text(ask().VIPs); got != "172.16.0.1 172.16.0.2" {
		t.Errorf("from the member that is left: %s", got)
	}
	own = own[1:]
	if a := ask(); len(a.VIPs) != 0 {
		t.Errorf("another host's VIPs: %v", a.VIPs)
	}
	all[2].stop()
	if _, err := r.VIPs(within10(t), own); err == nil || strings.Count(err.Error(), "asking m") != 3 {
		t.Errorf("without members: %v", err)
	}
}

// A reader's certificate opens no other protocol, and a member's not the readers'.
func TestReaderOnlyReads(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	token, err := a.node.NewToken(within10(t), time.Minute, 1, fsm.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := EnrolReader(within10(t), a.cfg.Addr.String(), token, "web1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := EnrolReader(within10(t), a.cfg.Addr.String(), token, "web2"); !errors.Is(err, fsm.ErrDenied) {
		t.Errorf("a used-up token: %v", err)
	}
	served := func(cert tls.Certificate, proto string) bool {
		t.Helper()
		cfg, err := id.credentials()
		if err != nil {
			t.Fatal(err)
		}
		cfg.NextProtos, cfg.Certificates, cfg.ServerName = []string{proto}, []tls.Certificate{cert}, hostName("m1", id.Cluster)
		c, err := (&tls.Dialer{Config: cfg}).DialContext(within10(t), "tcp", a.cfg.Addr.String())
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(c, "GET /v1/vips HTTP/1.1\r\nHost: m1\r\n\r\n"); err != nil {
			return false
		}
		b := make([]byte, 1)
		_, err = io.ReadFull(c, b)
		return err == nil
	}
	reader, err := id.credentials()
	if err != nil {
		t.Fatal(err)
	}
	if !served(reader.Certificates[0], alpnReader) {
		t.Error("a reader is not served")
	}
	for _, proto := range []string{alpnRaft, alpnMember, alpnLease} {
		if served(reader.Certificates[0], proto) {
			t.Errorf("a reader is served as %s", proto)
		}
	}
	if served(a.node.session.creds.leaf, alpnReader) {
		t.Error("a member's certificate is taken for a reader's")
	}
	if served(foreignCert(t, a), alpnReader) {
		t.Error("a certificate of another CA is taken for a reader's")
	}
}

// Whom a Reader believes.
func TestReaderBelieves(t *testing.T) {
	t.Parallel()
	answers := map[fsm.MemberID]int{} // member -> revision; 0: no answer
	ms := []MemberAddr{{ID: "m1"}, {ID: "m2"}, {ID: "m3"}}
	r := &Reader{known: ReaderAnswer{Revision: 7, Members: ms}, clients: map[MemberAddr]*http.Client{}}
	for _, m := range ms {
		r.clients[m] = &http.Client{Transport: fakeMember(func() (int, []MemberAddr) { return answers[m.ID], ms })}
	}
	for _, step := range []struct{ m1, m2, m3, want int }{
		{7, 0, 0, 7},
		{6, 8, 0, 8},  // m1 lags
		{6, 0, 0, -1}, // and is alone: it may be cut off
		{6, 7, 0, -1},
		{6, 7, 5, 7}, // all of them: the table was set back
		{0, 0, 0, -1},
		{0, 0, 9, 9},
	} {
		answers["m1"], answers["m2"], answers["m3"] = step.m1, step.m2, step.m3
		a, err := r.VIPs(context.Background(), nil)
		if (err == nil) != (step.want >= 0) || err == nil && a.Revision != fsm.Revision(step.want) {
			t.Errorf("%+v: revision %d, %v", step, a.Revision, err)
		}
	}
}

// fakeMember answers a reader.
type fakeMember func() (revision int, members []MemberAddr)

func (f fakeMember) RoundTrip(*http.Request) (*http.Response, error) {
	revision, members := f()
	if revision == 0 {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	writeJSON(w, http.StatusOK, ReaderAnswer{Revision: fsm.Revision(revision), Members: members})
	return w.Result(), nil
}
