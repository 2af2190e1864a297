package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"lbcluster/fsm"
)

// peerKey finds the connection of a request in its context.
type peerKey struct{}

// newServer is the HTTP server for one protocol of the members' port.
func newServer(h http.Handler, limit time.Duration, maxBody int64, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           http.MaxBytesHandler(h, maxBody),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       limit,
		WriteTimeout:      2 * limit,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if pc, ok := c.(*peerConn); ok {
				return context.WithValue(ctx, peerKey{}, pc)
			}
			return ctx
		},
	}
}

// serve runs srv on ln until ctx ends.
func serve(ctx context.Context, srv *http.Server, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	err := srv.Serve(ln)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serving members: %w", err)
}

// memberHandler is what members ask of each other.
func (s *session) memberHandler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /v1/propose", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			writeFault(w, fmt.Errorf("%w: reading the command: %w", fsm.ErrInvalid, err))
			return
		}
		// Only the leader takes what was forwarded: no command goes round in circles.
		from, ok := r.Context().Value(peerKey{}).(*peerConn)
		if !ok {
			writeFault(w, fmt.Errorf("%w: nobody knows who asks", fsm.ErrDenied))
			return
		}
		res, err := s.applyHere(r.Context(), from.peer, b)
		if err != nil {
			writeFault(w, err)
			return
		}
		writeJSON(w, http.StatusOK, res)
	})
	m.HandleFunc("GET /v1/hello", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, s.hello())
	})
	m.HandleFunc("GET /v1/standing/{id}", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.standing(fsm.MemberID(r.PathValue("id")))
		if err != nil {
			writeFault(w, err)
			return
		}
		writeJSON(w, http.StatusOK, st)
	})
	m.HandleFunc("GET /v1/ask/{what}", func(w http.ResponseWriter, r *http.Request) {
		answer, ok := s.n.cfg.Answers[r.PathValue("what")]
		if !ok {
			writeFault(w, fmt.Errorf("%w: %s does not answer %q", fsm.ErrNotFound, s.id.ID, r.PathValue("what")))
			return
		}
		b, err := answer(withArguments(r.Context(), r.URL.Query()))
		if err != nil {
			writeFault(w, err)
			return
		}
		// The other end is gone if this fails; there is nobody to tell.
		_, _ = w.Write(b)
	})
	return membersOnly(m)
}

// argumentsKey finds the arguments of an Ask in its context.
type argumentsKey struct{}

func withArguments(ctx context.Context, args url.Values) context.Context {
	return context.WithValue(ctx, argumentsKey{}, args)
}

// Arguments are what stood behind the name in the Ask that a function of
// Config.Answers answers; nil if nothing did.
func Arguments(ctx context.Context) url.Values {
	args, _ := ctx.Value(argumentsKey{}).(url.Values)
	return args
}

// membersOnly tells removed members that they are, and nothing else.
func membersOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pc, ok := r.Context().Value(peerKey{}).(*peerConn); !ok || pc.removed {
			w.Header().Set("Connection", "close")
			writeFault(w, ErrRemoved)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// newClient makes requests to members: the host of the URL is the member's id.
func (s *session) newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, hostport string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(hostport)
			if err != nil {
				return nil, err
			}
			id := fsm.MemberID(host)
			addr, ok := s.addrOf(id)
			if !ok {
				return nil, fmt.Errorf("%w: no address of member %q is known", fsm.ErrNotFound, id)
			}
			ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
			defer cancel()
			return s.mux.dial(ctx, id, addr, alpnMember)
		},
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}}
}

// call makes one request to a member. sent is false if it surely never got there.
func (s *session) call(ctx context.Context, id fsm.MemberID, method, path string, body []byte, v any) (sent bool, err error) {
	var wrote atomic.Bool // by the connection's own goroutine, maybe when Do has given up
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), method, "http://"+string(id)+path, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("asking %s: %w", id, err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return wrote.Load(), fmt.Errorf("asking %s: %w", id, err)
	}
	defer resp.Body.Close()
	return true, readAnswer(resp, v)
}

// addrOf finds a member's address: in the table, or as it was told when this
// member enrolled.
func (s *session) addrOf(id fsm.MemberID) (netip.AddrPort, bool) {
	t, _ := s.n.board.latest()
	if m, ok := findMember(t.Members, id); ok {
		return m.Addr, true
	}
	m, ok := findMember(s.id.Members, id)
	return m.Addr, ok
}

func findMember(ms []fsm.Member, id fsm.MemberID) (fsm.Member, bool) {
	for _, m := range ms {
		if m.ID == id {
			return m, true
		}
	}
	return fsm.Member{}, false
}

// idNumber is the number in a member id, 0 if there is none.
func idNumber(id fsm.MemberID) uint64 {
	var n uint64
	digits, ok := strings.CutPrefix(string(id), "m")
	if !ok || digits == "" || len(digits) > 18 {
		return 0
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0
		}
		n = n*10 + uint64(d-'0')
	}
	return n
}

// compareIDs orders ids by number: m2 before m10.
func compareIDs(a, b fsm.MemberID) int {
	if x, y := idNumber(a), idNumber(b); x != y {
		if x < y {
			return -1
		}
		return 1
	}
	return strings.Compare(string(a), string(b))
}

// gone reports whether a member was removed. An id that the table does not
// have, yet below those it has given, was; one above them is a member that
// this table has not heard of yet: its certificate is from the cluster's CA,
// and ids are never used again.
func gone(t *fsm.Table, id fsm.MemberID) bool {
	n := idNumber(id)
	if n == 0 {
		return true
	}
	if _, ok := findMember(t.Members, id); ok {
		return false
	}
	return n < t.NextMember
}
