package api_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

// TestSnapshot: saved, changed, restored: the table agrees on the same again, in one
// revision that says where it comes from; each set of it can be looked at.
func TestSnapshot(t *testing.T) {
	f := apitest.NewBusy()
	c := serve(t, f)
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "other", Config: fsm.Config{Globals: fsm.Globals{RouterID: "x"}}}})
	file, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	was := f.Table().Agreement()
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "other", Config: fsm.Config{Globals: fsm.Globals{RouterID: "y"}}}})
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "default"}})
	plan, err := c.PlanSnapshot(t.Context(), file)
	if err != nil || len(plan.Changes) == 0 || plan.Deletes > 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	r, err := c.RestoreSnapshot(t.Context(), file, plan.Revision, false)
	if err != nil || r.Revision != plan.Revision+1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if left := f.Table().DiffAgreement(was); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	sets := f.Table().AppliedSets(r.Revision)
	if len(sets) != 2 || !strings.Contains(sets[0].Why, "snapshot of revision") {
		t.Errorf("%+v", sets)
	}
	if _, err := c.Revision(t.Context(), r.Revision, ""); err == nil || !strings.Contains(err.Error(), "default, other") {
		t.Error(err)
	}
	if got, err := c.Revision(t.Context(), r.Revision, "other"); err != nil || got.Config.Globals.RouterID != "x" || got.Former == nil || got.Former.Config.Globals.RouterID != "y" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.Revision(t.Context(), r.Revision, "none"); err == nil {
		t.Error("a set that did not change was found")
	}
}

// TestSnapshotRefused: damage, a newer program, a table that moved on, deletions that
// nobody agreed to: each an error that says so, and nothing is changed.
func TestSnapshotRefused(t *testing.T) {
	f := apitest.NewBusy()
	h := handler(f)
	file, err := f.Table().Save(time.Now(), "dir1")
	if err != nil {
		t.Fatal(err)
	}
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "other", Config: fsm.Config{Globals: fsm.Globals{RouterID: "x"}}}})
	before := f.Table()
	good := string(file)
	now := fmt.Sprintf(`,"if_revision":%d`, before.Revision)
	for _, c := range []struct {
		path, body string
		status     int
		code, text string
	}{
		{"plan", `{}`, 422, api.CodeInvalid, "snapshot"},
		{"plan", `{"snapshot":{}}`, 422, api.CodeInvalid, "no snapshot of lbcluster"},
		{"plan", `{"snapshot":` + strings.Replace(good, `"weight": 1`, `"weight": 2`, 1) + `}`, 422, api.CodeInvalid, "was edited"},
		{"plan", `{"snapshot":{"lbcluster_snapshot":9}}`, 422, api.CodeInvalid, "a newer lbcluster"},
		{"restore", `{"snapshot":` + good + `}`, 422, api.CodeInvalid, "if_revision"},
		{"restore", `{"snapshot":` + good + `,"if_revision":1}`, 409, api.CodeConflict, "planned on revision 1"},
		{"restore", `{"snapshot":` + good + now + `}`, 409, api.CodeNeedsConfirmation, "set other"},
		{"restore", `{"snapshot":` + good + now, 400, api.CodeBadRequest, ""},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/snapshot/"+c.path, strings.NewReader(c.body)))
		if w.Code != c.status || !strings.Contains(w.Body.String(), `"`+c.code+`"`) || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s %.60s: %d %s, want %d %s %q", c.path, c.body, w.Code, w.Body, c.status, c.code, c.text)
		}
	}
	if f.Table() != before {
		t.Error("what was refused changed the table")
	}
}
