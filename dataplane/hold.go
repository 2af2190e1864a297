package dataplane

import (
	"fmt"
	"net/netip"
	"slices"

	"lbcluster/dataplane/fwmark"
	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// A service that somebody else removes, as a keepalived does that is stopped after
// its services were taken over, is back within glanceEvery. What comes meanwhile
// reaches this host itself, where nobody listens, or a service whose real servers
// have gone already, or are not back yet; both ways its clients are refused. So
// nobody is refused on behalf of services that others have had their hands on: a
// client that gets no answer asks again after a second. IPVS takes its packets
// before the rules see them, so that they matter in that moment alone. Where there
// is no real server to forward to by the table, clients may know.

// share notes which of the services wanted others have had their hands on, given
// what the kernel has and what we had made or taken over before this pass.
func (p *Plane) share(want, have []ipvs.Service, were Ownership) {
	has, stood := byKey(have), byKey(p.stood)
	p.record.update(func(r *recorded) {
		var shared []string
		for _, w := range want {
			_, there := has[w.Key]
			_, before := stood[w.Key]
			key := w.Key.String()
			if w.Key.Mark != 0 {
				continue // of those, no rule would say whose packets they are
			}
			if there && !were[w.Key] || before && !there || slices.Contains(r.Shared, key) {
				shared = append(shared, key)
			}
		}
		r.Shared = shared
	})
}

// Holds are the rules that hold back what is for the shared services among want
// that are on a VIP of a router. What this host serves itself goes past IPVS
// rightly.
func Holds(t *fsm.Table, want []ipvs.Service, shared []string, ls []local) []fwmark.Rule {
	var out []fwmark.Rule
	vips := t.VIPs()
	for _, s := range want {
		k := s.Key
		serves := slices.ContainsFunc(ls, func(l local) bool { return l.vip == k.Addr })
		forwards := slices.ContainsFunc(s.Dests, func(d ipvs.Dest) bool { return d.Weight > 0 })
		if k.Mark != 0 || serves || !forwards || !slices.Contains(vips, k.Addr) || !slices.Contains(shared, k.String()) {
			continue
		}
		out = append(out, fwmark.Rule{To: netip.PrefixFrom(k.Addr, k.Addr.BitLen()), Protocol: uint8(k.Protocol), FromPort: k.Port, ToPort: k.Port})
	}
	return out
}

// StayMark is the firewall mark, that no packet has, of a service that makes IPVS
// stay: with a network namespace's last service of a family the kernel (5.10 and
// later) takes IPVS out of the packets' way, and the segments of all its
// connections reach this host itself, which resets them.
const StayMark = 0x6c62_0002

// stays are the hidden services, one for each family of the rules, that are left
// when somebody removes all others.
func stays(held []fwmark.Rule) []ipvs.Service {
	var out []ipvs.Service
	for _, v6 := range []bool{false, true} {
		if slices.ContainsFunc(held, func(r fwmark.Rule) bool { return r.To.Addr().Is6() == v6 }) {
			out = append(out, ipvs.Service{Key: ipvs.Key{Mark: StayMark, V6: v6}, Scheduler: "rr"}.Canonical())
		}
	}
	return out
}

// hold sees to the shared services among want, and returns the hidden ones that
// this takes.
func (p *Plane) hold(t *fsm.Table, want []ipvs.Service, ls []local) []ipvs.Service {
	if p.cfg.Holds == nil {
		return nil
	}
	held := Holds(t, want, p.record.get().Shared, ls)
	p.setHolds(held)
	return stays(held)
}

// setHolds makes want the rules. Without them a client may be refused for a
// moment: that they cannot be made is told, and holds up nothing.
func (p *Plane) setHolds(want []fwmark.Rule) {
	if len(want) == 0 && !p.record.get().Holds {
		return
	}
	p.record.update(func(r *recorded) { r.Holds = true })
	changed, err := p.cfg.Holds.Set(want)
	if err != nil {
		p.failed("hold packets back", err)
		return
	}
	if len(want) == 0 {
		p.record.update(func(r *recorded) { r.Holds = false })
	}
	if changed {
		p.log.Info("dataplane: nftables", "table", "inet "+fwmark.HoldTable, "services", len(want))
	}
}

// clearHolds removes the rules.
func clearHolds(was recorded, holds Marker) error {
	if !was.Holds {
		return nil
	}
	if _, err := holds.Set(nil); err != nil {
		return fmt.Errorf("hold no packets back: %w", err)
	}
	return nil
}
