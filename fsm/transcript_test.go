package fsm

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what the transcripts print into them (commit only what you understand)")

// TestTranscripts tells stories: testdata/*.txt has blocks of a command with
// its indented lines, "----", and what it prints. See story.run for the
// commands; those that change the table print the result and the new events.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runTranscript(t, file) })
	}
}

func runTranscript(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &story{t: t, table: New()}
	var out []string
	for _, block := range strings.Split(strings.TrimSpace(string(b)), "\n\n") {
		input, want, isCommand := strings.Cut(block, "\n----")
		if !isCommand {
			out = append(out, block) // a comment
			continue
		}
		want = strings.TrimPrefix(want, "\n")
		got := strings.TrimRight(s.run(input), "\n")
		if got != want && !*rewrite {
			t.Errorf("%s\n---- got\n%s\n---- want\n%s", input, got, want)
		}
		out = append(out, strings.TrimRight(input+"\n----\n"+got, "\n"))
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// story is a transcript being told.
type story struct {
	t     *testing.T
	table *Table
	now   time.Time
}

// run does one block and returns what it prints.
func (s *story) run(input string) string {
	lines := strings.Split(input, "\n")
	for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
		lines = lines[1:]
	}
	a := parseArgs(s.t, lines[0])
	switch a.verb {
	case "table":
		return dump(s.table)
	case "effective":
		return dumpEffective(s.table)
	case "states":
		return dumpStates(s.table.ServerStates(parseKey(s.t, a.word(0))))
	case "targets":
		var b strings.Builder
		for _, info := range s.table.Targets() {
			fmt.Fprintf(&b, "%s: %s\n", info.Server, info.Target)
		}
		return b.String()
	case "blind":
		return dumpBlind(s.table)
	case "order":
		var b strings.Builder
		for _, u := range s.table.Units() {
			fmt.Fprintf(&b, "%s (%d): %v\n", u.Name, u.ID, s.table.Order(u.ID))
		}
		return b.String()
	case "ipvs":
		return dumpIPVS(s.table.IPVS())
	case "speaks":
		return fmt.Sprintf("version %d, version %d used, behind: %s\n", s.table.Speaks(), s.table.Used, cmp.Or(s.table.Behind(), "nobody"))
	case "history":
		return dumpHistory(s.table)
	case "homes":
		return s.homes()
	case "without":
		return s.without(a.words)
	case "cluster":
		return s.cluster(a)
	case "restored":
		s.table = restored(s.t, s.table)
		return ""
	case "local":
		return fmt.Sprintln(s.table.LocalServers(s.id(a.word(0))))
	case "validate", "diff":
		cfg := parseConfig(s.t, lines[1:])
		if a.verb == "validate" {
			return joinLines(s.table.ValidateSet(a.word(0), cfg))
		}
		return dumpDiff(s.table.Diff(a.word(0), cfg))
	}
	return s.apply(s.command(a, lines[1:]))
}

// apply applies c, and with each command of each story holds Apply to its
// promises.
func (s *story) apply(c Command) string {
	before := mustSnapshot(s.t, s.table)
	next, result, err := s.table.Apply(c)
	if !bytes.Equal(before, mustSnapshot(s.t, s.table)) {
		s.t.Errorf("Apply changed its input: %+v", c)
	}
	if err := next.Check(); err != nil {
		s.t.Error(err)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d", result.Revision)
	if result.Member != "" {
		fmt.Fprintf(&b, " member %s", result.Member)
	}
	if !result.Changed {
		b.WriteString(" unchanged")
	}
	b.WriteString("\n")
	for _, e := range next.Events {
		if result.Changed && e.Revision == result.Revision {
			fmt.Fprintf(&b, "  %s: %s\n", e.Kind, e.Text)
		}
	}
	s.table = next
	return b.String()
}

func dumpBlind(t *Table) string {
	var b strings.Builder
	for _, u := range t.Units() {
		for _, m := range t.Members {
			if is, ok := t.Blind()[u.ID][m.ID]; ok {
				fmt.Fprintf(&b, "%s for %s, if it lasts %v: %s\n", m.Name, u.Name, is.Wait, is.Why)
			}
		}
	}
	return cmp.Or(b.String(), "nobody\n")
}

func mustSnapshot(t interface{ Fatal(...any) }, table *Table) []byte {
	b, err := table.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func joinLines[T fmt.Stringer](all []T) string {
	if len(all) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for _, v := range all {
		b.WriteString(v.String() + "\n")
	}
	return b.String()
}

func dumpDiff(changes []Change) string {
	if len(changes) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s", c.Op, c.Path)
		if c.Before != "" {
			fmt.Fprintf(&b, "\n  - %s", c.Before)
		}
		if c.After != "" {
			fmt.Fprintf(&b, "\n  + %s", c.After)
		}
		if c.Note != "" {
			fmt.Fprintf(&b, "\n  ! %s", c.Note)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func dumpEffective(t *Table) string {
	var b strings.Builder
	for _, s := range t.Effective() {
		fmt.Fprintf(&b, "%s %s %s", s.ServiceKey, s.Scheduler, s.Method)
		if s.Persistence != 0 {
			fmt.Fprintf(&b, " persistence %v /%d", s.Persistence, s.PersistenceMask)
		}
		for _, word := range []struct {
			text string
			on   bool
		}{{s.PersistenceEngine, s.PersistenceEngine != ""}, {"one_packet", s.OnePacket}, {"hash_port", s.HashPort}, {"hash_fallback", s.HashFallback}} {
			if word.on {
				b.WriteString(" " + word.text)
			}
		}
		b.WriteString("\n")
		for _, d := range s.Dests {
			method := ""
			if d.Method != s.Method {
				method = " " + string(d.Method)
			}
			fmt.Fprintf(&b, "  -> %s:%d%s weight %d thresholds %d %d\n", d.Addr, d.Port, method, d.Weight, d.UpperThreshold, d.LowerThreshold)
		}
	}
	return b.String()
}

func dumpStates(states []ServerState) string {
	if states == nil {
		return "no such virtual server"
	}
	var b strings.Builder
	for _, s := range states {
		in := "in"
		if !s.InKernel {
			in = "out"
		}
		fmt.Fprintf(&b, "%s weight %d -> %d %s up %v down %v: %s\n", s.Server, s.Weight, s.Effective, in, s.Up, s.Down, s.Why)
	}
	return b.String()
}

func dumpHistory(t *Table) string {
	var b strings.Builder
	for _, a := range t.History {
		fmt.Fprintf(&b, "%d %s by %s at %s: %s%s; then %d elements\n", a.Revision, a.Set, a.By, a.At.Format(time.TimeOnly), a.Text, reason(a.Why), a.Config.elements())
	}
	if p := t.Pending; p != nil {
		fmt.Fprintf(&b, "revision %d of %s waits until %s; before it %d elements\n", p.Revision, p.Set, p.Until().Format(time.TimeOnly), p.Before.elements())
	}
	return b.String()
}

// dump prints all but the events.
func dump(t *Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %q revision %d next m%d router %d profile %q\n",
		t.Cluster, t.Revision, t.NextMember, t.NextRouter, t.Settings.Profile)
	for _, m := range t.Members {
		fmt.Fprintf(&b, "member %s %s %s %s %s silent=%v joined=%d\n", m.ID, m.Name, m.Role, m.State, m.Addr, m.Silent, m.Joined)
	}
	for _, k := range t.Tokens {
		fmt.Fprintf(&b, "token %.4s role=%q uses=%d expires=%s\n", k.Hash, k.Role, k.Uses, k.Expires.Format(time.RFC3339))
	}
	for _, s := range t.Sets {
		fmt.Fprintf(&b, "set %s by %s revision %d\n", s.Name, s.By, s.Revision)
	}
	for _, r := range t.Routers {
		fmt.Fprintf(&b, "router %d of %s: %s %s\n", r.ID, r.Set, r.Name, show(routerFields(r), ""))
	}
	for _, v := range t.Services {
		fmt.Fprintf(&b, "service %s of %s: %s\n", v.ServiceKey, v.Set, show(serviceFields(v), ""))
		for _, r := range v.RealServers {
			fmt.Fprintf(&b, "  server %s %s\n", r.AddrPort(), show(serverFields(r), ""))
		}
	}
	for _, info := range t.Targets() {
		h := t.Health[info.Target]
		fmt.Fprintf(&b, "health %s down=%v since=%d %q:", info.Server, h.Down, h.Since, h.Detail)
		for _, m := range t.Members {
			if v, ok := t.Votes[info.Target][m.ID]; ok {
				fmt.Fprintf(&b, " %s=%s", m.Name, v)
			}
		}
		b.WriteString("\n")
	}
	for _, g := range t.Groups {
		fmt.Fprintf(&b, "group %d of %s: %s %s\n", g.ID, g.Set, g.Name, show(groupFields(g), ""))
	}
	for _, o := range t.Overrides {
		fmt.Fprintf(&b, "override %s: %s by %s\n", o.where(), o, o.By)
	}
	for _, u := range t.Units() {
		if owner, ok := t.Owners[u.ID]; ok {
			fmt.Fprintf(&b, "owner of %s: %s\n", u.Name, owner)
		}
	}
	return b.String()
}
