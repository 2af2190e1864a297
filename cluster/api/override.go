package api

import (
	"errors"
	"net/http"

	"lbcluster/fsm"
)

// overrideTries bounds how often an override is merged again because the table
// changed in between; votes may change it many times a second.
const overrideTries = 5

// putOverride: PUT /v1/overrides with an OverrideRequest. State and weight are
// set apart from each other, so the request is merged with what stands, and
// committed only if that still stands.
func (s *Server) putOverride(r *http.Request) (any, error) {
	var req OverrideRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if faults := checkOverride(req); len(faults) > 0 {
		return nil, invalid(faults)
	}
	if rev, err := ifMatch(r); err != nil {
		return nil, err
	} else if rev != 0 {
		if _, err := s.tableAt(r, rev); err != nil { // this member may be behind
			return nil, err
		}
	}
	for try := 1; ; try++ {
		t, err := s.table()
		if err != nil {
			return nil, err
		}
		o := mergeOverride(t, req)
		res, err := s.propose(r, fsm.Command{IfRevision: t.Revision, Override: &o})
		if !errors.Is(err, fsm.ErrConflict) || try == overrideTries || r.Header.Get("If-Match") != "" {
			return res, err
		}
		if err := s.backend.WaitRevision(r.Context(), t.Revision+1); err != nil {
			return nil, err
		}
	}
}

// mergeOverride lays a request over what stands.
func mergeOverride(t *fsm.Table, req OverrideRequest) fsm.SetOverride {
	o := fsm.SetOverride{Service: req.Service, Server: req.Server}
	for _, old := range t.Overrides {
		if old.Service == req.Service && old.Server == req.Server {
			o.State, o.Weight, o.Within = old.State, old.Weight, old.Within
		}
	}
	if req.State != nil {
		o.State, o.Within = *req.State, req.Within
	}
	if req.Weight != nil {
		o.Weight = req.Weight
	}
	if req.ResetWeight {
		o.Weight = nil
	}
	return o
}

func checkOverride(r OverrideRequest) []Fault {
	var faults []Fault
	if !r.Server.IsValid() {
		faults = append(faults, Fault{"server", "is missing: the real server's address and port"})
	}
	if r.State == nil && r.Weight == nil && !r.ResetWeight {
		faults = append(faults, Fault{"state", "neither state nor weight is given: there is nothing to change"})
	}
	if r.Within != 0 && (r.State == nil || *r.State != fsm.Drained) {
		faults = append(faults, Fault{"within", `goes with the state "drain" only`})
	}
	if r.Weight != nil && r.ResetWeight {
		faults = append(faults, Fault{"reset_weight", "contradicts weight"})
	}
	return faults
}
