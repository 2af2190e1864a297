package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"lbcluster/e2e/lab"
)

// Command runs lbcluster on a host as a person would and returns what it
// printed and its exit status; -1: it could not be run, or not within 30 s.
func (s *Site) Command(h *lab.Host, args ...string) (out string, status int) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := h.Run(ctx, append([]string{"lbcluster"}, args...)...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out, 0
	case errors.As(err, &exit):
		return out, exit.ExitCode()
	}
	return out + err.Error(), -1
}

// Holder is the one director but old that says it holds the lease. Unlike
// Owner it does not ask old, which may be frozen or cut off.
func (s *Site) Holder(old *lab.Host) (*lab.Host, error) {
	var found *lab.Host
	for _, h := range s.Others(old) {
		if s.Daemons[h] == nil {
			continue
		}
		l, err := s.Local(h)
		if err != nil || len(l.Leases) == 0 || l.Leases[0].State != "holder" {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%s and %s both say that they hold the lease", found.Name, h.Name)
		}
		found = h
	}
	if found == nil {
		return nil, errors.New("no other director holds the lease")
	}
	return found, nil
}

// AwaitSuccessor waits until another director than old holds the lease.
func (s *Site) AwaitSuccessor(old *lab.Host) *lab.Host {
	s.T.Helper()
	var next *lab.Host
	s.Eventually(20*time.Second, "another director than "+old.Name+" holds the lease", func() (err error) {
		next, err = s.Holder(old)
		return err
	})
	return next
}

// AwaitVoter waits until a host that was started promises leases: until then the
// cluster must not lose another voter.
func (s *Site) AwaitVoter(h *lab.Host) {
	s.T.Helper()
	s.Eventually(20*time.Second, h.Name+" promises leases", func() error {
		l, err := s.Local(h)
		switch {
		case err != nil:
			return err
		case len(l.Leases) == 0 || l.Leases[0].EmbargoMS > 0:
			return fmt.Errorf("not yet: %+v", l.Leases)
		}
		return nil
	})
}

// AwaitCalm waits until all started directors follow one leader, promise
// leases, and have applied the newest table, and returns the leader; nil: a
// witness leads.
func (s *Site) AwaitCalm() *lab.Host {
	s.T.Helper()
	var leader *lab.Host
	s.Eventually(30*time.Second, "all directors follow one leader", func() error {
		leader = nil
		var first Local
		for _, h := range s.Dirs {
			if s.Daemons[h] == nil {
				continue
			}
			l, err := s.Local(h)
			if err != nil {
				return err
			}
			if first.ID == "" {
				first = l
			}
			switch {
			case l.Raft.Leader == "" || l.Raft.Leader != first.Raft.Leader:
				return fmt.Errorf("%s follows %q, another %q", h.Name, l.Raft.Leader, first.Raft.Leader)
			case l.TableRevision != first.TableRevision, !l.Kernel.Applied, l.Kernel.Revision != l.TableRevision:
				return fmt.Errorf("%s has table revision %d, in the kernel %d; another has %d", h.Name, l.TableRevision, l.Kernel.Revision, first.TableRevision)
			case len(l.Leases) == 0 || l.Leases[0].Unfit != "":
				return fmt.Errorf("%s does not stand: %+v", h.Name, l.Leases)
			case l.Leases[0].EmbargoMS > 0:
				return fmt.Errorf("%s has just started and promises nothing yet", h.Name)
			}
			if l.Raft.State == "leader" {
				leader = h
			}
		}
		if leader == nil && len(s.Daemons) <= len(s.Dirs) {
			return errors.New("no leader among the directors")
		}
		return nil
	})
	return leader
}

// Finding is one of status's findings.
type Finding struct{ Severity, Member, Text, Fix string }

// Findings are what lbcluster status on h says that a person should look at.
func (s *Site) Findings(h *lab.Host) ([]Finding, error) {
	out, status := s.Command(h, "status", "-o", "json")
	if status != 0 {
		return nil, fmt.Errorf("%s: status: %s", h.Name, out)
	}
	var report struct{ Findings []Finding }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return nil, fmt.Errorf("%s: status: %w: %s", h.Name, err, out)
	}
	return report.Findings, nil
}

// AwaitFinding waits until status on h has a finding whose text and fix contain
// the words given.
func (s *Site) AwaitFinding(h *lab.Host, text, fix string) Finding {
	s.T.Helper()
	var found Finding
	s.Eventually(15*time.Second, fmt.Sprintf("status on %s says %q, fix %q", h.Name, text, fix), func() error {
		all, err := s.Findings(h)
		if err != nil {
			return err
		}
		for _, f := range all {
			if strings.Contains(f.Text, text) && strings.Contains(f.Fix, fix) {
				found = f
				return nil
			}
		}
		return fmt.Errorf("it says %+v", all)
	})
	return found
}
