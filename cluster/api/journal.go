package api

import (
	"fmt"
	"net/http"
	"time"
)

// getJournal: GET /v1/journal?from=TIME&to=TIME, what each member recorded in
// that time by its own clock, a journal.Record for each.
func (s *Server) getJournal(r *http.Request) (any, error) {
	from, err := timeParam(r, "from")
	if err != nil {
		return nil, err
	}
	to, err := timeParam(r, "to")
	if err != nil {
		return nil, err
	}
	if _, err := s.table(); err != nil {
		return nil, err
	}
	return s.backend.Journal(r.Context(), from, to), nil
}

// timeParam reads an RFC 3339 time; a missing one is zero.
func timeParam(r *http.Request, name string) (at time.Time, err error) {
	v := r.FormValue(name)
	if v == "" {
		return at, nil
	}
	if at, err = time.Parse(time.RFC3339Nano, v); err != nil {
		return at, badRequest(http.StatusBadRequest, fmt.Sprintf("%s: %q is no RFC 3339 time", name, v))
	}
	return at, nil
}
