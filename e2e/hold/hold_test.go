package hold

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is a real server whose connections can be broken.
func server(t *testing.T) (target string, breakOne func()) {
	t.Helper()
	var mu sync.Mutex
	var conns []net.Conn
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "web1") }))
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), func() {
		mu.Lock()
		defer mu.Unlock()
		conns[0].(*net.TCPConn).SetLinger(0)
		conns[0].Close()
		conns = conns[1:]
	}
}

func here(f func() error) error { return f() }

func TestConnectionsAreHeld(t *testing.T) {
	target, breakOne := server(t)
	c, err := New(here, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for group, n := range map[string]int{"held": 20, "young": 3} {
		if err := c.Open(group, n, time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Open("held", 10, 0); err != nil {
		t.Fatal(err)
	}
	c.Settle()
	if left, of := c.Left("held"); left != 30 || of != 30 {
		t.Errorf("%d of %d are left", left, of)
	}
	breakOne()
	c.Settle()
	held, _ := c.Left("held")
	young, _ := c.Left("young")
	if held+young != 32 {
		t.Errorf("%d and %d are left after one of 33 was broken", held, young)
	}
	if text := c.Text(); !strings.Contains(text, "connection reset by peer:1") {
		t.Error(text)
	}
	c.Drop("young")
	c.Settle()
	if left, of := c.Left("young"); left+of != 0 || strings.Contains(c.Text(), "young") {
		t.Errorf("dropped, and %d of %d are left: %s", left, of, c.Text())
	}
	if left, _ := c.Left("held"); left != held {
		t.Errorf("%d are left, were %d", left, held)
	}
	c.Close()
	c.Close()
}

func TestWhatCannotBeOpened(t *testing.T) {
	if _, err := New(here, "nowhere"); err == nil {
		t.Error("held to nowhere")
	}
	c, err := New(here, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Open("held", 2, 0); err == nil || !strings.Contains(err.Error(), "connect: connection refused") {
		t.Errorf("got %v", err)
	}
}
