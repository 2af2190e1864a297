package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// renderStatus is the whole of lbcluster status, for a person.
func renderStatus(r api.StatusReport) string {
	if !r.Enrolled {
		return fmt.Sprintf(`%s runs lbcluster %s and is not enrolled in a cluster.

Found one here:               lbcluster init
Or join one that runs:        lbcluster join ADDR --token T
   (lbcluster token, on a member, makes T)
`, or(r.Name, "This machine"), r.Version)
	}
	var b strings.Builder
	b.WriteString(renderForced(r))
	b.WriteString(renderSurvival(r))
	b.WriteString(renderFindings(r))
	for _, router := range r.Routers {
		b.WriteString("\n" + renderRouter(router, r))
	}
	for _, s := range r.Services {
		b.WriteString("\n" + renderService(s, r))
	}
	if len(r.Routers)+len(r.Services) == 0 {
		b.WriteString("\nNothing is configured yet: lbcluster apply -f /etc/keepalived/keepalived.conf\n")
	}
	b.WriteString(renderSync(r))
	b.WriteString("\n" + renderMemberStates(r))
	return b.String()
}

// renderForced stands before all else: what is owned without a majority.
func renderForced(r api.StatusReport) string {
	var b strings.Builder
	for _, m := range r.Members {
		if m.Status == nil {
			continue
		}
		for _, l := range m.Status.Leases {
			if l.Forced == "" {
				continue
			}
			name, does := fmt.Sprint("router ", l.Router), "stands for"
			for _, v := range r.Routers {
				if v.ID == l.Router {
					name = v.Name
				}
			}
			if l.State == api.LeaseHolder {
				does = "OWNS"
			}
			fmt.Fprintf(&b, "BY FORCE: %s %s %s %s. If one of them runs, two machines may answer.\n", m.Name, does, name, named(r, l.Forced))
		}
	}
	return b.String()
}

// named puts members' names in a text in place of their identifiers.
func named(r api.StatusReport, text string) string {
	names := map[string]string{}
	for _, m := range r.Members {
		names[string(m.ID)] = m.Name
	}
	return memberWord.ReplaceAllStringFunc(text, func(id string) string { return or(names[id], id) })
}

// memberWord is what may be a member's identifier.
var memberWord = regexp.MustCompile(`\bm[0-9]+\b`)

// renderSurvival is the first thing to know.
func renderSurvival(r api.StatusReport) string {
	s := r.Survival
	if s.Voters == 0 {
		return "How many failures the cluster survives is not known yet: " + s.Advice + ".\n"
	}
	facts := fmt.Sprintf("voters: %d, answering: %d, needed: %d; directors answering: %d", s.Voters, s.Answering, s.Majority, s.Directors)
	var line string
	switch {
	case s.Failures < 0:
		line = "The cluster has NO MAJORITY. (" + facts + ")"
	case s.Failures == 0:
		line = "The cluster survives 0 more failures: the next one leaves the VIPs dark. (" + facts + ")"
	default:
		line = fmt.Sprintf("The cluster survives %s. (%s)", count(s.Failures, "more failure"), facts)
	}
	if s.Advice != "" {
		line += "\nTo survive more: " + s.Advice + "."
	}
	return line + fmt.Sprintf("\nTable revision %d, profile %s, leader %s.\n", r.Revision, r.Profile, leader(r))
}

func leader(r api.StatusReport) string {
	for _, m := range r.Members {
		if m.ID == r.Survival.Leader {
			return m.Name
		}
	}
	return "not known"
}

// renderFindings lists what to look at, worst first.
func renderFindings(r api.StatusReport) string {
	var b strings.Builder
	marks := map[string]string{api.Bad: "!!", api.Warn: "! ", api.Note: "- "}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %s %s\n", marks[f.Severity], f.Text)
		if f.Fix != "" {
			fmt.Fprintf(&b, "     fix: %s\n", f.Fix)
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "  !  %s: %s\n", w.Member, w.Text)
	}
	if b.Len() == 0 {
		return "Nothing needs attention.\n"
	}
	return "To look at:\n" + b.String()
}

// renderRouter says who owns it and why the others do not.
func renderRouter(r api.RouterReport, all api.StatusReport) string {
	t := newTable(ownerLine(r, all.At)...)
	if r.HomeName != "" {
		t.row("home", homeText(r))
	}
	for _, s := range r.StandBy {
		t.row(s.Name, s.Why)
	}
	t.row("VRRP", vrrpLine(r))
	return fmt.Sprintf("Virtual router %s (VRID %d): %s\n", r.Name, r.VRID, joinPrefixes(r.Addresses)) + t.indented("  ")
}

// homeText says where it belongs, and why it is elsewhere or soon will be.
func homeText(r api.RouterReport) string {
	text := r.HomeName
	if r.Pinned {
		text += ", pinned"
	}
	switch {
	case r.Away == "":
		return text
	case r.Owner == r.Home:
		return text + "; " + r.Away
	}
	return text + ", but not there: " + r.Away
}

func ownerLine(r api.RouterReport, at time.Time) []any {
	if r.Owner == "" {
		return []any{"nobody", "owns it, as far as members answer"}
	}
	where := ""
	if r.Interface != "" {
		where = " on " + r.Interface
	}
	held := ""
	if !r.HeldSince.IsZero() {
		held = fmt.Sprintf(" for %s (since %s)", ago(at.Sub(r.HeldSince)), r.HeldSince.Local().Format("2006-01-02 15:04:05"))
	}
	return []any{r.OwnerName, fmt.Sprintf("OWNS IT%s%s; its lease has %s left and is being renewed", where, held, msText(r.RemainingMS))}
}

func vrrpLine(r api.RouterReport) string {
	line := "nobody sends adverts"
	if r.VRRP != "" {
		line = fmt.Sprintf("%s is %s, %s sent", r.OwnerName, r.VRRP, count(int(r.AdvertsSent), "advert"))
	}
	for _, s := range r.Speakers {
		who := s.Member
		switch {
		case who != "":
		case s.Listed:
			who = "a listed peer"
		default:
			who = "NO MEMBER"
		}
		line += fmt.Sprintf("; heard %s (%s), version %d, priority %d, %s ago, by %s",
			s.Addr, who, s.Version, s.Priority, msText(s.AgeMS), strings.Join(s.HeardBy, " "))
		if s.Reason != "" {
			line += ", refused: " + s.Reason
		}
	}
	return line
}

func health(s api.ServerReport) string {
	switch {
	case s.Health.Down:
		return "DOWN"
	case s.Target == "":
		return "unchecked"
	}
	return "up"
}

func admin(a fsm.AdminState) string {
	switch a {
	case fsm.Drained:
		return "drained"
	case fsm.Disabled:
		return "disabled"
	}
	return "enabled"
}

func weight(s api.ServerReport) string {
	switch {
	case !s.InKernel:
		return "removed"
	case s.Effective != s.Weight:
		return fmt.Sprintf("%d (file: %d)", s.Effective, s.Weight)
	}
	return fmt.Sprint(s.Effective)
}

// disagree reports whether the votes that count differ.
func disagree(votes []api.VoteReport) bool {
	return api.ServerReport{Votes: votes}.Disagree()
}

func votesText(votes []api.VoteReport) string {
	var parts []string
	for _, v := range votes {
		word := "up"
		if !v.Up {
			word = "down"
			if v.Detail != "" {
				word += " (" + v.Detail + ")"
			}
		}
		if !v.Counted {
			word += ", silent, not counted"
		}
		parts = append(parts, v.Name+" "+word)
	}
	return strings.Join(parts, "; ")
}

// renderSync says who knows the connections of the others; empty: nobody is to.
func renderSync(r api.StatusReport) string {
	var over, parts []string
	for _, m := range r.Members {
		if m.Status == nil || m.Status.Kernel.Sync == nil {
			continue
		}
		s := m.Status.Kernel.Sync
		if where := fmt.Sprintf("%s, id %d", s.Interface, s.ID); s.Problem == "" && !slices.Contains(over, where) {
			over = append(over, where)
		}
		switch {
		case s.Problem != "":
			parts = append(parts, m.Name+" DOES NOT take part")
		case s.LeftMS > 0:
			parts = append(parts, fmt.Sprintf("%s will know them all in %s", m.Name, ago(time.Duration(s.LeftMS)*time.Millisecond)))
		default:
			parts = append(parts, m.Name+" knows them all")
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("\nConnections are synchronised (%s): %s\n", or(strings.Join(over, "; "), "nowhere"), strings.Join(parts, ", "))
}

// renderMemberStates is one line a member.
func renderMemberStates(r api.StatusReport) string {
	t := newTable("MEMBER", "ID", "ROLE", "STATE", "RAFT", "TABLE", "IPVS", "GATE", "UP FOR")
	for _, m := range r.Members {
		state := string(m.State)
		if m.Silent {
			state += ", silent"
		}
		if m.Status == nil {
			t.row(m.Name, m.ID, m.Role, state, "no answer")
			continue
		}
		s := m.Status
		t.row(m.Name, m.ID, m.Role, state, raftText(m), s.TableRevision, kernelText(m), gateText(m), ago(r.At.Sub(s.Started)))
	}
	return t.String()
}

func raftText(m api.MemberReport) string {
	for _, id := range m.Status.Raft.Voters {
		if id == m.ID {
			return m.Status.Raft.State
		}
	}
	return m.Status.Raft.State + ", no vote yet"
}

func kernelText(m api.MemberReport) string {
	k := m.Status.Kernel
	switch {
	case m.Role != fsm.Director:
		return "-"
	case !k.Applied:
		return "not applied"
	case k.Error != "":
		return fmt.Sprintf("%d, failing", k.Revision)
	}
	return fmt.Sprint(uint64(k.Revision))
}

func gateText(m api.MemberReport) string {
	g := m.Status.Gate
	switch {
	case m.Role != fsm.Director:
		return "-"
	case g.Mode == api.GateNone:
		return "NONE"
	}
	return g.Mode + " on " + strings.Join(g.Interfaces, " ")
}

// ago rounds to what a person reads.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		d = 0
	case d < time.Minute:
	case d < time.Hour:
		return shortDuration(d.Round(time.Second))
	case d < 48*time.Hour:
		return shortDuration(d.Round(time.Minute))
	default:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	}
	return d.Round(time.Second).String()
}

func msText(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < 10*time.Second {
		return fmt.Sprintf("%d ms", ms)
	}
	return ago(d)
}

func joinPrefixes(ps []netip.Prefix) string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
		if p.IsSingleIP() {
			texts[i] = p.Addr().String()
		}
	}
	return strings.Join(texts, ", ")
}
