package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"lbcluster/fsm"
)

// SnapshotRequest is a snapshot that is to be restored.
type SnapshotRequest struct {
	// Snapshot is the file's content, as GET /v1/snapshot gave it.
	Snapshot any `json:"snapshot"`
	// IfRevision and Prune are those of an apply: the revision of the plan that a
	// person said yes to, and a yes to deletions.
	IfRevision fsm.Revision `json:"if_revision,omitempty"`
	Prune      bool         `json:"prune,omitempty"`
}

// snapshotRequest is a SnapshotRequest as it is read: the file's own bytes.
type snapshotRequest struct {
	Snapshot   json.RawMessage `json:"snapshot"`
	IfRevision fsm.Revision    `json:"if_revision,omitempty"`
	Prune      bool            `json:"prune,omitempty"`
}

// getSnapshot: GET /v1/snapshot: what operators decided, as a file, with its checksum.
func (s *Server) getSnapshot(*http.Request) (any, error) {
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	b, err := t.Save(time.Now(), fmt.Sprintf("lbcluster %s on %s", s.version, s.host))
	if err != nil {
		return nil, err
	}
	return tagged{t.Revision, json.RawMessage(b)}, nil
}

// readSnapshot reads a request and the snapshot in it.
func readSnapshot(r *http.Request) (req snapshotRequest, saved fsm.Saved, a fsm.Agreement, err error) {
	if err = readJSON(r, &req); err != nil {
		return req, saved, a, err
	}
	if len(req.Snapshot) == 0 {
		return req, saved, a, invalid([]Fault{{"snapshot", "is missing"}})
	}
	saved, a, err = fsm.ReadSaved(req.Snapshot)
	if errors.Is(err, fsm.ErrUnknownCommand) {
		err = fmt.Errorf("%w: %w", fsm.ErrInvalid, err)
	}
	return req, saved, a, err
}

// planSnapshot validates and compares.
func planSnapshot(t *fsm.Table, a fsm.Agreement) (Plan, error) {
	if err := t.Unconfirmed(); err != nil {
		return Plan{}, unconfirmed(err)
	}
	if problems := t.ValidateAgreement(a); len(problems) > 0 {
		return Plan{}, invalid(faultsOf(problems))
	}
	plan := Plan{Revision: t.Revision, Changes: t.DiffAgreement(a)}
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

// postSnapshotPlan: POST /v1/snapshot/plan with a SnapshotRequest changes nothing.
func (s *Server) postSnapshotPlan(r *http.Request) (any, error) {
	_, _, a, err := readSnapshot(r)
	if err != nil {
		return nil, err
	}
	t, err := s.table()
	if err != nil {
		return nil, err
	}
	return planSnapshot(t, a)
}

// postSnapshot: POST /v1/snapshot/restore with a SnapshotRequest: one change.
func (s *Server) postSnapshot(r *http.Request) (any, error) {
	req, saved, a, err := readSnapshot(r)
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
	plan, err := planSnapshot(t, a)
	if err != nil {
		return nil, err
	}
	if plan.Deletes > 0 && !req.Prune {
		return nil, needsConfirmation(plan)
	}
	why := fmt.Sprintf("snapshot of revision %d, %s UTC", saved.Revision, saved.At.Format(time.DateTime))
	if saved.Cluster != t.Cluster {
		why += ", of cluster " + saved.Cluster
	}
	res, err := s.propose(r, fsm.Command{IfRevision: req.IfRevision, Reinstate: &fsm.Reinstate{Agreement: a, Why: why}})
	if err != nil {
		return nil, err
	}
	return ApplyReply{Result: res, Plan: plan}, nil
}

// Snapshot asks for the file, as fsm.ReadSaved reads it.
func (c *Client) Snapshot(ctx context.Context) (file json.RawMessage, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/snapshot", nil, &file)
	return file, err
}

// PlanSnapshot asks what restoring a file would change.
func (c *Client) PlanSnapshot(ctx context.Context, file []byte) (p Plan, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/snapshot/plan", SnapshotRequest{Snapshot: json.RawMessage(file)}, &p)
	return p, err
}

// RestoreSnapshot makes the change.
func (c *Client) RestoreSnapshot(ctx context.Context, file []byte, at fsm.Revision, prune bool) (r ApplyReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/snapshot/restore", SnapshotRequest{Snapshot: json.RawMessage(file), IfRevision: at, Prune: prune}, &r)
	return r, err
}
