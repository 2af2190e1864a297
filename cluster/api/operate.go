package api

import (
	"context"
	"net/http"
	"net/url"

	"lbcluster/fsm"
)

// MemberRequest changes what an operator wants of a member; what is nil stays
// as it is.
type MemberRequest struct {
	// Drained takes a director out of service, or puts it back.
	Drained *bool `json:"drained,omitempty"`
}

// postMove: POST /v1/moves with an fsm.Move. It says where a unit should be;
// that it gets there is the leases' work, and shows in the table's owners.
func (s *Server) postMove(r *http.Request) (any, error) {
	var req fsm.Move
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if _, err := s.table(); err != nil {
		return nil, err
	}
	return s.propose(r, fsm.Command{Move: &req})
}

// patchMember: PATCH /v1/members/{id} with a MemberRequest.
func (s *Server) patchMember(r *http.Request) (any, error) {
	var req MemberRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if req.Drained == nil {
		return nil, invalid([]Fault{{"drained", "is missing: there is nothing to change"}})
	}
	if _, err := s.table(); err != nil {
		return nil, err
	}
	id := fsm.MemberID(r.PathValue("id"))
	return s.propose(r, fsm.Command{Member: &fsm.SetMember{ID: id, Drained: req.Drained}})
}

// getSettings: GET /v1/settings.
func (s *Server) getSettings(*http.Request) (any, error) {
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	return tagged{t.Revision, t.Settings}, nil
}

// patchSettings: PATCH /v1/settings with an fsm.SetSettings: only what it names
// changes.
func (s *Server) patchSettings(r *http.Request) (any, error) {
	var req fsm.SetSettings
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if _, err := s.table(); err != nil {
		return nil, err
	}
	return s.propose(r, fsm.Command{Settings: &req})
}

// Move says where a unit should be.
func (c *Client) Move(ctx context.Context, m fsm.Move) (r fsm.Result, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/moves", m, &r)
	return r, err
}

// ChangeMember changes what is wanted of a member.
func (c *Client) ChangeMember(ctx context.Context, id fsm.MemberID, req MemberRequest) (r fsm.Result, err error) {
	err = c.do(ctx, http.MethodPatch, "/v1/members/"+url.PathEscape(string(id)), req, &r)
	return r, err
}

// Settings asks for the cluster's settings.
func (c *Client) Settings(ctx context.Context) (s fsm.Settings, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/settings", nil, &s)
	return s, err
}

// ChangeSettings changes the settings that req names.
func (c *Client) ChangeSettings(ctx context.Context, req fsm.SetSettings) (r fsm.Result, err error) {
	err = c.do(ctx, http.MethodPatch, "/v1/settings", req, &r)
	return r, err
}
