package tell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lbcluster/fsm"
)

func TestPost(t *testing.T) {
	for name, c := range map[string]struct {
		answer            func(http.ResponseWriter)
		accepted, refused bool
	}{
		"200":      {func(w http.ResponseWriter) {}, true, false},
		"204":      {func(w http.ResponseWriter) { w.WriteHeader(204) }, true, false},
		"redirect": {func(w http.ResponseWriter) { w.Header().Set("Location", "/else"); w.WriteHeader(302) }, false, false},
		"400":      {func(w http.ResponseWriter) { w.WriteHeader(400) }, false, true},
		"404":      {func(w http.ResponseWriter) { w.WriteHeader(404) }, false, true},
		"408":      {func(w http.ResponseWriter) { w.WriteHeader(408) }, false, false},
		"429":      {func(w http.ResponseWriter) { w.WriteHeader(429) }, false, false},
		"500":      {func(w http.ResponseWriter) { w.WriteHeader(500) }, false, false},
		"drops":    {func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, false, false},
		"floods":   {func(w http.ResponseWriter) { _, _ = io.CopyN(w, zeros{}, 10<<20) }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Idempotency-Key"), string(b)))
				c.answer(w)
			}))
			defer srv.Close()
			err := Post(t.Context(), Hook{URL: srv.URL + "/secret", ID: "7", Body: []byte("{}")})
			if (err == nil) != c.accepted || errors.Is(err, ErrRefused) != c.refused || err != nil && strings.Contains(err.Error(), "secret") {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if want := []string{"POST/secretapplication/json7{}"}; !slices.Equal(got, want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestPostThatHangsEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	if err := Post(ctx, Hook{URL: srv.URL + "/secret"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// A webhook hears of everything, mailed or not, in one request for what comes
// together; it is retried as the same request, and holds up no mail.
func TestWebhook(t *testing.T) {
	story(t, 2, func(l *lab) {
		url := "https://hooks.example/secret"
		l.do(fsm.Command{Settings: &fsm.SetSettings{Webhooks: &url}})
		l.mu.Lock()
		l.hooksFail = true
		l.mu.Unlock()
		l.votes(false, 0)
		l.silent("m2", true)
		time.Sleep(time.Minute)
		l.want(down2 + " (and 1 more)")
		if s := strings.Join(l.members["m1"].Status(), ""); !strings.Contains(s, "webhook at https://hooks.example cannot be delivered: 503") || strings.Contains(s, "secret") {
			t.Errorf("status %q", s)
		}
		l.mu.Lock()
		l.hooksFail = false
		tried := len(l.hooks)
		l.mu.Unlock()
		time.Sleep(10 * time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		if tried < 3 || len(l.hooks) != tried+1 {
			t.Fatalf("%d requests, and then %d", tried, len(l.hooks)-tried)
		}
		for _, h := range l.hooks {
			if h.URL != url || h.ID != l.hooks[0].ID {
				t.Errorf("%s %s", h.ID, h.Body)
			}
		}
		var body HookBody
		if err := json.Unmarshal(l.hooks[tried].Body, &body); err != nil {
			t.Fatal(err)
		}
		if body.ID != l.hooks[tried].ID || body.Cluster != "lab" || body.SentBy != "dir1" || len(body.Events) != 2 {
			t.Fatalf("%+v", body)
		}
		e := body.Events[0]
		want := HookEvent{
			Seq: e.Seq, Revision: e.Revision, At: epoch, Kind: "server", State: "DOWN", Set: "default", Service: "tcp/10.0.0.100:80", Server: "10.0.0.2:80",
			Headline: "Realserver [10.0.0.2]:tcp:80 of virtual server [10.0.0.100]:tcp:80 - DOWN", Text: e.Text,
		}
		if e != want || !strings.Contains(e.Text, "connection refused") {
			t.Errorf("%+v", e)
		}
		if e := body.Events[1]; e.Kind != "member" || e.Name != "dir2" || e.State != "LOST" {
			t.Errorf("%+v", e)
		}
	})
}
