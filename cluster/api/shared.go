package api

import (
	"context"
	"time"
)

// sharedReport is the last report made, for all who watch at once: however many
// they are, the members are asked as often as for one.
type sharedReport struct {
	turn chan struct{} // one slot: filled by who looks at the rest
	made time.Time
	r    StatusReport
}

// Report is what GET /v1/status answers, at most maxAge old. Asking the other
// members takes a second if one of them does not answer.
func (s *Server) Report(ctx context.Context, maxAge time.Duration) StatusReport {
	s.shared.turn <- struct{}{} // never for longer than it takes to ask
	defer func() { <-s.shared.turn }()
	if s.shared.made.IsZero() || time.Since(s.shared.made) >= maxAge {
		// Whoever asked first may go before the members have answered; others want it.
		s.shared.r = s.report(context.WithoutCancel(ctx))
		s.shared.made = time.Now()
	}
	return s.shared.r
}

// report asks all members and draws the conclusions.
func (s *Server) report(ctx context.Context) StatusReport {
	local := s.backend.Local()
	if !local.Enrolled {
		return BuildReport(nil, local, nil, time.Now())
	}
	others := s.backend.Others(ctx)
	return BuildReport(s.backend.Table(), local, others, time.Now())
}
