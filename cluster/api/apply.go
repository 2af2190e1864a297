package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"lbcluster/fsm"
)

// postPlan: POST /v1/plan with an ApplyRequest: what an apply would change, or
// all that is wrong with it. It changes nothing.
func (s *Server) postPlan(r *http.Request) (any, error) {
	req, err := applyRequest(r)
	if err != nil {
		return nil, err
	}
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	return makePlan(t, req)
}

// postApply: POST /v1/apply with an ApplyRequest: one atomic change, made only
// if the table is still at IfRevision and deletions were agreed to.
func (s *Server) postApply(r *http.Request) (any, error) {
	req, err := applyRequest(r)
	if err != nil {
		return nil, err
	}
	if req.IfRevision == 0 {
		if req.IfRevision, err = ifMatch(r); err != nil {
			return nil, err
		}
	}
	if req.IfRevision == 0 {
		return nil, invalid([]Fault{{"if_revision", "is missing: send the revision of the plan that was looked at"}})
	}
	t, err := s.tableAt(r, req.IfRevision)
	if err != nil {
		return nil, err
	}
	plan := Plan{Revision: t.Revision, Changes: []fsm.Change{}}
	brief := req.Brief && t.Unconfirmed() == nil
	if brief {
		plan.Deletes = t.Deletions(req.Set, req.Config)
	}
	if !brief || plan.Deletes > 0 && !req.Prune {
		if plan, err = makePlan(t, req); err != nil {
			return nil, err
		}
	}
	if plan.Deletes > 0 && !req.Prune {
		return nil, needsConfirmation(plan)
	}
	apply := req.command()
	res, err := s.propose(r, fsm.Command{IfRevision: req.IfRevision, Apply: &apply})
	if err != nil {
		return nil, err
	}
	return ApplyReply{Result: res, Plan: plan}, nil
}

// applyRequest reads an ApplyRequest; the set's name defaults to "default".
func applyRequest(r *http.Request) (ApplyRequest, error) {
	req := ApplyRequest{Set: "default"}
	if err := readJSON(r, &req); err != nil {
		return req, err
	}
	return req, nil
}

// tableAt is the table at exactly rev, waiting for it if this machine is
// behind the one that made the plan.
func (s *Server) tableAt(r *http.Request, rev fsm.Revision) (*fsm.Table, error) {
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	if t.Revision < rev {
		if err := s.backend.WaitRevision(r.Context(), rev); err != nil {
			return nil, err
		}
		if t, err = s.table(); err != nil {
			return nil, err
		}
	}
	if t.Revision != rev {
		return nil, fmt.Errorf("planned on revision %d, the table is at %d: %w", rev, t.Revision, fsm.ErrConflict)
	}
	return t, nil
}

// makePlan validates and compares.
func makePlan(t *fsm.Table, req ApplyRequest) (Plan, error) {
	if err := t.Unconfirmed(); err != nil {
		return Plan{}, unconfirmed(err)
	}
	if problems := t.ValidateSet(req.Set, req.Config); len(problems) > 0 {
		return Plan{}, invalid(faultsOf(problems))
	}
	if bad := req.command().Problem(t); bad != "" {
		return Plan{}, invalid([]Fault{{"set " + req.Set, bad}})
	}
	plan := Plan{Revision: t.Revision, Changes: t.Diff(req.Set, req.Config)}
	for _, c := range plan.Changes {
		if c.Op == fsm.OpDelete {
			plan.Deletes++
		}
	}
	if plan.Changes == nil {
		plan.Changes = []fsm.Change{}
	}
	return plan, nil
}

func faultsOf(problems []fsm.Problem) []Fault {
	faults := make([]Fault, 0, len(problems))
	for _, p := range problems {
		faults = append(faults, Fault{Path: p.Path, Text: p.Text})
	}
	return faults
}

func needsConfirmation(plan Plan) *Problem {
	p := &Problem{
		Status: http.StatusConflict, Code: CodeNeedsConfirmation, Title: "this would delete what is there now",
		Hint: "if that is meant, send prune: true (lbcluster apply --prune --yes)",
	}
	for _, c := range plan.Changes {
		if c.Op == fsm.OpDelete {
			p.Problems = append(p.Problems, Fault{Path: c.Path, Text: "would be deleted"})
		}
	}
	return p
}

// waitFor waits for a revision, but no longer than wait: running out of that
// time is no error, running out of the request's is.
func (s *Server) waitFor(r *http.Request, rev fsm.Revision, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(r.Context(), wait, errNoNews)
	defer cancel()
	err := s.backend.WaitRevision(ctx, rev)
	if err != nil && r.Context().Err() == nil && errors.Is(context.Cause(ctx), errNoNews) {
		return nil
	}
	return err
}
