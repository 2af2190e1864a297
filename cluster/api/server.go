package api

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
	"sync/atomic"
	"time"
)

// Limits of the server. A request is read within readTimeout; maxWait bounds a
// long poll, and writeTimeout leaves room for one and for a slow commit.
const (
	maxBody      = 64 << 20 // bytes; 10 000 real servers take below 3 MB, 100 000 below 30
	maxHeader    = 16 << 10
	readTimeout  = 15 * time.Second
	maxWait      = 60 * time.Second
	writeTimeout = 120 * time.Second
	opTimeout    = 90 * time.Second // what a backend may take to answer
	shutdownWait = 2 * time.Second
)

// Server answers the API's requests from a Backend.
type Server struct {
	backend Backend
	host    string // this machine's name, for "root@dir1"
	version string
	log     *slog.Logger
	mounted map[string]http.Handler
	shared  sharedReport
	// watchers counts those of GET /v1/watch.
	watchers atomic.Int64
}

// Mount has requests that match pattern (http.ServeMux's) answered by h. It must
// come before Handler and Run.
func (s *Server) Mount(pattern string, h http.Handler) {
	if s.mounted == nil {
		s.mounted = map[string]http.Handler{}
	}
	s.mounted[pattern] = h
}

// NewServer makes a server; host is this machine's name and version the
// daemon's. It starts nothing.
func NewServer(b Backend, host, version string, log *slog.Logger) *Server {
	return &Server{backend: b, host: host, version: version, log: log, shared: sharedReport{turn: make(chan struct{}, 1)}}
}

// Run serves ln until ctx ends, then closes it, lets running requests finish
// for a moment and returns nil.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           guardBrowsers(s.Handler()),
		ConnContext:       withPeer,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
		defer cancel()
		if srv.Shutdown(wait) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(ln)
	if !stop() {
		<-stopped // Serve returns at once when Shutdown begins
	}
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the API: %w", err)
}

// Handler routes every path of the API. Each path below is documented at its
// method.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, rt := range s.routes() {
		mux.HandleFunc(rt.method+" "+rt.path, s.serve(rt))
		methods[rt.path] = append(methods[rt.path], rt.method)
	}
	for path, h := range map[string]http.HandlerFunc{"/v1/watch": s.watch, "/v1/openapi.json": openAPI} {
		mux.HandleFunc("GET "+path, h)
		methods[path] = []string{http.MethodGet}
	}
	for pattern, h := range s.mounted {
		mux.Handle(pattern, h)
		method, path := splitPattern(pattern)
		methods[path] = append(methods[path], method)
	}
	for path, allowed := range methods {
		mux.HandleFunc(path, wrongMethod(allowed))
	}
	mux.HandleFunc("/", unknownPath)
	return mux
}

// serve wraps a route: time limit, body limit, JSON answer or Problem, a log line
// for what went wrong on our side.
func (s *Server) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), opTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		err := rt.checkMatch(r)
		var reply any
		if err == nil {
			reply, err = rt.do(r)
		}
		if err != nil {
			p := failedMatch(r, problemOf(err))
			if p.Status >= http.StatusInternalServerError {
				s.log.Warn("api request failed", "method", r.Method, "path", r.URL.Path, "by", s.by(r), "err", err)
			}
			writeProblem(w, p)
			return
		}
		if t, ok := reply.(tagged); ok {
			w.Header().Set("ETag", etag(t.revision))
			if unchanged(r, t.revision) {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			reply = t.body
		} else if rev, ok := revisionOf(reply); ok {
			w.Header().Set("ETag", etag(rev))
		}
		writeJSON(w, http.StatusOK, "application/json", reply)
	}
}

// by names who asks for the history: "root@dir1".
func (s *Server) by(r *http.Request) string { return peerOf(r.Context()) + "@" + s.host }

func writeProblem(w http.ResponseWriter, p *Problem) {
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, kind string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, `{"code":"internal","title":"the answer could not be written"}`, http.StatusInternalServerError)
		return
	}
	if len(body) <= readable {
		var lines bytes.Buffer
		_ = json.Indent(&lines, body, "", "  ") // what Marshal wrote is JSON
		body = lines.Bytes()
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // an error here means that the client has gone
}

// readable is how long an answer, in bytes, is at most that is written for people's
// eyes: nobody reads one of ten thousand real servers, and indenting doubles it.
const readable = 64 << 10

// readJSON decodes one JSON value, all of the body and nothing unknown in it.
// An empty body leaves v as it is.
func readJSON(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return badRequest(http.StatusBadRequest, "the body holds more than one JSON value")
		}
		return nil
	}
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return badRequest(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", big.Limit))
	}
	return badRequest(http.StatusBadRequest, "the body is not the JSON expected here: "+err.Error())
}

// splitPattern takes "GET /v1/x" apart.
func splitPattern(pattern string) (method, path string) {
	for i := range pattern {
		if pattern[i] == ' ' {
			return pattern[:i], pattern[i+1:]
		}
	}
	return "", pattern
}

// wrongMethod answers a known path asked with a method that it does not have.
func wrongMethod(allowed []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, m := range allowed {
			w.Header().Add("Allow", m)
		}
		writeProblem(w, badRequest(http.StatusMethodNotAllowed, fmt.Sprintf("%s does not take %s, only %v", r.URL.Path, r.Method, allowed)))
	}
}

func unknownPath(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, &Problem{
		Status: http.StatusNotFound, Code: CodeNotFound, Title: "no such path", Detail: r.URL.Path,
		Hint: "this daemon speaks /v1; GET /v1/version says which lbcluster it is",
	})
}
