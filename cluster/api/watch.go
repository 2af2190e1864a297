package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"lbcluster/fsm"
)

// Limits of GET /v1/watch.
const (
	maxWatchers  = 24 // at once; below maxConns, so that commands get through
	watchEvery   = 2 * time.Second
	leastEvery   = 500 * time.Millisecond
	mostEvery    = time.Minute
	watchWrite   = 15 * time.Second // for one message
	mostLast     = 1000
	retryAfterMS = 2000
	// watchShare: making and sending a large report takes at most 1 part in this of
	// the time, whatever was asked for.
	watchShare = 10
)

// watchRequest is what a watcher wants.
type watchRequest struct {
	every time.Duration // between two reports
	after fsm.Revision  // events that are newer
	known bool          // after was given
	last  int           // or so many of those that there were
}

func readWatch(r *http.Request) (watchRequest, error) {
	req := watchRequest{every: watchEvery}
	var err error
	if v := r.FormValue("every"); v != "" {
		if req.every, err = time.ParseDuration(v); err != nil || req.every < leastEvery || req.every > mostEvery {
			return req, badRequest(http.StatusBadRequest, fmt.Sprintf("every: %q is no duration between %v and %v", v, leastEvery, mostEvery))
		}
	}
	if v := r.FormValue("last"); v != "" {
		if req.last, err = strconv.Atoi(v); err != nil || req.last < 0 || req.last > mostLast {
			return req, badRequest(http.StatusBadRequest, fmt.Sprintf("last: %q is no number between 0 and %d", v, mostLast))
		}
	}
	if v := r.Header.Get("Last-Event-ID"); v != "" { // a browser that connects again
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return req, badRequest(http.StatusBadRequest, fmt.Sprintf("Last-Event-ID: %q is no revision", v))
		}
		req.after, req.known = fsm.Revision(n), true
		return req, nil
	}
	req.known = r.FormValue("after") != ""
	req.after, err = revisionParam(r, "after")
	return req, err
}

// watch: GET /v1/watch?every=2s&after=REV&last=N, server-sent events: "status" with a
// StatusReport at once and then every so often, "event" with an fsm.Event as it
// happens, its revision as id. A client that was cut off continues behind the
// Last-Event-ID that it sends.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	req, err := readWatch(r)
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	if s.watchers.Add(1) > maxWatchers {
		s.watchers.Add(-1)
		w.Header().Set("Retry-After", "10")
		writeProblem(w, &Problem{Status: http.StatusServiceUnavailable, Code: CodeBusy, Title: "too many watch already", Hint: "close one of them, or ask another member"})
		return
	}
	defer s.watchers.Add(-1)
	out := &stream{w: w, rc: http.NewResponseController(w)}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	_ = out.rc.SetReadDeadline(time.Time{}) // the request is read; its end is the client's going
	out.write(fmt.Sprintf("retry: %d\n\n", retryAfterMS))
	s.follow(r.Context(), req, out)
}

// follow streams until the client goes or the server ends.
func (s *Server) follow(ctx context.Context, req watchRequest, out *stream) {
	after, next := req.after, time.Now()
	if t := s.backend.Table(); !req.known && t != nil {
		after = t.Revision
		out.events(lastEvents(t.Events, req.last))
	}
	for ctx.Err() == nil && out.err == nil {
		if t := s.backend.Table(); t != nil && t.Revision > after {
			out.events(selectEvents(t.Events, EventsRequest{After: after}))
			after = t.Revision
		}
		if began := time.Now(); !began.Before(next) {
			out.message("status", "", watched(s.Report(ctx, leastEvery)))
			next = began.Add(max(req.every, watchShare*time.Since(began)))
		}
		s.awaitNews(ctx, after, time.Until(next))
	}
}

// watched is a report without each member's own checks: what follows from them, and
// every opinion, is with the real servers, and they are the larger part.
func watched(r StatusReport) StatusReport {
	r.Members = slices.Clone(r.Members)
	for i := range r.Members {
		if st := r.Members[i].Status; st != nil {
			short := *st
			short.Checks = nil
			r.Members[i].Status = &short
		}
	}
	return r
}

// awaitNews waits for a revision behind after, at most for d.
func (s *Server) awaitNews(ctx context.Context, after fsm.Revision, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := s.backend.WaitRevision(ctx, after+1); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		<-ctx.Done() // in no cluster, or just joining one: nothing to wait for
	}
}

// lastEvents are the newest n.
func lastEvents(events []fsm.Event, n int) []fsm.Event { return events[max(0, len(events)-n):] }

// stream writes server-sent events.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error // the first: the client has gone, or takes nothing
}

// events writes events. The id comes with the last of one revision, so that whoever is
// cut off before that gets all of it again.
func (o *stream) events(list []fsm.Event) {
	for i, e := range list {
		id := ""
		if i+1 == len(list) || list[i+1].Revision != e.Revision {
			id = strconv.FormatUint(uint64(e.Revision), 10)
		}
		o.message("event", id, e)
	}
}

// message writes one; JSON has no line breaks of its own.
func (o *stream) message(kind, id string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		o.err = err
		return
	}
	text := "event: " + kind + "\n"
	if id != "" {
		text += "id: " + id + "\n"
	}
	o.write(text + "data: " + string(body) + "\n\n")
}

func (o *stream) write(text string) {
	if o.err != nil {
		return
	}
	_ = o.rc.SetWriteDeadline(time.Now().Add(watchWrite)) // a recorder in a test has none
	if _, o.err = o.w.Write([]byte(text)); o.err == nil {
		o.err = o.rc.Flush()
	}
}
