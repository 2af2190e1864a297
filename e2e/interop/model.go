package interop

// Holders are the sides that have an address.
type Holders struct{ Cluster, Peer bool }

// String is "cluster", "peer", "both" or "nobody".
func (h Holders) String() string {
	switch {
	case h.Cluster && h.Peer:
		return "both"
	case h.Cluster:
		return "cluster"
	case h.Peer:
		return "peer"
	}
	return "nobody"
}

// Event is what happens to the two, or to what is between them.
type Event int

// The events. The cluster is up while it has a majority: that one director dies
// or stops is no event to a VRRP router.
const (
	PeerStarts Event = iota
	PeerGoes         // dies or stops
	PeerFreezes
	PeerThaws
	ClusterStarts
	ClusterGoes
	DirectorGoes
	DirectorReturns
	PathCut // of adverts alone
	PathHeals
)

// Pair are two VRRP routers as they must be some time after an event, when all
// timers have run out.
type Pair struct {
	Cell
	Holders
	clusterUp, peerUp bool
}

// NewPair is a cluster that serves, and no peer yet.
func NewPair(c Cell) Pair { return Pair{Cell: c, Holders: Holders{Cluster: true}, clusterUp: true} }

// After is what two keepalived would come to.
func (p Pair) After(e Event) Pair {
	switch e {
	case PeerStarts:
		p.peerUp = true
		p.Cluster, p.Peer = starts(p.Cluster, p.Rank == Lower && !p.NoPreempt)
	case ClusterStarts:
		p.clusterUp = true
		p.Peer, p.Cluster = starts(p.Peer, p.Rank == Higher && !p.NoPreempt)
	case PeerGoes:
		p.peerUp, p.Holders = false, Holders{Cluster: p.clusterUp}
	case ClusterGoes:
		p.clusterUp, p.Holders = false, Holders{Peer: p.peerUp}
	case PeerFreezes:
		p.Cluster = true // a frozen keepalived keeps the addresses that it has
	case PathCut:
		p.Holders = Holders{Cluster: p.clusterUp, Peer: p.peerUp}
	case PeerThaws, PathHeals:
		if p.Cluster && p.Peer { // each is MASTER: preemption is no matter
			p.Cluster = p.Rank == Higher || p.Rank == EqualHigh
			p.Peer = !p.Cluster
		}
	}
	return p
}

// starts says who is MASTER after a router started beside another: a BACKUP
// leaves an equal priority what it has, whatever the addresses.
func starts(other, preempts bool) (otherHas, has bool) {
	if other && !preempts {
		return true, false
	}
	return false, true
}

// Step is one thing that a run does, to all cells at once.
type Step struct {
	Name  string // as in records
	Event Event
	Some  bool // a run that is not full does it too
}

// Names of the steps.
const (
	StepPeerStarts      = "the peer starts"
	StepOwnerDies       = "the owner loses its power"
	StepNextDies        = "its successor too: no majority"
	StepBothReturn      = "both have power again"
	StepPeerDies        = "the peer loses its power"
	StepPeerReturns     = "the peer has power again"
	StepOthersDie       = "all but the owner lose theirs: no majority"
	StepOthersReturn    = "they have power again"
	StepPeerStops       = "the peer is stopped"
	StepPeerStartsAgain = "the peer is started"
	StepOwnerStops      = "the owner is stopped"
	StepOwnerReturns    = "it is started"
	StepAllStop         = "all directors are stopped"
	StepAllStart        = "all directors are started"
	StepPeerFreezes     = "the peer freezes"
	StepPeerThaws       = "the peer thaws"
	StepPathCut         = "no advert passes between the two"
	StepPathHeals       = "adverts pass again"
)

// Steps are what a run does, in this order: before the cluster is harmed it has
// all that it can have.
var Steps = []Step{
	{StepPeerStarts, PeerStarts, true},
	{StepOwnerDies, DirectorGoes, true},
	{StepNextDies, ClusterGoes, true},
	{StepBothReturn, ClusterStarts, true},
	{StepPeerDies, PeerGoes, false},
	{StepPeerReturns, PeerStarts, false},
	{StepOthersDie, ClusterGoes, false},
	{StepOthersReturn, ClusterStarts, false},
	{StepPeerStops, PeerGoes, false},
	{StepPeerStartsAgain, PeerStarts, false},
	{StepOwnerStops, DirectorGoes, false},
	{StepOwnerReturns, DirectorReturns, false},
	{StepAllStop, ClusterGoes, false},
	{StepAllStart, ClusterStarts, false},
	{StepPeerFreezes, PeerFreezes, false},
	{StepPeerThaws, PeerThaws, false},
	{StepPathCut, PathCut, true},
	{StepPathHeals, PathHeals, true},
}
