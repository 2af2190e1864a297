package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

func handler(f *apitest.Fake) http.Handler {
	return api.NewServer(f, "dir1", "test", slog.New(slog.DiscardHandler)).Handler()
}

// ask sends one request and returns the status and the Problem, if it is one.
func ask(h http.Handler, method, path, body string) (int, api.Problem) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	var p api.Problem
	if w.Code != http.StatusOK {
		_ = json.Unmarshal(w.Body.Bytes(), &p) // a body that is no Problem leaves Code empty
	}
	return w.Code, p
}

// TestBadRequests: each is answered with a Problem, and changes nothing.
func TestBadRequests(t *testing.T) {
	f := apitest.NewCluster()
	h := handler(f)
	before := f.Table()
	for _, c := range []struct {
		method, path, body string
		status             int
		code, detail       string
	}{
		{"POST", "/v1/apply", "garbage", 400, api.CodeBadRequest, "invalid character"},
		{"POST", "/v1/apply", `{"set":"a"} {"set":"b"}`, 400, api.CodeBadRequest, "more than one"},
		{"POST", "/v1/apply", `{"sett":"a"}`, 400, api.CodeBadRequest, `unknown field "sett"`},
		{"POST", "/v1/apply", `{"set":"a"}`, 422, api.CodeInvalid, ""},
		{"POST", "/v1/apply", `{"set":"a","if_revision":1}`, 409, api.CodeConflict, "planned on revision 1"},
		{"POST", "/v1/plan", strings.Repeat(" ", 65<<20) + "{}", 413, api.CodeBadRequest, "larger than"},
		{"GET", "/v1/apply", "", 405, api.CodeBadRequest, "does not take GET"},
		{"DELETE", "/v1/status", "", 405, api.CodeBadRequest, "does not take DELETE"},
		{"GET", "/v2/status", "", 404, api.CodeNotFound, "/v2/status"},
		{"GET", "/v1/events?after=x", "", 400, api.CodeBadRequest, "after"},
		{"GET", "/v1/events?wait=-3s", "", 400, api.CodeBadRequest, "wait"},
		{"GET", "/v1/events?since=yesterday", "", 400, api.CodeBadRequest, "since"},
		{"DELETE", "/v1/members/m99", "", 404, api.CodeNotFound, ""},
		{"PUT", "/v1/overrides", "{}", 422, api.CodeInvalid, ""},
		{"PUT", "/v1/overrides", `{"server":"9.9.9.9:80","weight":3}`, 404, api.CodeNotFound, ""},
		{"POST", "/v1/init", `{}`, 409, api.CodeEnrolled, ""},
		{"POST", "/v1/join", `{"addr":"1.2.3.4","token":"` + strings.Repeat("x", 2000) + `"}`, 422, api.CodeInvalid, ""},
		{"POST", "/v1/tokens", `{"uses":-1}`, 422, api.CodeInvalid, ""},
		{"POST", "/v1/tokens", `{"ttl":"99999h"}`, 422, api.CodeInvalid, ""},
		{"POST", "/v1/plan", `{"confirm_within":"1s"}`, 422, api.CodeInvalid, ""},
		{"POST", "/v1/plan", `{"homes":{"VI_1":"m9"}}`, 422, api.CodeInvalid, ""},
		{"GET", "/v1/history/x", "", 400, api.CodeBadRequest, "no revision"},
		{"GET", "/v1/history/3", "", 404, api.CodeNotFound, "nothing was applied"},
		{"POST", "/v1/confirm", "", 404, api.CodeNotFound, ""},
		{"POST", "/v1/undo", `{"revision":3}`, 404, api.CodeNotFound, ""},
	} {
		status, p := ask(h, c.method, c.path, c.body)
		if status != c.status || p.Code != c.code || !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s %s %.40q: %d %q %q, want %d %q %q", c.method, c.path, c.body, status, p.Code, p.Detail, c.status, c.code, c.detail)
		}
		if status == 422 && len(p.Problems) == 0 {
			t.Errorf("%s %s: 422 without naming a fault", c.method, c.path)
		}
	}
	if f.Table() != before {
		t.Error("bad requests changed the table")
	}
}

// TestErrorsKeepTheirKind: what the backend says is found again by errors.Is
// on the client's side.
func TestErrorsKeepTheirKind(t *testing.T) {
	for _, kind := range []error{fsm.ErrConflict, fsm.ErrInvalid, fsm.ErrNotFound, fsm.ErrDenied, api.ErrNoQuorum, api.ErrNotEnrolled, api.ErrEnrolled, context.DeadlineExceeded} {
		f := apitest.NewCluster()
		f.Fail = fmt.Errorf("doing it: %w", kind)
		c := serve(t, f)
		_, err := c.Apply(t.Context(), api.ApplyRequest{Set: "a", IfRevision: f.Table().Revision})
		if !errors.Is(err, kind) {
			t.Errorf("%v came back as %v", kind, err)
		}
		if errors.Is(err, api.ErrUnreachable) {
			t.Errorf("%v came back as unreachable", kind)
		}
	}
}

// serve runs a server on a unix socket for the test's time.
func serve(t *testing.T, f *apitest.Fake) *api.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	serveAt(t, f, path)
	return api.NewClient(path)
}

// serveAt is serve at a path.
func serveAt(t *testing.T, f *apitest.Fake, path string) {
	t.Helper()
	ln, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.NewServer(f, "dir1", "test", slog.New(slog.DiscardHandler)).Run(ctx, ln)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is left behind")
		}
	})
}

// TestWhoAsked: the history names the user at the other end of the socket.
func TestWhoAsked(t *testing.T) {
	f := apitest.NewCluster()
	c := serve(t, f)
	if _, err := c.Apply(t.Context(), api.ApplyRequest{Set: "a", IfRevision: f.Table().Revision, Config: fsm.Config{Globals: fsm.Globals{RouterID: "x"}}}); err != nil {
		t.Fatal(err)
	}
	events := f.Table().Events
	by := events[len(events)-1].By
	if os.Getuid() == 0 && by != "root@dir1" || strings.HasPrefix(by, "unknown") {
		t.Errorf("by %q", by)
	}
}

// TestDeletionNeedsPrune: neither by accident nor by a short cut.
func TestDeletionNeedsPrune(t *testing.T) {
	for _, brief := range []bool{false, true} {
		f := apitest.NewCluster()
		c := serve(t, f)
		apply := func(id string, prune bool) (api.ApplyReply, error) {
			return c.Apply(t.Context(), api.ApplyRequest{Set: "a", IfRevision: f.Table().Revision, Prune: prune, Brief: brief, Config: fsm.Config{Globals: fsm.Globals{RouterID: id}}})
		}
		if r, err := apply("x", false); err != nil || brief == (len(r.Plan.Changes) > 0) {
			t.Fatalf("brief %v: %+v, %v", brief, r, err)
		}
		var p *api.Problem
		if _, err := apply("", false); !errors.As(err, &p) || p.Code != api.CodeNeedsConfirmation || len(p.Problems) == 0 {
			t.Errorf("a deletion without prune: %v", err)
		}
		if r, err := apply("", true); err != nil || r.Plan.Deletes != 1 {
			t.Errorf("a deletion with prune: %+v, %v", r, err)
		}
	}
}

// TestSecretsStayInside: nothing of a join token leaves through the table.
func TestSecretsStayInside(t *testing.T) {
	f := apitest.NewCluster()
	hash := strings.Repeat("cd", 32)
	f.Must(fsm.Command{AddToken: &fsm.Token{Hash: hash, Uses: 1, Expires: apitest.Now.Add(time.Hour)}})
	for _, path := range []string{"/v1/table", "/v1/members", "/v1/status"} {
		w := httptest.NewRecorder()
		handler(f).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || bytes.Contains(w.Body.Bytes(), []byte(hash)) || bytes.Contains(w.Body.Bytes(), []byte(strings.Repeat("ab", 32))) {
			t.Errorf("%s: %d, with a token's hash in it", path, w.Code)
		}
	}
}

// TestLongPoll waits in virtual time: for an event, and for none.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := apitest.NewCluster()
		h := handler(f)
		rev := f.Table().Revision
		start := time.Now()
		poll := func() api.EventsReply {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", fmt.Sprintf("/v1/events?after=%d&wait=10s", rev), nil))
			var r api.EventsReply
			if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return r
		}
		if r := poll(); len(r.Events) != 0 || time.Since(start) != 10*time.Second {
			t.Errorf("no news: %d events after %v", len(r.Events), time.Since(start))
		}
		time.AfterFunc(3*time.Second, func() { f.Must(fsm.Command{Settings: &fsm.SetSettings{Profile: "fast"}}) })
		start = time.Now()
		if r := poll(); len(r.Events) != 1 || r.Revision != rev+1 || time.Since(start) != 3*time.Second {
			t.Errorf("news: %+v after %v", r, time.Since(start))
		}
	})
}

// TestListen: a second daemon is refused, a dead one's socket replaced, a file
// that is none left alone.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v %v: others may connect", fi.Mode(), err)
	}
	if _, err := api.Listen(path); err == nil {
		t.Error("two daemons on one socket")
	}
	ln.Close()
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if ln, err = api.Listen(path); err != nil {
		t.Fatalf("a dead daemon's socket: %v", err)
	}
	ln.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(path); err == nil {
		t.Error("replaced a file that is no socket")
	}
}

// TestGarbageOnSocket: the daemon answers the next one all the same.
func TestGarbageOnSocket(t *testing.T) {
	c := serve(t, apitest.NewCluster())
	path := c.Socket()
	for _, junk := range []string{"\x00\xff\x13garbage\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", strings.Repeat("A", 1<<17)} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, junk) // the server may hang up first
		conn.Close()
	}
	if _, err := c.Version(t.Context()); err != nil {
		t.Error(err)
	}
}

// FuzzBodies: no body makes a handler panic, answer without JSON, or leave a
// table that breaks its invariants.
func FuzzBodies(f *testing.F) {
	paths := []string{"PUT /v1/overrides", "POST /v1/plan", "POST /v1/apply", "POST /v1/tokens", "POST /v1/init", "POST /v1/join", "POST /v1/confirm", "POST /v1/undo"}
	for i := range paths {
		f.Add(i, `{"set":"a","config":{"routers":[{"name":"r","vrid":3,"addresses":[{"prefix":"10.9.0.1/32"}]}],"services":[]},"if_revision":7}`)
		f.Add(i, `{"server":"10.0.0.1:80","state":"drain","weight":-1}`)
		f.Add(i, `[[[[`)
	}
	f.Fuzz(func(t *testing.T, which int, body string) {
		fake := apitest.NewCluster()
		method, path, _ := strings.Cut(paths[uint(which)%uint(len(paths))], " ")
		w := httptest.NewRecorder()
		handler(fake).ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		if !json.Valid(w.Body.Bytes()) || w.Code >= 500 {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		if err := fake.Table().Check(); err != nil {
			t.Error(err)
		}
	})
}

// behind is a member whose own copy of the table lags: it notes for which
// revisions it was waited.
type behind struct {
	*apitest.Fake
	waited []fsm.Revision
}

func (b *behind) WaitRevision(_ context.Context, rev fsm.Revision) error {
	b.waited = append(b.waited, rev)
	return nil
}

// TestWritesWaitForTheOwnCopy: who writes and then reads on the same member
// finds what was written.
func TestWritesWaitForTheOwnCopy(t *testing.T) {
	b := &behind{Fake: apitest.NewCluster()}
	h := api.NewServer(b, "dir1", "test", slog.New(slog.DiscardHandler)).Handler()
	body := fmt.Sprintf(`{"set":"a","if_revision":%d,"config":{"globals":{"router_id":"X"}}}`, b.Table().Revision)
	if status, p := ask(h, "POST", "/v1/apply", body); status != http.StatusOK {
		t.Fatalf("status %d, %+v", status, p)
	}
	if want := b.Table().Revision; len(b.waited) != 1 || b.waited[0] != want {
		t.Errorf("waited for %v, want revision %d, which it wrote", b.waited, want)
	}
}
