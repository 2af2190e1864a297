package api

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lbcluster/fsm"
)

// router reports who owns one virtual router, and why not the others.
func (v *view) router(r fsm.Router) RouterReport {
	out := RouterReport{
		ID: r.ID, Name: r.Name, VRID: r.VRID, Set: r.Set, Addresses: []netip.Prefix{},
		StandBy: []StandBy{}, Speakers: v.speakers(r.ID),
	}
	for _, a := range r.Addresses {
		out.Addresses = append(out.Addresses, a.Prefix)
	}
	u, _ := v.table.UnitOf(r.ID)
	if owner, lease, ok := v.owner(u.ID); ok {
		out.Owner, out.OwnerName = owner, v.name(owner)
		out.RemainingMS, out.HeldSince = lease.RemainingMS, lease.HeldSince
		v.fillOwner(&out)
	}
	for _, d := range v.directors() {
		if d.ID != out.Owner {
			out.StandBy = append(out.StandBy, StandBy{Member: d.ID, Name: d.Name, Why: v.whyNot(d, u.ID)})
		}
	}
	v.place(&out, u)
	return out
}

// owner is the member whose own lease on a unit is valid. The members were not asked at
// the same instant, so that around a handover two may say yes: the younger
// tenure is the one that goes on.
func (v *view) owner(unit uint64) (fsm.MemberID, LeaseStatus, bool) {
	var id fsm.MemberID
	var best LeaseStatus
	for _, d := range v.directors() {
		s := v.statuses[d.ID]
		if s == nil {
			continue
		}
		l, ok := leaseOf(s, unit)
		if !ok || l.State != LeaseHolder || l.RemainingMS <= 0 {
			continue
		}
		if id == "" || l.HeldSince.After(best.HeldSince) {
			id, best = d.ID, l
		}
	}
	return id, best, id != ""
}

// fillOwner adds what the owner says about interface and adverts.
func (v *view) fillOwner(out *RouterReport) {
	s := v.statuses[out.Owner]
	for _, a := range s.Addresses {
		if a.Router == out.ID && out.Interface == "" {
			out.Interface = a.Interface
		}
	}
	for _, p := range s.VRRP {
		if p.Router == out.ID {
			out.VRRP, out.AdvertsSent = p.State, p.Sent
		}
	}
}

// whyNot says in words why a director does not own a unit.
func (v *view) whyNot(d fsm.Member, unit uint64) string {
	s := v.statuses[d.ID]
	if s == nil {
		return v.silence(d, unit)
	}
	l, ok := leaseOf(s, unit)
	switch {
	case d.State == fsm.Joining:
		return "not yet a full member, catching up"
	case d.State == fsm.Leaving:
		return "leaving the cluster"
	case d.Drained:
		return "drained: it takes nothing until lbcluster director fit " + d.Name
	case !ok:
		return "does not know this router yet (table revision " + fmt.Sprint(uint64(s.TableRevision)) + ")"
	case l.Unfit != "":
		return "not fit: " + plain(l.Unfit)
	case l.State == LeaseHolder:
		return "its lease is just ending"
	case l.State == LeaseCandidate && l.Denial != "":
		return "asks for the lease, refused: " + l.Denial
	case l.State == LeaseCandidate:
		return "asks for the lease"
	case l.EmbargoMS > 0:
		return "started a moment ago, waits " + ms(l.EmbargoMS)
	case l.Rank > 0:
		return fmt.Sprintf("standing by, rank %d", l.Rank)
	default:
		return "standing by"
	}
}

// plain is why a director is unfit without the lease's own word for that.
func plain(unfit string) string {
	for _, word := range []string{"not fit for it: ", "not fit: "} {
		unfit = strings.TrimPrefix(unfit, word)
	}
	return unfit
}

// silence says what is known of a director that does not answer.
func (v *view) silence(d fsm.Member, unit uint64) string {
	why := "does not answer (" + v.replies[d.ID].Error + ")"
	for _, m := range v.table.Members {
		s := v.statuses[m.ID]
		if s == nil {
			continue
		}
		if l, ok := leaseOf(s, unit); ok && l.Holder == d.ID && l.RemainingMS > 0 {
			return why + fmt.Sprintf("; %s has promised it the lease for another %s", m.Name, ms(l.RemainingMS))
		}
	}
	return why
}

// speakers merges what the members heard in one VRID.
func (v *view) speakers(router uint64) []SpeakerReport {
	ours := v.sources(router)
	byAddr := map[netip.Addr]*SpeakerReport{}
	for _, m := range v.table.Members {
		s := v.statuses[m.ID]
		if s == nil {
			continue
		}
		for _, p := range s.VRRP {
			if p.Router != router {
				continue
			}
			for _, h := range p.Heard {
				merge(byAddr, h, ours[h.Addr], m.Name)
			}
		}
	}
	out := []SpeakerReport{}
	for _, sp := range byAddr {
		out = append(out, *sp)
	}
	slices.SortFunc(out, func(a, b SpeakerReport) int { return a.Addr.Compare(b.Addr) })
	return out
}

// merge adds one sighting; of the speaker itself the newest is kept.
func merge(byAddr map[netip.Addr]*SpeakerReport, h Speaker, member, heardBy string) {
	sp := byAddr[h.Addr]
	if sp == nil {
		sp = &SpeakerReport{Speaker: h, Member: member}
		byAddr[h.Addr] = sp
	}
	if cmp.Less(h.AgeMS, sp.AgeMS) {
		sp.Speaker = h
	}
	sp.HeardBy = append(sp.HeardBy, heardBy)
}

// sources maps the addresses that members send adverts from to their names.
func (v *view) sources(router uint64) map[netip.Addr]string {
	names := map[netip.Addr]string{}
	for _, m := range v.table.Members {
		names[m.Addr.Addr()] = m.Name
		s := v.statuses[m.ID]
		if s == nil {
			continue
		}
		for _, p := range s.VRRP {
			if p.Router == router && p.Source.IsValid() {
				names[p.Source] = m.Name
			}
		}
	}
	return names
}
