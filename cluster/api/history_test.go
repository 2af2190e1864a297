package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

func setTo(id string) *fsm.ApplySet {
	return &fsm.ApplySet{Set: "a", Config: fsm.Config{Globals: fsm.Globals{RouterID: id}}}
}

// The list has no configurations in it, one revision has it with the one before;
// the table has neither.
func TestHistory(t *testing.T) {
	f := apitest.NewCluster()
	first := f.Must(fsm.Command{By: "ann@dir1", Apply: setTo("one")}).Revision
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "b", Config: fsm.Config{Globals: fsm.Globals{EmailFrom: "x"}}}})
	second := f.Must(fsm.Command{Apply: setTo("two")}).Revision
	c := serve(t, f)
	h, err := c.History(t.Context())
	if err != nil || len(h.Entries) != 3 || h.Pending != nil {
		t.Fatalf("%+v, %v", h, err)
	}
	if e := h.Entries[0]; e.Revision != first || e.By != "ann@dir1" || e.Set != "a" || e.Current || !strings.Contains(e.Text, "1 added") {
		t.Errorf("%+v", e)
	}
	if !h.Entries[1].Current || !h.Entries[2].Current {
		t.Error("what the sets are now is not said")
	}
	r, err := c.Revision(t.Context(), second, "")
	if err != nil || r.Config.Globals.RouterID != "two" || r.Former == nil || r.Former.Config.Globals.RouterID != "one" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = c.Revision(t.Context(), first, ""); err != nil || r.Former != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.Revision(t.Context(), second+1, ""); !errors.Is(err, fsm.ErrNotFound) || !strings.Contains(err.Error(), "the newest is") {
		t.Error(err)
	}
	if table, err := c.Table(t.Context(), 0); err != nil || table.History != nil {
		t.Errorf("the table carries former configurations: %v, %v", table.History, err)
	}
}

// While a change waits nothing can be planned or applied, status says so, and
// any member confirms or undoes it.
func TestPending(t *testing.T) {
	f := apitest.NewCluster()
	f.Must(fsm.Command{Apply: setTo("one")})
	c := serve(t, f)
	wait := func(id string) fsm.Revision {
		req := api.ApplyRequest{Set: "a", Config: setTo(id).Config, ConfirmWithin: fsm.Duration(time.Minute), IfRevision: f.Table().Revision}
		r, err := c.Apply(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return r.Revision
	}
	rev := wait("two")
	var p *api.Problem
	if _, err := c.Plan(t.Context(), api.ApplyRequest{Set: "b"}); !errors.As(err, &p) || p.Code != api.CodeUnconfirmed || p.Status != http.StatusConflict {
		t.Errorf("plan: %v", err)
	}
	if _, err := c.Apply(t.Context(), api.ApplyRequest{Set: "b", IfRevision: rev}); !errors.As(err, &p) || p.Code != api.CodeUnconfirmed {
		t.Errorf("apply: %v", err)
	}
	s, err := c.Status(t.Context())
	if err != nil || !strings.Contains(findingsOf(s), "unless it is confirmed") {
		t.Errorf("status says %q, %v", findingsOf(s), err)
	}
	if h, err := c.History(t.Context()); err != nil || h.Pending == nil || h.Pending.Revision != rev || h.Pending.Until.Sub(h.Pending.At) != time.Minute {
		t.Errorf("%+v, %v", h.Pending, err)
	}
	if _, err := c.Confirm(t.Context(), rev-1); !errors.Is(err, fsm.ErrConflict) {
		t.Errorf("another revision is confirmed: %v", err)
	}
	if r, err := c.Confirm(t.Context(), rev); err != nil || r.Pending.Revision != rev || f.Table().Pending != nil {
		t.Errorf("%+v, %v", r, err)
	}
	wait("three")
	if _, err := c.Undo(t.Context(), 0); err != nil || f.Table().Pending != nil || f.Table().Config("a").Globals.RouterID != "two" {
		t.Errorf("after the undo: %+v, %v", f.Table().Config("a"), err)
	}
}

func findingsOf(s api.StatusReport) string {
	var all []string
	for _, f := range s.Findings {
		all = append(all, f.Text)
	}
	return strings.Join(all, "; ")
}
