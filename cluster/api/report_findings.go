package api

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"lbcluster/fsm"
)

// Times after which a finding is made, or no longer.
const (
	quietAfter  = 10 * time.Second // an owner without a packet
	recentDrop  = 5 * time.Second  // a packet that came to the wrong director
	relearns    = 3 * time.Second  // for as long after a move such packets surprise nobody
	recentDrift = time.Hour
	voiceLost   = 30 * time.Second // a VRRP speaker that has gone silent

	littleLeft = 0.25 // of a lease's deadline, at a renewal; a quiet one leaves 0.7 or more
)

// findings lists what a person should look at.
func (v *view) findings(r StatusReport) []Finding {
	var fs []Finding
	fs = append(fs, v.quorumFindings(r)...)
	for _, router := range r.Routers {
		fs = append(fs, v.routerFindings(router)...)
	}
	for _, s := range r.Services {
		fs = append(fs, serviceFindings(s)...)
	}
	for _, m := range r.Members {
		if m.Status == nil {
			fs = append(fs, Finding{Severity: Warn, Text: m.Name + " does not answer: " + m.Error})
			continue
		}
		fs = append(fs, v.memberFindings(m)...)
	}
	if p := v.table.Pending; p != nil {
		fs = append(fs, Finding{Severity: Warn, Text: fmt.Sprintf("revision %d of set %s, applied by %s, is undone at about %s UTC unless it is confirmed",
			p.Revision, p.Set, p.By, p.Until().UTC().Format(time.TimeOnly)), Fix: "lbcluster confirm, or lbcluster rollback to undo it now"})
	}
	sortFindings(fs)
	return fs
}

func (v *view) quorumFindings(r StatusReport) []Finding {
	var fs []Finding
	s := r.Survival
	if s.Voters > 0 && s.Answering < s.Majority {
		fs = append(fs, Finding{Severity: Bad, Text: fmt.Sprintf(
			"only %d of %d voters answer, %d are needed: no VIP can be held and no change can be made", s.Answering, s.Voters, s.Majority),
			Fix: "bring any of the silent ones back; if all are powered off for good: lbcluster force-own --help"})
	} else if s.Leader == "" {
		fs = append(fs, Finding{Severity: Warn, Text: "no leader is known: VIPs stay served, but nothing can be changed and failed real servers stay in the tables"})
	}
	return fs
}

// routerFindings: nobody owns it, the packets go elsewhere, strangers speak.
func (v *view) routerFindings(r RouterReport) []Finding {
	var fs []Finding
	if why := v.standsBy(r.ID); r.Owner == "" && why != "" {
		fs = append(fs, Finding{Severity: Warn, Text: fmt.Sprintf("the cluster stands by for %s (%s): %s", r.Name, joinAddrs(r.Addresses), why)})
	} else if r.Owner == "" {
		fs = append(fs, Finding{Severity: Bad, Text: fmt.Sprintf("nobody that answers owns %s (%s)", r.Name, joinAddrs(r.Addresses))})
	}
	for _, a := range r.Addresses {
		fs = append(fs, v.packetFindings(r, a.Addr())...)
	}
	return append(fs, v.peerFindings(r)...)
}

// packetFindings compares where a VIP's packets should come with where they do.
func (v *view) packetFindings(r RouterReport, addr netip.Addr) []Finding {
	var fs []Finding
	for _, m := range v.table.Members {
		g, ok := v.gate(m.ID, addr)
		if !ok {
			continue
		}
		if m.ID != r.Owner && !g.Open && v.straysTo(r, g) {
			fs = append(fs, Finding{Severity: Bad, Member: m.Name, Text: fmt.Sprintf(
				"packets for %s still come to %s, which does not own it (%d dropped, the last %s ago, from MAC %s)",
				addr, m.Name, g.InDropped, ms(g.LastDropAgeMS), orUnknown(g.LastMAC)),
				Fix: "look at the ARP entry for it on the gateway or switch with that MAC"})
		}
		if m.ID == r.Owner && v.hasService(addr) && v.quiet(r, g) {
			fs = append(fs, Finding{Severity: Note, Member: m.Name, Text: fmt.Sprintf(
				"%s is owned by %s, but no packet for it arrives there (none for %s)", addr, m.Name, quietFor(r, g, v.at))})
		}
	}
	return fs
}

// straysTo reports that packets came to the wrong director lately, and not only
// while the neighbours learnt of a move.
func (v *view) straysTo(r RouterReport, g GateAddress) bool {
	age := time.Duration(g.LastDropAgeMS) * time.Millisecond
	if g.InDropped == 0 || age < 0 || age >= recentDrop {
		return false
	}
	return r.HeldSince.IsZero() || v.at.Add(-age).Sub(r.HeldSince) > relearns
}

// quiet reports that the owner has had the VIP for a while without a packet.
func (v *view) quiet(r RouterReport, g GateAddress) bool {
	if r.HeldSince.IsZero() || v.at.Sub(r.HeldSince) < quietAfter {
		return false
	}
	return g.LastPassedAgeMS < 0 || g.LastPassedAgeMS > quietAfter.Milliseconds()
}

func quietFor(r RouterReport, g GateAddress, at time.Time) string {
	held := at.Sub(r.HeldSince)
	if age := time.Duration(g.LastPassedAgeMS) * time.Millisecond; g.LastPassedAgeMS >= 0 && age < held {
		return age.Round(time.Second).String()
	}
	return held.Round(time.Second).String() + ", since it took over"
}

// gate finds a member's counters of a VIP.
func (v *view) gate(id fsm.MemberID, addr netip.Addr) (GateAddress, bool) {
	s := v.statuses[id]
	if s == nil {
		return GateAddress{}, false
	}
	for _, g := range s.Gate.Addresses {
		if g.Addr == addr {
			return g, true
		}
	}
	return GateAddress{}, false
}

func (v *view) hasService(addr netip.Addr) bool {
	for _, s := range v.table.Services {
		if slices.Contains(s.Addrs(), addr) {
			return true
		}
	}
	return false
}

// serviceFindings: no server for it, no packets for it.
func serviceFindings(s ServiceReport) []Finding {
	var fs []Finding
	if s.Key.Mark != 0 && len(s.Matches) == 0 {
		fs = append(fs, Finding{Severity: Note, Text: fmt.Sprintf("lbcluster sets no rule for firewall mark %d: %s has the packets that others mark", s.Key.Mark, s.Key),
			Fix: "mark them with nft on every director, or say in YAML which packets it matches"})
	}
	alive := 0
	for _, rs := range s.Servers {
		if rs.InKernel && rs.Effective > 0 {
			alive++
		}
	}
	if len(s.Servers) > 0 && alive == 0 {
		fs = append(fs, Finding{Severity: Bad, Text: fmt.Sprintf("%s has no real server that takes connections", s.Key)})
	}
	return fs
}

// memberFindings: disk, log, kernel, gate, drift and foreign things of one member.
func (v *view) memberFindings(m MemberReport) []Finding {
	var fs []Finding
	s := m.Status
	add := func(severity, fix, format string, args ...any) {
		fs = append(fs, Finding{Severity: severity, Member: m.Name, Text: m.Name + ": " + fmt.Sprintf(format, args...), Fix: fix})
	}
	if s.Raft.Halted != "" {
		add(Bad, "install the version of lbcluster that the others run", "has stopped applying the log: %s", s.Raft.Halted)
	}
	if s.Raft.Stalled != "" {
		add(Warn, "make room on its disk, or replace it", "its disk takes no Raft log (%s). It neither leads nor stores changes; its VIPs, its leases and its checks need no disk and go on", s.Raft.Stalled)
	} else if s.Raft.DiskErrors > 0 {
		add(Warn, "", "%d disk errors, the last: %s", s.Raft.DiskErrors, orUnknown(s.Raft.DiskError))
	}
	if want := (Timing{v.table.Settings.Profile, v.table.Settings.Guard}); s.Running.Profile != "" && s.Running != want {
		add(Warn, "systemctl reload lbcluster, on "+m.Name, "it still runs profile %s with guard %v; the settings say %s with %v",
			s.Running.Profile, s.Running.Guard, want.Profile, want.Guard)
	}
	if m.Role == fsm.Director {
		v.directorFindings(s, add)
		v.viewFindings(m, add)
	}
	fs = append(fs, v.marginFindings(m)...)
	if s.Kernel.Repairs > 0 && v.at.Sub(s.Kernel.RepairedAt) < recentDrift {
		add(Note, "", "somebody else changed its IPVS table; repaired %d times, the last at %s: %s",
			s.Kernel.Repairs, s.Kernel.RepairedAt.Format(time.TimeOnly), s.Kernel.LastRepair)
	}
	for _, f := range s.Kernel.Foreign {
		add(foreignSeverity(f), f.Fix, "%s %s was not made by lbcluster and is left alone", f.Kind, f.What)
	}
	return fs
}

// marginFindings: a lease that once came close to its end is lost with the next
// stall that is a little longer.
func (v *view) marginFindings(m MemberReport) []Finding {
	var fs []Finding
	for _, l := range m.Status.Leases {
		if l.State != LeaseHolder || l.Renewals == 0 || l.LeastLeft >= littleLeft {
			continue
		}
		u, ok := v.table.Unit(l.Router)
		if !ok {
			continue
		}
		fs = append(fs, Finding{Severity: Note, Member: m.Name, Text: fmt.Sprintf(
			"%s: the lease of %s was once renewed with only %.0f %% of its time left (%.0f %% in the mean): the machine, the network or the voters were slow",
			m.Name, u.Name, 100*l.LeastLeft, 100*l.MeanLeft)})
	}
	return fs
}

// directorFindings are those of members that forward. What a member that lags
// says of a router that is gone from the table is left out.
func (v *view) directorFindings(s *DirectorStatus, add func(severity, fix, format string, args ...any)) {
	if s.Gate.Error != "" {
		add(Bad, "", "the kernel's gate does not work, so it cannot hold a VIP: %s", s.Gate.Error)
	} else if s.Gate.Mode == GateNone {
		add(Bad, "", "the kernel's gate is not attached, so it cannot hold a VIP")
	}
	if s.Kernel.Error != "" {
		add(Bad, "", "the IPVS table could not be applied: %s", s.Kernel.Error)
	}
	for _, a := range s.Addresses {
		if _, ok := v.table.Router(a.Router); !ok {
			continue
		}
		if a.Error != "" {
			add(Bad, "", "%s: %s", a.Prefix, a.Error)
		}
		for _, c := range a.Claims {
			who, fix := v.claimant(c, a.Prefix.Addr())
			add(Bad, fix, "%s: %s answers for it too: what neighbours send there goes past every director", a.Prefix.Addr(), who)
		}
		if a.Restored > 0 {
			add(Note, "", "%s was removed from it by somebody else and put back %d times", a.Prefix, a.Restored)
		}
	}
	for _, p := range s.VRRP {
		if _, ok := v.table.Router(p.Router); !ok {
			continue
		}
		for _, why := range slices.Sorted(maps.Keys(p.Rejected)) {
			if n := p.Rejected[why]; n > 0 {
				add(Note, "", "%d VRRP adverts were rejected: %s%s", n, why, lastRejected(p, why))
			}
		}
	}
}

// viewFindings: it sees much less than the others, so it is cut off from the servers.
func (v *view) viewFindings(m MemberReport, add func(severity, fix, format string, args ...any)) {
	told := map[string]bool{}
	for _, u := range v.table.Units() {
		if is := v.blind[u.ID][m.ID]; is.Why != "" && !told[is.Why] {
			told[is.Why] = true
			add(Warn, "look at the way from "+m.Name+" to these servers; their checks find them well from elsewhere",
				"its view of the real servers behind %s is worse than what is agreed: %s. If that lasts %v, a director with a better view gets the VIP", u.Name, is.Why, is.Wait)
		}
	}
}

// foreignSeverity: a VIP that lbcluster did not put there may answer ARP
// besides the owner if the gate ever goes.
func foreignSeverity(f Foreign) string {
	if f.Kind == "address" {
		return Warn
	}
	return Note
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func joinAddrs(ps []netip.Prefix) string {
	text := ""
	for i, p := range ps {
		if i > 0 {
			text += ", "
		}
		text += p.Addr().String()
	}
	return text
}
