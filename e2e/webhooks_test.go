package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// hook is a host with an HTTP server, which keeps what is posted to it.
type hook struct {
	*lab.Host
	mu     sync.Mutex
	broken bool           // it answers with an error
	posts  map[string]int // by the batch's id: those that it took
	texts  []string       // of the events in them
}

func newHook(t *testing.T, s *site.Site) *hook {
	t.Helper()
	h := &hook{Host: s.AddHost("hook", "172.25.88.71/24"), posts: map[string]int{}}
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = net.Listen("tcp", "172.25.88.71:9000") //nolint:noctx // at once
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken {
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	var batch struct {
		ID     string
		Events []struct{ Text string }
	}
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(b, &batch)
	}
	if err != nil || batch.ID != r.Header.Get("Idempotency-Key") || r.Method != http.MethodPost {
		http.Error(w, fmt.Sprintf("%s, %v: %s", r.Method, err, b), http.StatusBadRequest)
		h.texts = append(h.texts, fmt.Sprintf("unreadable: %s", b))
		return
	}
	h.posts[batch.ID]++
	for _, e := range batch.Events {
		h.texts = append(h.texts, e.Text)
	}
}

// say has it answer with errors from now on, or with what is right.
func (h *hook) say(broken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = broken
}

// count is how many events begin with that text.
func (h *hook) count(text string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.texts {
		if strings.HasPrefix(s, text) {
			n++
		}
	}
	return n
}

func (h *hook) await(t *testing.T, e *eyes, text string, n int) {
	t.Helper()
	e.Eventually(40*time.Second, fmt.Sprintf("%d events that say %s", n, text), func() error {
		if got := h.count(text); got != n {
			return fmt.Errorf("%d do, of %q", got, h.texts)
		}
		return nil
	})
}

// What happens is posted once, whoever sees it, and after the receiver was away; a
// server that comes and goes is held down, and people read why.
func TestWebhooksAndFlaps(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	h := newHook(t, s)
	s.Form()
	e := open(s)
	e.applied(t, poolRouter+strings.ReplaceAll(poolConf, "%POOL%", ""))
	owner := e.AwaitOwner()
	owner.MustRun("lbcluster", "settings", "set", "webhooks=http://172.25.88.71:9000/hook", "flap-damping=on")

	const down, up = "real server 172.25.88.2:80 is down", "real server 172.25.88.2:80 is up"
	for i := 1; i <= 3; i++ {
		h.say(i == 2) // the second time it has to be told later
		e.stopped(t, s.Web1)
		e.wantServers(t, "web1 is out", "172.25.88.3:80")
		s.Web1.StartNginx()
		e.wantServers(t, "web1 is back", "172.25.88.2:80", "172.25.88.3:80")
		h.say(false)
		h.await(t, e, down, i)
		h.await(t, e, up, i)
	}
	e.stopped(t, s.Web1)
	e.wantServers(t, "web1 is out again", "172.25.88.3:80")
	s.Web1.StartNginx()
	e.wantTold(t, "flapping: down 4 times, held down until")
	out, _ := e.Command(e.Dirs[2], "server", "list")
	t.Logf("while it is held:\n%s", out)
	h.await(t, e, down, 4)
	e.wantServers(t, "web1 is held, though it answers", "172.25.88.3:80")
	e.Eventually(60*time.Second, "web1 is back after its hold", func() error {
		if n := strings.Count(e.Rules(owner), "-a "); n != 2 {
			return fmt.Errorf("%d servers:\n%s", n, e.Rules(owner))
		}
		return nil
	})
	h.await(t, e, up, 4)
	time.Sleep(4 * time.Second) // longer than a batch is collected
	if down, up := h.count(down), h.count(up); down != 4 || up != 4 {
		t.Errorf("%d events tell that it went, %d that it came back, want 4 each", down, up)
	}
	h.mu.Lock()
	for id, n := range h.posts {
		if n > 1 {
			t.Errorf("batch %s was taken %d times", id, n)
		}
	}
	h.mu.Unlock()
	e.wantNoOverlap(t)
}
