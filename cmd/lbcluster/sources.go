package main

import (
	"net/netip"
	"slices"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// addressed finds the one director that has any of the addresses.
func addressed(t *fsm.Table, addrs []netip.Addr) (fsm.Member, bool) {
	var found []fsm.Member
	for _, m := range t.Members {
		if m.Role == fsm.Director && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return hasAddress(m, a) }) {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		return fsm.Member{}, false // nobody's, or of several: then the names say it, or the operator
	}
	return found[0], true
}

func hasAddress(m fsm.Member, a netip.Addr) bool {
	return m.Addr.Addr() == a || slices.ContainsFunc(m.Networks, func(n fsm.Network) bool { return n.Prefix.Addr() == a })
}

// speaking fills in where a node and the other directors send adverts from, as
// far as anybody knows.
func (a *app) speaking(n *conf.Node, report api.StatusReport, t *fsm.Table, self fsm.Member, cfg fsm.Config) {
	n.Sources, n.Others = map[string]netip.Addr{}, map[string][]netip.Addr{}
	for _, r := range cfg.Routers {
		p := r.Peering
		if !p.Unicast && !p.Source.IsValid() {
			continue
		}
		own := sourceOf(report, self, r)
		if n.Sources[r.Name] = own; !own.IsValid() {
			a.say("note: where %s sends the adverts of %s from is not known: keepalived will take its interface's address", self.Name, r.Name)
		}
		for _, m := range t.Members {
			if m.Role != fsm.Director || m.ID == self.ID || !p.Unicast {
				continue
			}
			if from := sourceOf(report, m, r); from.IsValid() {
				n.Others[r.Name] = append(n.Others[r.Name], from)
			} else {
				a.say("note: where %s sends the adverts of %s from is not known: see that the unicast_peer of %s lists it", m.Name, r.Name, self.Name)
			}
		}
	}
}

// strangerSpeaks: of a machine that is no member nobody knows the addresses, and
// what the configuration names is a director's.
func (a *app) strangerSpeaks(n *conf.Node, t *fsm.Table, cfg fsm.Config) {
	n.Sources, n.Others = map[string]netip.Addr{}, map[string][]netip.Addr{}
	for _, r := range cfg.Routers {
		for _, m := range t.Members {
			if from := sourceOf(api.StatusReport{}, m, r); from.IsValid() && m.Role == fsm.Director {
				n.Others[r.Name] = append(n.Others[r.Name], from)
			}
		}
		src := r.Peering.Source
		if m, ok := addressed(t, []netip.Addr{src}); src.IsValid() && ok {
			n.Sources[r.Name] = netip.Addr{}
			a.say("note: %s sends the adverts of %s from %s, which is %s's: left out for %s", m.Name, r.Name, src, m.Name, n.Name)
		}
	}
}

// sourceOf is where a director sends a router's adverts from: as it says itself,
// else what the configuration names if that is its address, else the address that
// it has in the network of that, or of a peer. Invalid: nobody knows.
func sourceOf(report api.StatusReport, m fsm.Member, r fsm.Router) netip.Addr {
	for _, o := range report.Members {
		if o.ID != m.ID || o.Status == nil {
			continue
		}
		for _, v := range o.Status.VRRP {
			if v.Router == r.ID && v.Source.IsValid() {
				return v.Source
			}
		}
	}
	named := r.Peering.Source
	if named.IsValid() && hasAddress(m, named) {
		return named
	}
	beside := []netip.Addr{named}
	for _, o := range r.Peering.Peers {
		beside = append(beside, o.Addr)
	}
	for _, n := range m.Networks {
		if slices.ContainsFunc(beside, n.Prefix.Masked().Contains) {
			return n.Prefix.Addr()
		}
	}
	return netip.Addr{}
}
