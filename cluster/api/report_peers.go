package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// standsBy is the VRRP peer that a member heard and the cluster yields to; "":
// there is none.
func (v *view) standsBy(router uint64) string {
	for _, m := range v.table.Members {
		s := v.statuses[m.ID]
		if s == nil {
			continue
		}
		for _, p := range s.VRRP {
			if p.Router == router && p.Barred != "" {
				return p.Barred
			}
		}
	}
	return ""
}

// voiceMuted is how long a peer that ignores the cluster is told of after it was
// last heard: its silence hardly means that it has stopped (it would have said so
// by priority 0); that its settings are right by now it may.
const voiceMuted = time.Hour

// peerFindings says of those who advert a router's VRID whether they and the
// cluster understand each other, and which listed peers were not heard.
func (v *view) peerFindings(r RouterReport) []Finding {
	var fs []Finding
	var heard []netip.Addr
	router, _ := v.table.Router(r.ID)
	for _, sp := range r.Speakers {
		age := time.Duration(sp.AgeMS) * time.Millisecond
		muted := age >= voiceLost && age < voiceMuted && sp.Listed && sp.Reason != ""
		if sp.Member != "" || age >= voiceLost && !muted {
			continue
		}
		heard = append(heard, sp.Addr)
		switch {
		case sp.Listed && sp.Priority == 0: // it has stopped; a stranger that says so may want us to answer
		case muted:
			fs = append(fs, Finding{Severity: Warn, Text: fmt.Sprintf(
				"VRRP peer %s and %s ignore each other, so that both may be MASTER: %s; it was last heard %v ago, but a keepalived falls silent"+
					" while it hears adverts that it refuses more often than it sends its own", sp.Addr, r.Name, sp.Reason, age.Round(time.Second))})
		case !sp.Listed:
			fs = append(fs, Finding{Severity: Warn, Text: fmt.Sprintf(
				"%s, which is no member, sends VRRP adverts for VRID %d (version %d, priority %d); they are ignored", sp.Addr, r.VRID, sp.Version, sp.Priority) + whyIgnored(sp.Speaker)})
		case sp.Reason != "":
			fs = append(fs, Finding{Severity: Bad, Text: fmt.Sprintf(
				"VRRP peer %s and %s ignore each other, so that both may be MASTER: %s", sp.Addr, r.Name, sp.Reason)})
		default:
			fs = append(fs, peerDiffers(sp.Speaker, router)...)
		}
	}
	for _, p := range router.Peering.Peers {
		owner := slices.ContainsFunc(r.Speakers, func(s SpeakerReport) bool { return s.Addr == p.Addr })
		if !owner && r.Owner == "" && !slices.Contains(heard, p.Addr) && !v.isMember(p.Addr) {
			fs = append(fs, Finding{Severity: Note, Text: fmt.Sprintf("VRRP peer %s of %s has not been heard", p.Addr, r.Name)})
		}
	}
	return fs
}

// peerDiffers says what of a peer that is obeyed may surprise.
func peerDiffers(sp Speaker, r fsm.Router) []Finding {
	var fs []Finding
	for _, w := range sp.Warnings {
		text := fmt.Sprintf("VRRP peer %s of %s: %s", sp.Addr, r.Name, w)
		if strings.HasPrefix(w, "lists") {
			text += "; a keepalived before 2.3.3 ignores such adverts, and then both are MASTER"
		}
		fs = append(fs, Finding{Severity: Warn, Text: text})
	}
	if sp.Priority == r.Priority {
		fs = append(fs, Finding{Severity: Warn, Text: fmt.Sprintf(
			"VRRP peer %s and %s have the same priority, %d: the higher address decides between them, and that of the owner changes at a failover",
			sp.Addr, r.Name, r.Priority), Fix: "give one of them another priority"})
	}
	return fs
}

// isMember reports whether an address is a member's.
func (v *view) isMember(a netip.Addr) bool {
	for _, m := range v.table.Members {
		if m.Addr.Addr() == a {
			return true
		}
	}
	return false
}

// lastRejected adds to the key of a rejection what it means and who was the last.
func lastRejected(s VRRPStatus, key string) string {
	last, ok := s.LastRejected[key]
	if !ok { // a member of an older version
		return ""
	}
	age := (time.Duration(last.AgeMS) * time.Millisecond).Round(time.Second)
	return fmt.Sprintf(" (the last from %s, %v ago: %s)", last.From, age, last.Reason)
}

// whyIgnored adds what a stranger's adverts would be refused for in any case.
func whyIgnored(s Speaker) string {
	if s.Reason == "" {
		return ""
	}
	return ": " + s.Reason
}
