package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lbcluster/fsm"
)

// tagged is an answer that follows from the table at a revision.
type tagged struct {
	revision fsm.Revision
	body     any
}

// etag is a revision as a strong entity tag (RFC 9110, 8.8.3).
func etag(rev fsm.Revision) string { return `"` + strconv.FormatUint(uint64(rev), 10) + `"` }

// unchanged reports whether the client has the answer already (If-None-Match).
func unchanged(r *http.Request, rev fsm.Revision) bool {
	has := strings.Split(r.Header.Get("If-None-Match"), ",")
	return slices.ContainsFunc(has, func(t string) bool {
		t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
		return t == "*" || t == etag(rev)
	})
}

// ifMatch is the revision at which the client wants the table to be; 0: it does not
// say.
func ifMatch(r *http.Request) (fsm.Revision, error) {
	v := strings.TrimSpace(r.Header.Get("If-Match"))
	if v == "" || v == "*" {
		return 0, nil
	}
	text, opened := strings.CutPrefix(v, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	n, err := strconv.ParseUint(text, 10, 64)
	if !opened || !closed || err != nil || n == 0 {
		return 0, badRequest(http.StatusBadRequest, fmt.Sprintf(`If-Match: %s is no revision, such as "12", from an ETag`, v))
	}
	return fsm.Revision(n), nil
}

// checkMatch refuses If-Match where it would be ignored.
func (rt route) checkMatch(r *http.Request) error {
	rev, err := ifMatch(r)
	if err == nil && rev != 0 && !rt.compares {
		err = badRequest(http.StatusBadRequest, fmt.Sprintf("%s %s cannot be made to depend on the table's revision: leave If-Match out", rt.method, rt.path))
	}
	return err
}

// compare puts what the client demands into a command.
func compare(r *http.Request, cmd *fsm.Command) error {
	rev, err := ifMatch(r)
	if err != nil || rev == 0 {
		return err
	}
	if cmd.IfRevision != 0 && cmd.IfRevision != rev {
		return fmt.Errorf("the table is at revision %d, not %d: %w", cmd.IfRevision, rev, fsm.ErrConflict)
	}
	cmd.IfRevision = rev
	return nil
}

// failedMatch is the problem that a conflict is for a client who sent If-Match
// (RFC 9110, 13.1.1).
func failedMatch(r *http.Request, p *Problem) *Problem {
	if p.Code != CodeConflict || r.Header.Get("If-Match") == "" {
		return p
	}
	changed := *p
	changed.Status = http.StatusPreconditionFailed
	return &changed
}

// revisionOf is the revision that an answer to a write tells.
func revisionOf(reply any) (fsm.Revision, bool) {
	switch v := reply.(type) {
	case fsm.Result:
		return v.Revision, true
	case ApplyReply:
		return v.Revision, true
	case PendingReply:
		return v.Revision, true
	}
	return 0, false
}
