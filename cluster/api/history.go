package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lbcluster/fsm"
)

// HistoryReply is what was applied, oldest first, without the configurations.
type HistoryReply struct {
	Revision fsm.Revision `json:"revision"` // of the table
	Entries  []Revision   `json:"entries"`
	Pending  *Pending     `json:"pending,omitempty"` // waits for a confirmation
}

// Revision is one configuration that was applied.
type Revision struct {
	Revision fsm.Revision `json:"revision"`
	At       time.Time    `json:"at"`
	By       string       `json:"by"`
	Set      string       `json:"set"`
	Text     string       `json:"text"`          // what it changed
	Why      string       `json:"why,omitempty"` // "rollback to revision 12"
	Current  bool         `json:"current"`       // it is what the set is now
}

// RevisionReply is one of them whole, with the one that the set had before;
// Former is nil where that is not kept.
type RevisionReply struct {
	fsm.Applied
	Former *fsm.Applied `json:"former,omitempty"`
}

// Pending is a change that is undone unless it is confirmed.
type Pending struct {
	Revision fsm.Revision `json:"revision"`
	Set      string       `json:"set"`
	By       string       `json:"by"`
	At       time.Time    `json:"at"`
	Within   fsm.Duration `json:"within"`
	Until    time.Time    `json:"until"` // by the clock of the member that it was applied on
}

// PendingRequest names the change that is confirmed or undone; 0: the one that
// waits.
type PendingRequest struct {
	Revision fsm.Revision `json:"revision,omitempty"`
}

// PendingReply is what became of it.
type PendingReply struct {
	fsm.Result
	Pending Pending `json:"pending"` // as it was
}

// getHistory: GET /v1/history.
func (s *Server) getHistory(*http.Request) (any, error) {
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	reply := HistoryReply{Revision: t.Revision, Entries: []Revision{}}
	last := map[string]fsm.Revision{}
	for _, a := range t.History {
		last[a.Set] = a.Revision
	}
	for _, a := range t.History {
		reply.Entries = append(reply.Entries, Revision{
			Revision: a.Revision, At: a.At, By: a.By, Set: a.Set, Text: a.Text, Why: a.Why, Current: last[a.Set] == a.Revision,
		})
	}
	if t.Pending != nil {
		p := pendingOf(*t.Pending)
		reply.Pending = &p
	}
	return tagged{t.Revision, reply}, nil
}

func pendingOf(p fsm.Pending) Pending {
	return Pending{Revision: p.Revision, Set: p.Set, By: p.By, At: p.At, Within: p.Within, Until: p.Until()}
}

// getRevision: GET /v1/history/{rev}, an fsm.Applied with its configuration.
func (s *Server) getRevision(r *http.Request) (any, error) {
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(r.PathValue("rev"), 10, 64)
	if err != nil {
		return nil, badRequest(http.StatusBadRequest, fmt.Sprintf("%q is no revision", r.PathValue("rev")))
	}
	a, err := appliedAt(t, fsm.Revision(n), r.URL.Query().Get("set"))
	if err != nil {
		return nil, err
	}
	reply := RevisionReply{Applied: a}
	if former, ok := t.Former(a); ok {
		reply.Former = &former
	}
	return tagged{t.Revision, reply}, nil
}

// appliedAt finds a configuration; the set must be named if several changed at once.
func appliedAt(t *fsm.Table, rev fsm.Revision, set string) (fsm.Applied, error) {
	all := t.AppliedSets(rev)
	if len(all) == 0 {
		return fsm.Applied{}, unknownRevision(t, rev)
	}
	if set == "" && len(all) == 1 {
		return all[0], nil
	}
	var names []string
	for _, a := range all {
		if a.Set == set {
			return a, nil
		}
		names = append(names, a.Set)
	}
	if set == "" {
		return fsm.Applied{}, &Problem{
			Status: http.StatusBadRequest, Code: CodeBadRequest, Title: "which set?",
			Detail: fmt.Sprintf("at revision %d the sets %s changed", rev, strings.Join(names, ", ")),
			Hint:   fmt.Sprintf("name one: %d/%s", rev, names[0]),
		}
	}
	return fsm.Applied{}, fmt.Errorf("%w: at revision %d nothing changed in set %s, but in %s", fsm.ErrNotFound, rev, set, strings.Join(names, ", "))
}

// unknownRevision says that nothing was applied at a revision, and where
// something was.
func unknownRevision(t *fsm.Table, rev fsm.Revision) *Problem {
	p := &Problem{
		Status: http.StatusNotFound, Code: CodeNotFound, Title: "not found",
		Detail: fmt.Sprintf("the history has no configuration of revision %d", rev), Hint: "lbcluster history lists what it has",
	}
	after := slices.IndexFunc(t.History, func(a fsm.Applied) bool { return a.Revision > rev })
	switch {
	case len(t.History) == 0:
		p.Detail += ": nothing was applied since it is kept"
	case after == 0:
		p.Detail += fmt.Sprintf(": the oldest that is kept is %d", t.History[0].Revision)
	case after > 0:
		p.Detail += fmt.Sprintf(": before it comes %d, after it %d", t.History[after-1].Revision, t.History[after].Revision)
	default:
		p.Detail += fmt.Sprintf(": the newest is %d", t.History[len(t.History)-1].Revision)
	}
	return p
}

// postConfirm: POST /v1/confirm with a PendingRequest keeps the change.
func (s *Server) postConfirm(r *http.Request) (any, error) {
	return s.settle(r, func(rev fsm.Revision) fsm.Command { return fsm.Command{Confirm: &fsm.Confirm{Revision: rev}} })
}

// postUndo: POST /v1/undo with a PendingRequest takes it back at once.
func (s *Server) postUndo(r *http.Request) (any, error) {
	return s.settle(r, func(rev fsm.Revision) fsm.Command { return fsm.Command{Undo: &fsm.Undo{Revision: rev}} })
}

func (s *Server) settle(r *http.Request, command func(fsm.Revision) fsm.Command) (any, error) {
	var req PendingRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	p := t.Pending
	if p == nil {
		return nil, &Problem{
			Status: http.StatusNotFound, Code: CodeNotFound, Title: "no change waits for a confirmation",
			Hint: "lbcluster history shows what was applied, confirmed in time or not",
		}
	}
	if req.Revision == 0 {
		req.Revision = p.Revision
	}
	res, err := s.propose(r, command(req.Revision))
	if err != nil {
		return nil, err
	}
	return PendingReply{Result: res, Pending: pendingOf(*p)}, nil
}

// unconfirmed says that nothing can be applied before a change is confirmed.
func unconfirmed(err error) *Problem {
	return &Problem{
		Status: http.StatusConflict, Code: CodeUnconfirmed, Title: "a change waits for its confirmation",
		Detail: detailOf(err, fsm.ErrConflict, ""), Hint: "lbcluster confirm, or lbcluster rollback; then repeat the command",
	}
}

// History asks what was applied.
func (c *Client) History(ctx context.Context) (r HistoryReply, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/history", nil, &r)
	return r, err
}

// Revision asks for one configuration of the history; the set may be empty where only
// one changed then.
func (c *Client) Revision(ctx context.Context, rev fsm.Revision, set string) (r RevisionReply, err error) {
	path := "/v1/history/" + strconv.FormatUint(uint64(rev), 10)
	if set != "" {
		path += "?set=" + url.QueryEscape(set)
	}
	err = c.do(ctx, http.MethodGet, path, nil, &r)
	return r, err
}

// Confirm keeps the change that waits for it.
func (c *Client) Confirm(ctx context.Context, rev fsm.Revision) (r PendingReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/confirm", PendingRequest{rev}, &r)
	return r, err
}

// Undo takes the change that waits for a confirmation back.
func (c *Client) Undo(ctx context.Context, rev fsm.Revision) (r PendingReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/undo", PendingRequest{rev}, &r)
	return r, err
}
