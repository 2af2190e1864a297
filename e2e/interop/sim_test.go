package interop

import (
	"testing"

	"pgregory.net/rapid"
)

// sim is two VRRP machines as RFC 9568 section 6.4 and keepalived have them, in
// ticks of a tenth of an advert interval: the long way to what [Pair] says at
// once.
type sim struct {
	c             Cell
	cluster, peer machine
	path          bool
	now           int
}

type machine struct {
	up, frozen, master bool
	priority, address  int
	preempt            bool
	due                int // of the next advert, or of the Master_Down_Interval
}

const (
	interval = 10
	settled  = 10 * interval
)

func newSim(c Cell) *sim {
	s := &sim{c: c, path: true}
	ours, theirs := c.Priorities()
	s.cluster = machine{priority: ours, address: 2, preempt: !c.NoPreempt}
	s.peer = machine{priority: theirs, address: 3, preempt: !c.NoPreempt}
	if !c.peerIsHigh() {
		s.peer.address = 1
	}
	s.start(&s.cluster)
	s.run()
	return s
}

func (s *sim) start(m *machine) {
	if !m.up {
		m.up, m.master = true, false
		m.wait(s.now)
	}
}

func (m *machine) wait(now int) { m.due = now + 3*interval + (256-m.priority)*interval/256 }

func (s *sim) run() {
	for end := s.now + settled; s.now < end; s.now++ {
		s.tick(&s.cluster, &s.peer)
		s.tick(&s.peer, &s.cluster)
	}
}

func (s *sim) tick(m, other *machine) {
	if !m.up || m.frozen || s.now < m.due {
		return
	}
	m.master, m.due = true, s.now+interval
	if other.up && !other.frozen && s.path {
		s.hear(other, m)
	}
}

// hear is what a machine does with the other's advert.
func (s *sim) hear(m, from *machine) {
	better := from.priority > m.priority || from.priority == m.priority && from.address > m.address
	switch {
	case m.master && better:
		m.master = false
		m.wait(s.now)
	case m.master:
		m.due = s.now // answers
	case from.priority >= m.priority || !m.preempt:
		m.wait(s.now)
	}
}

func (s *sim) do(e Event) {
	switch e {
	case PeerStarts:
		s.start(&s.peer)
	case PeerGoes:
		s.peer.up, s.peer.master = false, false
	case PeerFreezes:
		s.peer.frozen = true
	case PeerThaws:
		s.peer.frozen = false
		if s.cluster.master && s.path { // adverts wait in its socket, and are read first
			s.hear(&s.peer, &s.cluster)
		}
	case ClusterStarts:
		s.start(&s.cluster)
	case ClusterGoes:
		s.cluster.up, s.cluster.master = false, false
	case PathCut:
		s.path = false
	case PathHeals:
		s.path = true
	}
	s.run()
}

// possible are the events that can be next, and such that a model without
// timers can say what comes: one fault at a time.
func (s *sim) possible() []Event {
	switch {
	case s.peer.frozen:
		return []Event{PeerThaws}
	case !s.path:
		return []Event{PathHeals}
	case s.peer.up && s.cluster.up:
		return []Event{PeerGoes, PeerFreezes, ClusterGoes, DirectorGoes, DirectorReturns, PathCut}
	case s.peer.up:
		return []Event{ClusterStarts}
	}
	return []Event{PeerStarts}
}

func (s *sim) agrees(t rapid.TB, p Pair, after any) {
	t.Helper()
	if got := (Holders{Cluster: s.cluster.master, Peer: s.peer.master}); got != p.Holders {
		t.Fatalf("%v after %v: two machines come to %v, the model says %v", s.c, after, got, p.Holders)
	}
}

func TestModelIsWhatTwoMachinesComeTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(Cells).Draw(t, "cell")
		s, p := newSim(c), NewPair(c)
		s.agrees(t, p, "the start")
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			e := rapid.SampledFrom(s.possible()).Draw(t, "event")
			s.do(e)
			p = p.After(e)
			s.agrees(t, p, e)
		}
	})
}

func TestModelOfTheSteps(t *testing.T) {
	for _, some := range []bool{false, true} {
		for _, c := range Cells {
			s, p := newSim(c), NewPair(c)
			for _, step := range Steps {
				if some && !step.Some {
					continue
				}
				s.do(step.Event)
				p = p.After(step.Event)
				s.agrees(t, p, step.Name)
			}
		}
	}
}
