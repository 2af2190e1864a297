package main

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestServeTCP: an address that is taken is waited for and told of; then it serves,
// and ends with its context.
func TestServeTCP(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().(*net.TCPAddr).AddrPort()
	d := &theDaemon{log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		here := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") })
		ended <- d.serveTCP(ctx, tcpService{"metrics", addr, func() (http.Handler, *tls.Config, error) { return here, nil, nil }})
	}()
	await(t, "the trouble is told of", func() bool {
		all := d.troubles.all()
		return len(all) == 1 && strings.HasPrefix(all[0], "metrics cannot be served: ") && strings.Contains(all[0], addr.String())
	})
	taken.Close()
	await(t, "it serves", func() bool { return get(addr) == "here" && len(d.troubles.all()) == 0 })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := get(addr); got != "" {
		t.Errorf("after its end it serves %q", got)
	}
}

func get(addr netip.AddrPort) string {
	resp, err := http.Get("http://" + addr.String())
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// await waits until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: it never came so", what)
}
