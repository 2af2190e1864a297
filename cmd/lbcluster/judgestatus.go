package main

import (
	"fmt"
	"slices"
	"strings"

	"lbcluster/cluster/api"
)

// judgeStatus is a report in one line, and how bad it is. Behind the bar stand
// figures as monitoring plugins tell them.
func judgeStatus(r api.StatusReport, err error) (verdict, string) {
	switch {
	case err != nil:
		return verdictUnknown, oneLine(err.Error())
	case !r.Enrolled:
		return verdictUnknown, "this machine is in no cluster"
	}
	v := verdictOK
	var bad, warn []string
	if r.Survival.Failures < 0 {
		bad = append(bad, "no majority: no VIP can be held")
	} else if r.Survival.Failures == 0 {
		warn = append(warn, "no failure of a member is survived any more")
	}
	for _, f := range r.Findings {
		switch f.Severity {
		case api.Bad:
			bad = append(bad, f.Text)
		case api.Warn:
			warn = append(warn, f.Text)
		}
	}
	for _, w := range r.Warnings {
		warn = append(warn, w.Member+": "+w.Text)
	}
	if len(warn) > 0 {
		v = verdictWarning
	}
	if len(bad) > 0 {
		v = verdictCritical
	}
	text := "survives " + failures(r.Survival.Failures)
	if all := append(bad, warn...); len(all) > 0 {
		text = all[0]
		if len(all) > 1 {
			text += fmt.Sprintf(" (and %d more: lbcluster status)", len(all)-1)
		}
	}
	return v, oneLine(text) + " | " + figures(r)
}

func failures(n int) string {
	if n == 1 {
		return "1 more failure"
	}
	return fmt.Sprintf("%d more failures", n)
}

// figures are for graphs.
func figures(r api.StatusReport) string {
	dark, servers, down := 0, 0, 0
	for _, x := range r.Routers {
		if x.Owner == "" {
			dark++
		}
	}
	for _, s := range r.Services {
		servers += len(s.Servers)
		for _, v := range s.Servers {
			if v.Health.Down {
				down++
			}
		}
	}
	answering := len(slices.DeleteFunc(slices.Clone(r.Members), func(m api.MemberReport) bool { return m.Status == nil }))
	return fmt.Sprintf("failures_left=%d members=%d answering=%d routers=%d dark=%d servers=%d down=%d",
		r.Survival.Failures, len(r.Members), answering, len(r.Routers), dark, servers, down)
}

// oneLine is text without what would end a line or begin the figures.
func oneLine(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "/")
}
