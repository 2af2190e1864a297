package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"lbcluster/fsm"
)

// getVersion: GET /v1/version.
func (s *Server) getVersion(*http.Request) (any, error) {
	return VersionReply{Version: s.version, API: "v1"}, nil
}

// getStatus: GET /v1/status, the whole cluster with conclusions.
func (s *Server) getStatus(r *http.Request) (any, error) {
	return s.report(r.Context()), nil
}

// getLocal: GET /v1/status/local, what this machine alone knows; never waits.
func (s *Server) getLocal(*http.Request) (any, error) { return s.backend.Local(), nil }

// getTable: GET /v1/table?revision=N, all that is replicated; waits until this
// machine has revision N. What belongs to join tokens is left out, and so are
// former configurations, which /v1/history has.
func (s *Server) getTable(r *http.Request) (any, error) {
	rev, err := revisionParam(r, "revision")
	if err != nil {
		return nil, err
	}
	if rev > 0 {
		if err := s.backend.WaitRevision(r.Context(), rev); err != nil {
			return nil, err
		}
	}
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	shown := *t
	shown.Members = shownMembers(t.Members)
	shown.History, shown.Pending = nil, nil
	shown.Tokens = slices.Clone(t.Tokens)
	for i := range shown.Tokens {
		shown.Tokens[i].Hash = ""
	}
	return tagged{t.Revision, &shown}, nil
}

// getMembers: GET /v1/members.
func (s *Server) getMembers(*http.Request) (any, error) {
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	return tagged{t.Revision, shownMembers(t.Members)}, nil
}

// shownMembers leaves out how the members enrolled.
func shownMembers(members []fsm.Member) []fsm.Member {
	shown := slices.Clone(members)
	for i := range shown {
		shown[i].Request, shown[i].Token = "", ""
	}
	return shown
}

// deleteMember: DELETE /v1/members/{id}.
func (s *Server) deleteMember(r *http.Request) (any, error) {
	if err := s.backend.RemoveMember(r.Context(), fsm.MemberID(r.PathValue("id"))); err != nil {
		return nil, err
	}
	return none{}, nil
}

// postInit: POST /v1/init with an InitRequest.
func (s *Server) postInit(r *http.Request) (any, error) {
	var req InitRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if faults := checkInit(req); len(faults) > 0 {
		return nil, invalid(faults)
	}
	return s.backend.Init(r.Context(), req)
}

// postJoin: POST /v1/join with a JoinRequest.
func (s *Server) postJoin(r *http.Request) (any, error) {
	var req JoinRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if faults := checkJoin(req); len(faults) > 0 {
		return nil, invalid(faults)
	}
	return s.backend.Join(r.Context(), req)
}

// postLeave: POST /v1/leave.
func (s *Server) postLeave(r *http.Request) (any, error) {
	return none{}, s.backend.Leave(r.Context())
}

// postToken: POST /v1/tokens with a TokenRequest.
func (s *Server) postToken(r *http.Request) (any, error) {
	var req TokenRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if faults := checkToken(req); len(faults) > 0 {
		return nil, invalid(faults)
	}
	token, err := s.backend.Token(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return TokenReply{Token: token, Addr: s.ownAddr()}, nil
}

// ownAddr is this member's address as the table has it; empty if it has none.
func (s *Server) ownAddr() string {
	t := s.backend.Table()
	if t == nil {
		return ""
	}
	id := s.backend.Local().ID
	for _, m := range t.Members {
		if m.ID == id {
			return m.Addr.String()
		}
	}
	return ""
}

// getEvents: GET /v1/events?after=REV&since=TIME&wait=DURATION. It waits for
// an event that is newer than REV, if asked to, and returns none in the end if
// there was none.
func (s *Server) getEvents(r *http.Request) (any, error) {
	req, err := eventsRequest(r)
	if err != nil {
		return nil, err
	}
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	if t.Revision <= req.After && req.Wait > 0 {
		if err := s.waitFor(r, req.After+1, req.Wait); err != nil {
			return nil, err
		}
		if t, err = s.table(); err != nil {
			return nil, err
		}
	}
	return EventsReply{Revision: t.Revision, Events: selectEvents(t.Events, req)}, nil
}

// selectEvents keeps what req asks for.
func selectEvents(events []fsm.Event, req EventsRequest) []fsm.Event {
	kept := []fsm.Event{}
	for _, e := range events {
		if e.Revision > req.After && !e.At.Before(req.Since) {
			kept = append(kept, e)
		}
	}
	return kept
}

func eventsRequest(r *http.Request) (EventsRequest, error) {
	var req EventsRequest
	var err error
	if req.After, err = revisionParam(r, "after"); err != nil {
		return req, err
	}
	if v := r.FormValue("since"); v != "" {
		if req.Since, err = time.Parse(time.RFC3339, v); err != nil {
			return req, badRequest(http.StatusBadRequest, fmt.Sprintf("since: %q is no RFC 3339 time", v))
		}
	}
	if v := r.FormValue("wait"); v != "" {
		if req.Wait, err = time.ParseDuration(v); err != nil || req.Wait < 0 {
			return req, badRequest(http.StatusBadRequest, fmt.Sprintf("wait: %q is no duration", v))
		}
		req.Wait = min(req.Wait, maxWait)
	}
	return req, nil
}

func revisionParam(r *http.Request, name string) (fsm.Revision, error) {
	v := r.FormValue(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, badRequest(http.StatusBadRequest, fmt.Sprintf("%s: %q is no revision", name, v))
	}
	return fsm.Revision(n), nil
}

// table is the backend's table, or why there is none.
func (s *Server) table() (*fsm.Table, error) {
	if t := s.backend.Table(); t != nil {
		return t, nil
	}
	return nil, ErrNotEnrolled
}

// propose commits cmd in the name of whoever asks.
func (s *Server) propose(r *http.Request, cmd fsm.Command) (fsm.Result, error) {
	cmd.By = s.by(r)
	cmd.At = time.Now()
	if err := compare(r, &cmd); err != nil {
		return fsm.Result{}, err
	}
	res, err := s.backend.Propose(r.Context(), cmd)
	if err == nil {
		// It is committed, whatever becomes of this: no error any more.
		_ = s.waitFor(r, res.Revision, ownCopy)
	}
	return res, err
}

// ownCopy is how long an answer to a write waits for this member's own copy of
// the table, which may be behind the leader's: who writes and then reads on the
// same member should find what was written.
const ownCopy = 2 * time.Second

// errNoNews ends a long poll.
var errNoNews = errors.New("nothing new")
