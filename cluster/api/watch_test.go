package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

// sent is one server-sent event.
type sent struct{ kind, id, data string }

// watchFor collects what GET /v1/watch sends within d; body runs meanwhile.
func watchFor(t *testing.T, f *apitest.Fake, query string, d time.Duration, body func(), header ...string) (int, []sent) {
	t.Helper()
	w := httptest.NewRecorder()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", "/v1/watch"+query, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	done := make(chan struct{})
	go func() { defer close(done); handler(f).ServeHTTP(w, r) }()
	if body != nil {
		body()
	}
	<-done
	return w.Code, parseSent(w.Body)
}

func parseSent(r io.Reader) (out []sent) {
	var one sent
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		field, value, _ := strings.Cut(sc.Text(), ": ")
		switch field {
		case "event":
			one.kind = value
		case "id":
			one.id = value
		case "data":
			one.data = value
		case "":
			if one.kind != "" {
				out = append(out, one)
			}
			one = sent{}
		}
	}
	return out
}

func kinds(list []sent, kind string) (out []sent) {
	for _, s := range list {
		if s.kind == kind {
			out = append(out, s)
		}
	}
	return out
}

// TestWatchReports: one at once, then one in each interval.
func TestWatchReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status, got := watchFor(t, apitest.NewBusy(), "?every=1s", 3500*time.Millisecond, nil)
		reports := kinds(got, "status")
		if status != 200 || len(reports) != 4 || len(got) != 4 {
			t.Fatalf("status %d, %d reports of %d messages", status, len(reports), len(got))
		}
		var r api.StatusReport
		if err := json.Unmarshal([]byte(reports[0].data), &r); err != nil || len(r.Routers) != 2 || len(r.Members) != 3 {
			t.Errorf("%v: %+v", err, r)
		}
	})
}

// TestWatchEvents: those asked for of the past, then each as it happens.
func TestWatchEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := apitest.NewBusy()
		drain := fsm.Drained
		status, got := watchFor(t, f, "?last=2", 5*time.Second, func() {
			time.Sleep(2500 * time.Millisecond)
			f.Must(fsm.Command{Override: &fsm.SetOverride{Server: f.Table().Services[0].RealServers[0].AddrPort(), State: drain}})
		})
		events := kinds(got, "event")
		if status != 200 || len(events) != 3 {
			t.Fatalf("status %d, %+v", status, events)
		}
		if last := events[2]; last.id != fmt.Sprint(f.Table().Revision) || !strings.Contains(last.data, "172.25.88.2") {
			t.Errorf("the drain is told as %+v", last)
		}
		if got[len(got)-1].kind == "event" {
			t.Error("no report after the event")
		}
	})
}

// TestWatchContinues: behind the revision that a client says, nothing is missing and
// nothing comes twice.
func TestWatchContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := apitest.NewBusy()
		all := f.Table().Events
		after := all[len(all)-3].Revision
		want := 0
		for _, e := range all {
			if e.Revision > after {
				want++
			}
		}
		for _, how := range [][]string{{"Last-Event-ID", fmt.Sprint(after)}, nil} {
			query := ""
			if how == nil {
				query = fmt.Sprintf("?after=%d", after)
			}
			_, got := watchFor(t, f, query, time.Second, nil, how...)
			if n := len(kinds(got, "event")); n != want || want == 0 {
				t.Errorf("%v %s: %d events, not %d", how, query, n, want)
			}
		}
	})
}

// TestWatchUnenrolled: a machine in no cluster says so, and does not spin.
func TestWatchUnenrolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, got := watchFor(t, apitest.New(), "", 5*time.Second, nil)
		if len(got) != 3 || !strings.Contains(got[0].data, `"enrolled":false`) {
			t.Errorf("%+v", got)
		}
	})
}

// TestWatchRefuses what it does not understand.
func TestWatchRefuses(t *testing.T) {
	f := apitest.NewBusy()
	for _, query := range []string{"?every=1ms", "?every=2h", "?every=x", "?last=-1", "?last=99999", "?after=x"} {
		if status, p := ask(handler(f), "GET", "/v1/watch"+query, ""); status != 400 || p.Code != api.CodeBadRequest {
			t.Errorf("%s: %d %+v", query, status, p)
		}
	}
	if status, _ := watchFor(t, f, "", time.Second, nil, "Last-Event-ID", "x"); status != 400 {
		t.Errorf("Last-Event-ID: %d", status)
	}
	if status, p := ask(handler(f), "POST", "/v1/watch", ""); status != 405 {
		t.Errorf("POST: %d %+v", status, p)
	}
}

// TestWatchIsBounded: too many watchers are told to come later, and commands still get
// through; who goes makes room.
func TestWatchIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serveAt(t, apitest.NewBusy(), path)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	var open []*http.Response
	for {
		resp, err := client.Get("http://lbcluster/v1/watch")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			break
		}
		if open = append(open, resp); len(open) > 60 {
			t.Fatal("no bound")
		}
	}
	if _, err := api.NewClient(path).Version(t.Context()); err != nil {
		t.Errorf("a command while %d watch: %v", len(open), err)
	}
	open[0].Body.Close()
	for range 500 {
		resp, err := client.Get("http://lbcluster/v1/watch")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == 200 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("who goes makes no room")
}

// TestBrowsersAreGuarded: what a foreign page could have a browser send is refused on
// the socket; the page, curl and the command line are not.
func TestBrowsersAreGuarded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serveAt(t, apitest.NewBusy(), path)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for _, c := range []struct {
		method, url, origin string
		want                int
	}{
		{"GET", "http://lbcluster/v1/version", "", 200},
		{"GET", "http://localhost:8080/v1/version", "", 200},
		{"GET", "http://127.0.0.1:8080/v1/version", "", 200},
		{"GET", "http://[::1]:8080/v1/version", "", 200},
		{"GET", "http://evil.example:8080/v1/version", "", 403},
		{"POST", "http://evil.example:8080/v1/plan", "http://evil.example:8080", 403},
		{"POST", "http://localhost:8080/v1/plan", "https://evil.example", 403},
		{"POST", "http://localhost:8080/v1/plan", "http://localhost:8080", 200},
		{"POST", "http://lbcluster/v1/plan", "", 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, c.url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s from %q: %d, want %d", c.method, c.url, c.origin, resp.StatusCode, c.want)
		}
	}
}

// slow is a cluster whose members take their time.
type slow struct {
	*apitest.Fake
	asked atomic.Int64
}

func (s *slow) Others(ctx context.Context) map[fsm.MemberID]api.DirectorReply {
	s.asked.Add(1)
	select {
	case <-time.After(time.Second):
		return s.Fake.Others(ctx)
	case <-ctx.Done():
		return map[fsm.MemberID]api.DirectorReply{"m2": {Error: "context canceled"}, "m3": {Error: "context canceled"}}
	}
}

// TestReportIsShared: many who watch cost one question, and that the first of them goes
// meanwhile is no answer to the others.
func TestReportIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slow{Fake: apitest.NewBusy()}
		srv := api.NewServer(b, "dir1", "test", slog.New(slog.DiscardHandler))
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		go srv.Report(impatient, 5*time.Second)
		time.Sleep(10 * time.Millisecond)
		for range 20 {
			if r := srv.Report(t.Context(), 5*time.Second); r.Survival.Answering != 3 {
				t.Fatalf("%d voters answer", r.Survival.Answering)
			}
		}
		if n := b.asked.Load(); n != 1 {
			t.Errorf("the members were asked %d times", n)
		}
		time.Sleep(5 * time.Second)
		srv.Report(t.Context(), 5*time.Second)
		if n := b.asked.Load(); n != 2 {
			t.Errorf("an old report was not made anew")
		}
	})
}

// TestWatchIsPaced: a report that takes a second is not made every half a second, and
// leaves out what is told with the real servers.
func TestWatchIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slow{Fake: apitest.NewBusy()}
		srv := api.NewServer(b, "dir1", "test", slog.New(slog.DiscardHandler))
		w := httptest.NewRecorder()
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		srv.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/watch?every=500ms", nil))
		if n := b.asked.Load(); n != 4 {
			t.Errorf("asked %d times in 35 s", n)
		}
		if strings.Contains(w.Body.String(), `"checks":[{`) {
			t.Error("it has each member's checks")
		}
		if local := b.Local(); len(local.Checks) == 0 {
			t.Error("there are no checks to leave out")
		}
	})
}
