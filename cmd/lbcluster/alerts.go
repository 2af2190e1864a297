package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lbcluster/cluster"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// Alerts are what each member tells of itself, because the log may take nothing
// then: see package tell.

const (
	// leaderless is how long a member does without a leader before it tells: an
	// election takes a second or two, also on a busy machine.
	leaderless = 10 * time.Second
	leaderPoll = time.Second
)

// watchLeader tells when this member has had no leader for long, and when it has one
// again.
func (m *member) watchLeader(ctx context.Context) error {
	since, told := time.Time{}, false
	for pause(ctx, leaderPoll) {
		st := m.d.node.Status()
		switch {
		case st.Leader == "" && since.IsZero():
			since = time.Now()
		case st.Leader == "" && !told && time.Since(since) >= leaderless:
			told = true
			m.teller.Alert(lostQuorum(m.d.cfg.Name, st))
		case st.Leader != "":
			if told {
				m.teller.Alert(fsm.Notice{Kind: "quorum", Name: "Quorum of " + m.d.cfg.Name, State: "BACK",
					Text: fmt.Sprintf("%s has a leader again, after %v", m.d.cfg.Name, time.Since(since).Round(time.Second))})
			}
			since, told = time.Time{}, false
		}
	}
	return nil
}

// recently is how old the last word of a member may be that is heard.
const recently = 5 * time.Second

// lostQuorum says whom the member still hears, which tells a cluster without a quorum
// from a member that is cut off.
func lostQuorum(name string, st cluster.Status) fsm.Notice {
	var heard []string
	for _, o := range st.Members {
		if o.ID != st.ID && (o.Alive || o.Contact > 0 && o.Contact < recently) {
			heard = append(heard, o.Name)
		}
	}
	who := "it hears " + strings.Join(heard, ", ")
	if len(heard) == 0 {
		who = "it hears no other member"
	}
	return fsm.Notice{Kind: "quorum", Name: "Quorum of " + name, State: "LOST",
		Text: fmt.Sprintf("%s has had no leader for %v: nothing can be changed, and without a majority nobody holds a VIP; %s", name, leaderless, who)}
}

// noteTenure records, and tells of a lease that ran out: the gate has closed.
func (m *member) noteTenure(e journal.Entry) {
	m.d.note(e)
	if e.Kind == journal.Lost && e.Cause == journal.Expired {
		name := unitName(m.d.node.Table(), e.Unit)
		m.teller.Alert(fsm.Notice{Kind: "gate", Name: fmt.Sprintf("Gate of %s on %s", name, m.d.cfg.Name), State: "FAULT",
			Text: fmt.Sprintf("the lease of %s ran out on %s, and the gate there is closed: %s", name, m.d.cfg.Name, e.Text)})
	}
}
