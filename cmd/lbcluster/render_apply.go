package main

import (
	"fmt"
	"strings"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// renderInput says what is wrong with a file, or that nothing is.
func renderInput(name string, in input) string {
	var b strings.Builder
	b.WriteString(renderNotices(in.Notices))
	for _, p := range in.Problems {
		fmt.Fprint(&b, p, "\n", p.Context())
	}
	b.WriteString(renderDifferences(in.differences))
	if in.wrong(name) == nil {
		c := in.result.Config
		fmt.Fprintf(&b, "%s can be applied: %s, %s\n", name, count(len(c.Routers), "virtual router"), count(len(c.Services), "virtual server"))
	}
	return b.String()
}

// renderNotices says what is stored but not acted on, and other surprises.
func renderNotices(notices []conf.Notice) string {
	var b strings.Builder
	for _, n := range notices {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}

// renderPlan shows a difference: + added, ~ changed, - deleted.
func renderPlan(p api.Plan, set string) string {
	if len(p.Changes) == 0 {
		return fmt.Sprintf("Nothing to change: set %q is in the cluster as the file has it (revision %d).\n", set, p.Revision)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Set %q, compared with revision %d:\n", set, p.Revision)
	for _, c := range p.Changes {
		b.WriteString(renderChange(c))
	}
	return b.String()
}

// renderChange is one element on one line; what is said of it below.
func renderChange(c fsm.Change) string {
	marks := map[string]string{fsm.OpAdd: "+", fsm.OpChange: "~", fsm.OpDelete: "-"}
	line := fmt.Sprintf("  %s %s\n", marks[c.Op], c.Path)
	if c.Op == fsm.OpChange {
		line += fmt.Sprintf("      was: %s\n      new: %s\n", orNothing(c.Before), orNothing(c.After))
	} else if what := c.Before + c.After; what != "" {
		line += "      " + what + "\n"
	}
	if c.Note != "" {
		line += "      note: " + c.Note + "\n"
	}
	return line
}

func orNothing(s string) string { return or(s, "(nothing)") }

// count is "1 thing", "2 things".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// shortDuration is d without zero parts: "1h", "1h30m", "45s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
