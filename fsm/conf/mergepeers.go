package conf

import (
	"slices"

	"lbcluster/fsm"
)

// together are, by router, the unicast peers of those whose nodes list each
// other: all of them, for the cluster speaks from any of its addresses.
func (m *merger) together(s Source) map[string][]fsm.Peer {
	all := map[string][]fsm.Peer{}
	for _, theirs := range s.Result.Config.Routers {
		i := slices.IndexFunc(m.out.Config.Routers, func(r fsm.Router) bool { return r.Name == theirs.Name })
		if i < 0 {
			continue
		}
		if peers, ok := allPeers(m.out.Config.Routers[i].Peering, theirs.Peering); ok {
			all[theirs.Name] = peers
		}
	}
	return all
}

// eachOther reports whether the unicast peers of a router differ only because
// the added file lists its node's partners, and theirs list it.
func (m *merger) eachOther(path string, s Source) bool {
	for name := range m.together(s) {
		if routerPath(name, 0) == path {
			return true
		}
	}
	return false
}

// allPeers joins the unicast peers of two nodes if each lists the other, and both
// list the same apart from that. Where a node speaks from has to be said
// (unicast_src_ip), or nobody knows which of the peers it is.
func allPeers(a, b fsm.Peering) ([]fsm.Peer, bool) {
	if !a.Unicast || !b.Unicast || !a.Source.IsValid() || !b.Source.IsValid() || a.Source == b.Source {
		return nil, false
	}
	if !lists(a.Peers, b.Source) || !lists(b.Peers, a.Source) {
		return nil, false
	}
	for _, o := range a.Peers {
		if o.Addr != b.Source && o.Addr != a.Source && !slices.Contains(b.Peers, o) {
			return nil, false
		}
	}
	joined := slices.Clone(a.Peers)
	for _, o := range b.Peers {
		switch {
		case slices.Contains(a.Peers, o):
		case o.Addr == a.Source && !lists(a.Peers, o.Addr):
			joined = append(joined, o)
		case o.Addr != b.Source && o.Addr != a.Source:
			return nil, false
		}
	}
	return joined, true
}
