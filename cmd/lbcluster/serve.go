package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/metrics"
	"lbcluster/web"
)

// reportAge is how old what metrics say of the whole cluster may be.
const reportAge = 5 * time.Second

// listen opens the socket and returns what serves it, and the TCP addresses that
// this machine's configuration names.
func (d *theDaemon) listen() (serve func(context.Context) error, err error) {
	ln, err := api.Listen(d.cfg.Socket)
	if err != nil {
		return nil, err
	}
	log := d.log.With("part", "api")
	srv := api.NewServer(d, d.cfg.Name, buildVersion(), log)
	scrape := metrics.Handler(metrics.NewCollector(d.facts(srv)), d.probes, log)
	srv.Mount("GET /metrics", scrape)
	for pattern, h := range web.Handlers() {
		srv.Mount(pattern, h)
	}
	return func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return srv.Run(ctx, ln) })
		if d.cfg.Metrics.IsValid() {
			mux := http.NewServeMux()
			mux.Handle("GET /metrics", scrape)
			plain := func() (http.Handler, *tls.Config, error) { return mux, nil, nil }
			g.Go(func() error { return d.serveTCP(ctx, tcpService{"metrics", d.cfg.Metrics, plain}) })
		}
		if w := d.cfg.Web; w.Listen.IsValid() {
			open := func() (http.Handler, *tls.Config, error) { return openWeb(w, srv.Handler()) }
			g.Go(func() error { return d.serveTCP(ctx, tcpService{"web", w.Listen, open}) })
		}
		return g.Wait()
	}, nil
}

// facts asks for what metrics are made from.
func (d *theDaemon) facts(srv *api.Server) func(context.Context) metrics.Facts {
	return func(ctx context.Context) metrics.Facts {
		f := metrics.Facts{Local: d.Local()}
		if !f.Local.Enrolled {
			return f
		}
		f.Report = srv.Report(ctx, reportAge)
		if m := d.part.Load(); m != nil && m.traffic != nil && f.Local.Role == fsm.Director {
			f.Servers, f.TrafficError = m.traffic.servers(d.node.Table())
		}
		return f
	}
}

// Limits of what is served over TCP.
const (
	tcpConns  = 64
	tcpHeader = 8 << 10
	tcpRead   = 5 * time.Second
	tcpWrite  = 30 * time.Second
	tcpRetry  = 3 * time.Second
)

// tcpService is something served to the network.
type tcpService struct {
	name string // the key in the node's configuration
	addr netip.AddrPort
	// open reads what is needed and returns what answers; without a tls.Config in
	// clear text.
	open func() (http.Handler, *tls.Config, error)
}

// serveTCP serves s until ctx ends. An address that cannot be had is tried again,
// and shown: it may belong to an interface that is down.
func (d *theDaemon) serveTCP(ctx context.Context, s tcpService) error {
	var told string
	for {
		err := d.serveOnce(ctx, s, func() { told = "" })
		if ctx.Err() != nil {
			return nil
		}
		if text := s.name + " cannot be served: " + err.Error(); text != told {
			told = text
			d.troubles.set(s.name, text)
			d.log.Warn("not served over TCP, will try again", "what", s.name, "err", err)
		}
		if !pause(ctx, tcpRetry) {
			return nil
		}
	}
}

// serveOnce serves s until ctx ends or the listener fails; began is called once it is
// served.
func (d *theDaemon) serveOnce(ctx context.Context, s tcpService, began func()) error {
	handler, secure, err := s.open()
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.addr.String())
	if err != nil {
		return err
	}
	began()
	d.troubles.set(s.name, "")
	d.log.Info("serving over TCP", "what", s.name, "addr", s.addr)
	srv := &http.Server{
		Handler: handler, TLSConfig: secure, BaseContext: func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: tcpRead, ReadTimeout: tcpRead, WriteTimeout: tcpWrite, IdleTimeout: time.Minute, MaxHeaderBytes: tcpHeader,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	ln = netutil.LimitListener(ln, tcpConns)
	if secure != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// troubles are sentences about what does not work, by what it concerns.
type troubles struct {
	mu  sync.Mutex
	are map[string]string
}

func (t *troubles) set(what, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.are == nil {
		t.are = map[string]string{}
	}
	t.are[what] = text
}

// all lists those that there are, in a fixed order.
func (t *troubles) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, what := range []string{"metrics", "web"} {
		if t.are[what] != "" {
			out = append(out, t.are[what])
		}
	}
	return out
}
