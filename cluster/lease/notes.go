package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// note is something worth a record that the holder's outputs do not say.
type note struct {
	router uint64
	kind   EntryKind
	cause  string
	peers  []fsm.MemberID
	text   string
}

// maxNotes bounds what waits for takeNotes: nobody takes them in a simulation.
const maxNotes = 64

func (h *Holder) remark(n note) {
	if len(h.notes) < maxNotes {
		h.notes = append(h.notes, n)
	}
}

// takeNotes returns what happened since it was last called.
func (h *Holder) takeNotes() []note {
	n := h.notes
	h.notes = nil
	return n
}

// remarkDenied notes that a voter refused an Ask. A probe that is refused is
// nothing to note: so every candidate learns that somebody else holds it.
func (h *Holder) remarkDenied(c *candidacy, m Message) {
	text := fmt.Sprintf("%s refused: %v", m.From, m.Reason)
	if m.Holder != "" {
		text = fmt.Sprintf("%s, by %s for %v", text, m.Holder, time.Duration(m.Remaining).Round(time.Millisecond))
	}
	h.remark(note{c.id, EntryDenied, m.Reason.String(), []fsm.MemberID{m.From}, text})
}

// remarkLostRound notes that a holder's round found no majority. A candidate's
// lost round is the way of elections.
func (h *Holder) remarkLostRound(now int64, c *candidacy, r *round) {
	if c.phase != holding || len(without(r.addrs, c.held)) > 0 {
		return
	}
	silent := without(without(r.voters.voters(), r.votes), r.denials)
	cause, text := "denied", ""
	if len(silent) > 0 {
		cause = "no answer from " + list(silent)
	}
	text = fmt.Sprintf("a renewal got %d of %d voters, %s wanted; %s; %v of the lease are left",
		len(r.votes), len(r.voters.voters()), r.voters.wanted(), cause, time.Duration(c.deadline-now).Round(time.Millisecond))
	h.remark(note{c.id, EntryRound, cause, without(r.voters.voters(), r.votes), text})
}

func list(ids []fsm.MemberID) string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// margin is how much of a tenure's deadline was left at its renewals.
type margin struct {
	deadline int64
	fresh    bool // the short first deadline has not been renewed yet
	n        uint64
	sum, min int64
}

// acquire starts anew with a tenure.
func (m *margin) acquire(deadline int64) { *m = margin{deadline: deadline, fresh: true, min: forever} }

// renew counts a renewal at now. The first deadline is short by design and does
// not count.
func (m *margin) renew(now, deadline int64) {
	if m == nil {
		return // nothing is held by the owner's account
	}
	if !m.fresh && m.deadline > 0 {
		left := m.deadline - now
		m.n, m.sum, m.min = m.n+1, m.sum+left, min(m.min, left)
	}
	m.deadline, m.fresh = deadline, false
}

// Margin is how much of the deadline was left when this tenure was renewed.
type Margin struct {
	Renewals uint64
	Min, Avg time.Duration // 0 without renewals
}

func (m *margin) status() Margin {
	if m == nil || m.n == 0 {
		return Margin{}
	}
	return Margin{m.n, time.Duration(m.min), time.Duration(m.sum / int64(m.n))}
}

// recordNotes records what the holder noted.
func (l *loop) recordNotes() {
	for _, n := range l.holder.takeNotes() {
		l.journalOnce(Entry{Unit: n.router, Kind: n.kind, Cause: n.cause, Peers: n.peers, Text: n.text})
	}
}

// recordClosing records that the gate of what was held closed, or did not.
func (l *loop) recordClosing(o CloseGate, began int64, err error) {
	c := l.holder.routers[o.Router]
	if c == nil || l.terms[o.Router] == nil || !o.Whole {
		return
	}
	e := Entry{Unit: o.Router, Kind: EntryClosed, Cause: c.why}
	if m := l.margins[o.Router]; m != nil {
		e.Deadline = m.deadline
	}
	if c.hint != "" {
		e.Peers = []fsm.MemberID{c.hint}
	}
	if err != nil {
		e.Cause = "not read back" // and tried again, often
		e.Text = fmt.Sprintf("its gate does not read back as closed (%v); it closes by itself at its deadline: %s", err, c.why)
		l.journalOnce(e)
		return
	}
	took := time.Duration(l.clocks.Boot() - began).Round(time.Microsecond)
	e.Text = fmt.Sprintf("its gate was closed and read back in %v: %s", took, c.why)
	l.journal(e)
}
