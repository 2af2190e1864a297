package e2e

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// guide is docs/migrate.md: the commands in it, each with the host that its
// prompt names, by the heading that they stand under.
type guide struct {
	*site.Site
	steps map[string][]typed
	left  map[string]bool // headings that were not done yet
	token string          // the last join token that was printed
	// keepalived are those that run, by host.
	keepalived map[*lab.Host]*lab.Proc
}

type typed struct{ host, line string }

var (
	prompt    = regexp.MustCompile(`^    ([a-z]+[0-9]*)# (.*)$`)
	tokenHole = "lbc1-…"
	copies    = regexp.MustCompile(`^scp ([a-z]+[0-9]*):(\S+) (\S+)$`)
	units     = regexp.MustCompile(`^systemctl (enable|disable) --now (lbcluster|keepalived)$`)
)

// parseGuide reads a chapter (a heading of the second rank): its steps are the
// headings of the third.
func parseGuide(text, chapter string) map[string][]typed {
	_, text, _ = strings.Cut(text, "\n## "+chapter+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	steps := map[string][]typed{}
	step := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if h, ok := strings.CutPrefix(line, "### "); ok {
			step = h
		}
		if m := prompt.FindStringSubmatch(line); m != nil {
			steps[step] = append(steps[step], typed{m[1], m[2]})
		}
	}
	return steps
}

// readGuide reads a chapter of the guide for the site. At the end of the test
// all of its steps must have been done.
func readGuide(t *testing.T, s *site.Site, chapter string) *guide {
	t.Helper()
	text, err := os.ReadFile("../docs/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{Site: s, steps: parseGuide(string(text), chapter), left: map[string]bool{}, keepalived: map[*lab.Host]*lab.Proc{}}
	if len(g.steps) == 0 {
		t.Fatalf("the guide has no chapter %q with commands", chapter)
	}
	for step := range g.steps {
		g.left[step] = true
	}
	return g
}

// wantAllDone fails the test unless every step of the chapter was done.
func (g *guide) wantAllDone(t *testing.T) {
	t.Helper()
	for step := range g.left {
		t.Errorf("the guide's step %q was not done", step)
	}
}

// do types the commands of a step and returns what they printed.
func (g *guide) do(t *testing.T, step string) string {
	t.Helper()
	if len(g.steps[step]) == 0 {
		t.Fatalf("the guide has no step %q with commands", step)
	}
	delete(g.left, step)
	var all strings.Builder
	for _, c := range g.steps[step] {
		h := g.Lab.Host(c.host)
		if h == nil {
			t.Fatalf("%s: the guide has a command for %s, which is not there", step, c.host)
		}
		out := g.types(t, h, c.line)
		t.Logf("%s# %s\n%s", c.host, c.line, out)
		all.WriteString(out)
	}
	return all.String()
}

// types runs one command. There is neither systemd nor ssh in the lab: their
// commands are done by hand.
func (g *guide) types(t *testing.T, h *lab.Host, line string) string {
	t.Helper()
	if m := units.FindStringSubmatch(line); m != nil {
		g.unit(t, h, m[1] == "enable", m[2])
		return ""
	}
	if m := copies.FindStringSubmatch(line); m != nil {
		text, err := g.Lab.Host(m[1]).ReadFile(m[2])
		if err != nil {
			t.Fatal(err)
		}
		h.WriteFile("/etc/"+m[3], text)
		return ""
	}
	line = strings.ReplaceAll(line, tokenHole, g.token)
	if strings.HasSuffix(line, "--witness") {
		line += " --force" // how far away a witness may be is judged elsewhere
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := h.Run(ctx, "sh", "-ec", "cd /etc; "+line) // a folder of the host's own
	if err != nil {
		t.Fatalf("%s# %s: %v", h.Name, line, err)
	}
	if w := tokenText.FindString(out); w != "" {
		g.token = w
	}
	return out
}

// unit starts or stops what a systemd unit stands for.
func (g *guide) unit(t *testing.T, h *lab.Host, start bool, name string) {
	t.Helper()
	var err error
	switch {
	case name == "lbcluster" && start:
		g.Start(h)
	case name == "lbcluster":
		err = g.Daemons[h].Stop()
		delete(g.Daemons, h)
	case start:
		conf, readErr := h.ReadFile("/etc/keepalived/keepalived.conf")
		if err = readErr; err == nil {
			g.keepalived[h] = h.StartKeepalived(conf)
		}
	default:
		err = g.keepalived[h].Stop()
		delete(g.keepalived, h)
	}
	if err != nil {
		t.Fatalf("%s: %s: %v", h.Name, name, err)
	}
}

func TestGuideIsRead(t *testing.T) {
	text := "\n## One\n### A\n\n    lb1# x y\n    not a command\n\n### B\n    dir2# z\n## Two\n### A\n    lb2# other\n"
	one := parseGuide(text, "One")
	if len(one) != 2 || len(one["A"]) != 1 || one["A"][0] != (typed{"lb1", "x y"}) || one["B"][0] != (typed{"dir2", "z"}) {
		t.Errorf("chapter One is read as %v", one)
	}
	if two := parseGuide(text, "Two"); len(two["A"]) != 1 || two["A"][0].line != "other" {
		t.Errorf("chapter Two is read as %v", two)
	}
}
