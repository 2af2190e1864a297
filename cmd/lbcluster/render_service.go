package main

import (
	"fmt"
	"strings"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

// renderService is one virtual server with its real servers.
func renderService(s api.ServiceReport, all api.StatusReport) string {
	t := newTable("REAL SERVER", "HEALTH", "ADMIN", "WEIGHT", "WHY")
	for _, rs := range s.Servers {
		t.row(serverName(s, rs), health(rs), admin(rs.Admin), weight(rs), rs.Why)
		if disagree(rs.Votes) {
			t.row("", "", "", "", "votes: "+votesText(rs.Votes))
		}
	}
	facts := []string{"Virtual server " + s.Key.String(), s.Scheduler, methodName(s.Method)}
	facts = append(append(facts, options(s)...), placeOf(s))
	return strings.Join(facts, ", ") + "\n" + markLine(s) + poolLine(s) + t.indented("  ")
}

// poolLine says that too few real servers are up.
func poolLine(s api.ServiceReport) string {
	if s.Pool == "" {
		return ""
	}
	return "  " + s.Pool + "\n"
}

// serverName says how packets reach a server if it is not as with the others.
func serverName(s api.ServiceReport, rs api.ServerReport) string {
	if rs.Method == s.Method || rs.Method == "" {
		return rs.Server.String()
	}
	return fmt.Sprintf("%s (%s)", rs.Server, methodName(rs.Method))
}

// options are a service's less usual settings.
func options(s api.ServiceReport) []string {
	var out []string
	if s.Persistence > 0 {
		text := "persistent for " + shortDuration(s.Persistence.D())
		if s.PersistenceMask != 0 && int(s.PersistenceMask) != s.Key.BitLen() {
			text += fmt.Sprintf(" by /%d", s.PersistenceMask)
		}
		out = append(out, text+engine(s))
	}
	for _, o := range []struct {
		on   bool
		text string
	}{{s.OnePacket, "each packet by itself"}, {s.HashPort, "hashes ports too"}, {s.HashFallback, "falls back"}, {s.Group != "", "group " + s.Group}} {
		if o.on {
			out = append(out, o.text)
		}
	}
	return out
}

func engine(s api.ServiceReport) string {
	if s.PersistenceEngine == "" {
		return ""
	}
	return " by " + strings.ToUpper(s.PersistenceEngine)
}

// placeOf says which lease guards a service, or that none does.
func placeOf(s api.ServiceReport) string {
	switch {
	case s.Router != "":
		return "on virtual router " + s.Router
	case s.Key.Mark != 0:
		return "for a mark: programmed everywhere, fenced nowhere"
	}
	return "its address is in no virtual router: programmed everywhere, fenced nowhere"
}

// markLine says which packets a firewall mark service has.
func markLine(s api.ServiceReport) string {
	if s.Key.Mark == 0 {
		return ""
	}
	if len(s.Matches) == 0 {
		return fmt.Sprintf("  packets with firewall mark %d, which is set by no rule of lbcluster\n", s.Key.Mark)
	}
	texts := make([]string, len(s.Matches))
	for i, m := range s.Matches {
		texts[i] = m.String()
	}
	return "  packets that every director marks: " + strings.Join(texts, ", ") + "\n"
}

// renderOpen lists the services that no lease guards, below a list of servers.
func renderOpen(services []api.ServiceReport) string {
	var b strings.Builder
	for _, s := range services {
		if s.Router == "" {
			fmt.Fprintf(&b, "%s: %s\n", s.Key, placeOf(s))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + b.String()
}

// renderPools lists the virtual servers with too few real servers, below a list of
// servers.
func renderPools(services []api.ServiceReport) string {
	var b strings.Builder
	for _, s := range services {
		if s.Pool != "" {
			fmt.Fprintf(&b, "%s: %s\n", s.Key, s.Pool)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + b.String()
}

func methodName(m fsm.Method) string {
	switch m {
	case fsm.DirectRouting:
		return "direct routing"
	case fsm.Tunnel:
		return "tunnels"
	case fsm.Masquerade:
		return "NAT"
	}
	return string(m)
}
