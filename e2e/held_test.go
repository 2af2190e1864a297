package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// heldEvery is the pause between two requests on one held connection.
const heldEvery = 500 * time.Millisecond

// held are connections of a client that stay open: on each a request is sent
// every heldEvery. One that is broken is not opened again.
type held struct {
	t     *testing.T
	begun time.Time

	mu     sync.Mutex
	open   map[net.Conn]bool
	total  int
	broken map[string]int // by the error
	gap    time.Duration  // the longest wait for an answer

	stop chan struct{}
	done sync.WaitGroup
}

// holdOpen opens n connections through the VIP, and sees each of them answer once. The
// end of the test closes what is left.
func holdOpen(t *testing.T, from *lab.Host, n int) *held {
	t.Helper()
	h := &held{t: t, begun: time.Now(), open: map[net.Conn]bool{}, total: n, broken: map[string]int{}, stop: make(chan struct{})}
	t.Cleanup(h.close)
	for i := range n {
		var c net.Conn
		err := from.Do(func() (err error) {
			c, err = net.DialTimeout("tcp", net.JoinHostPort(site.VIP, "80"), 3*time.Second)
			return err
		})
		if err != nil {
			t.Fatalf("held connection %d: %v", i, err)
		}
		h.open[c] = true
		h.done.Go(func() { h.talk(c, time.Duration(i)*heldEvery/time.Duration(n)) })
	}
	return h
}

// talk sends requests until the connection breaks or the test ends.
func (h *held) talk(c net.Conn, first time.Duration) {
	defer c.Close()
	r := bufio.NewReader(c)
	for wait := first; ; wait = heldEvery {
		select {
		case <-h.stop:
			return
		case <-time.After(wait):
		}
		began := time.Now()
		if err := askOn(c, r); err != nil {
			h.mu.Lock()
			select {
			case <-h.stop:
			default:
				delete(h.open, c)
				h.broken[cause(err)]++
			}
			h.mu.Unlock()
			return
		}
		h.mu.Lock()
		h.gap = max(h.gap, time.Since(began))
		h.mu.Unlock()
	}
}

// askOn sends a request and reads the whole answer; ten seconds without one break
// the connection.
func askOn(c net.Conn, r *bufio.Reader) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", site.VIP); err != nil {
		return err
	}
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	return answer.Body.Close() // reads to its end
}

// cause is an error without the addresses in it.
func cause(err error) string {
	if op, ok := err.(*net.OpError); ok {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// left is how many still go on, and text says it, with why the others do not.
func (h *held) left() (n int, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n = len(h.open)
	text = fmt.Sprintf("%d of %d connections go on, the longest wait was %v", n, h.total, h.gap.Round(time.Millisecond))
	h.gap = 0
	if n < h.total {
		text += fmt.Sprintf("; %v", h.broken)
	}
	return n, text
}

// wantAll fails the test unless all of them go on.
func (h *held) wantAll(t *testing.T, after string) {
	t.Helper()
	n, text := h.left()
	t.Logf("%s: %s", after, text)
	if n < h.total {
		t.Errorf("%s: %d of %d connections were lost", after, h.total-n, h.total)
	}
}

func (h *held) close() {
	h.mu.Lock()
	select {
	case <-h.stop:
	default:
		close(h.stop)
		for c := range h.open {
			c.SetDeadline(time.Now())
		}
	}
	h.mu.Unlock()
	h.done.Wait()
}
