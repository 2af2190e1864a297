package checks

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"lbcluster/fsm"
)

// TargetStatus is what this director thinks of one target.
type TargetStatus struct {
	Target fsm.Target     `json:"target"`
	Server netip.AddrPort `json:"server"`
	Known  bool           `json:"known"` // false: not enough probes yet
	Up     bool           `json:"up"`
	Since  time.Time      `json:"since"` // of this opinion, or of the first probing
	Checks []CheckStatus  `json:"checks"`
	Flaps  Flaps          `json:"flaps,omitzero"`
	Held   bool           `json:"held,omitempty"` // its checks pass, but it is held down
}

// CheckStatus is one check of a target.
type CheckStatus struct {
	Check  fsm.Check     `json:"check"`
	State  State         `json:"state"`
	Last   time.Time     `json:"last,omitzero"`    // when the last finished probe began
	Took   time.Duration `json:"took,omitempty"`   // how long it took, nanoseconds
	Detail string        `json:"detail,omitempty"` // why it failed; empty: it passed
	// Weighs is what it said of the server's weight when it last passed.
	Weighs fsm.Weighing `json:"weighs,omitzero"`
}

// Status returns the targets that are being probed, sorted by server.
func (r *Runner) Status() []TargetStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]TargetStatus, 0, len(r.targets))
	for _, t := range r.targets {
		list = append(list, TargetStatus{
			Target: t.name, Server: t.server, Known: t.known, Up: t.up,
			Since: t.since, Checks: slices.Clone(t.checks), Flaps: t.flaps, Held: t.held,
		})
	}
	slices.SortFunc(list, func(a, b TargetStatus) int {
		return cmp.Or(a.Server.Compare(b.Server), cmp.Compare(a.Target, b.Target))
	})
	return list
}
