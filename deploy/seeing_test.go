package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"lbcluster/e2e/lab/image"
	"lbcluster/metrics"
)

// rule is an alert rule as Prometheus reads it.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	var f struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	d := yaml.NewDecoder(strings.NewReader(Alerts))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil || len(f.Groups) != 1 {
		t.Fatalf("%d groups, %v", len(f.Groups), err)
	}
	return f.Groups[0].Rules
}

// panel is what matters of one of the dashboard's.
type panel struct {
	Type, Title string
	Targets     []struct{ Expr, LegendFormat string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	var d struct {
		Title  string
		Panels []panel
	}
	if err := json.Unmarshal([]byte(Dashboard), &d); err != nil || d.Title != "lbcluster" {
		t.Fatalf("dashboard %q: %v", d.Title, err)
	}
	return d.Panels
}

var (
	metricName = regexp.MustCompile(`\blbcluster_[a-z0-9_]+`)
	matcher    = regexp.MustCompile(`(\w+)(?:=|!=|=~)"`)
	grouping   = regexp.MustCompile(`(?:by|on|without) \(([^)]*)\)`)
	shown      = regexp.MustCompile(`\{\{ ?(?:\$labels\.)?(\w+)`)
)

// known reports what is wrong with the names in an expression and in a text made from
// its labels.
func known(expr, text string) (wrong []string) {
	labels := []string{"job", "instance", "le", "value"} // of Prometheus, and of texts
	for _, name := range metricName.FindAllString(expr, -1) {
		base := strings.TrimSuffix(name, "_bucket")
		i := slices.IndexFunc(metrics.List(), func(m metrics.Metric) bool { return m.Name == base && (base == name || m.Kind == "histogram") })
		if i < 0 {
			wrong = append(wrong, "no metric "+name)
			continue
		}
		labels = append(labels, metrics.List()[i].Labels...)
	}
	var used []string
	for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
		used = append(used, m[1])
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		used = append(used, strings.Split(m[1], ", ")...)
	}
	for _, m := range shown.FindAllStringSubmatch(text, -1) {
		used = append(used, m[1])
	}
	for _, u := range used {
		if !slices.Contains(labels, u) {
			wrong = append(wrong, "no label "+u)
		}
	}
	return wrong
}

// TestKnown: the other tests would see a wrong name.
func TestKnown(t *testing.T) {
	for expr, want := range map[string]int{
		`sum by (router) (lbcluster_router_owned) > 1`:                 0,
		`sum by (vip) (lbcluster_router_owned) > 1`:                    1,
		`lbcluster_router_owner == 1`:                                  1,
		`lbcluster_gate_packets_total{kind="in",way="x"}`:              1,
		`lbcluster_check_duration_seconds_bucket`:                      0,
		`lbcluster_raft_term_bucket`:                                   1,
		`rate(lbcluster_vrrp_adverts_sent_total{job="lbcluster"}[1m])`: 0,
	} {
		if got := known(expr, ""); len(got) != want {
			t.Errorf("%s: %v", expr, got)
		}
	}
	if got := known("lbcluster_router_owned", "{{ $labels.vip }} {{ $value }}"); len(got) != 1 {
		t.Errorf("a label in a text: %v", got)
	}
}

// TestAlerts: each rule names what there is, says how bad it is and what is wrong,
// and has its paragraph in docs/alerts.md, which has no others.
func TestAlerts(t *testing.T) {
	doc, err := os.ReadFile("../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	var headings []string
	paragraphs := strings.Split(string(doc), "\n## ")
	for _, p := range paragraphs[1:] {
		name, text, _ := strings.Cut(p, "\n")
		if headings = append(headings, name); len(strings.Fields(text)) < 15 {
			t.Errorf("docs/alerts.md says too little about %s", name)
		}
	}
	var alerts []string
	for _, r := range rules(t) {
		alerts = append(alerts, r.Alert)
		if wrong := known(r.Expr, r.Annotations["summary"]); len(wrong) > 0 {
			t.Errorf("%s: %v", r.Alert, wrong)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", r.Alert)
		}
	}
	if !slices.Equal(alerts, headings) || len(alerts) < 20 {
		t.Errorf("rules and paragraphs differ:\n%v\n%v", alerts, headings)
	}
}

// TestDashboard: each panel names what there is.
func TestDashboard(t *testing.T) {
	n := 0
	for _, p := range panels(t) {
		for _, g := range p.Targets {
			n++
			if wrong := known(g.Expr, g.LegendFormat); len(wrong) > 0 {
				t.Errorf("%s: %v", p.Title, wrong)
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
	}
	if n < 20 {
		t.Errorf("only %d expressions", n)
	}
}

// TestPromtool: Prometheus' own tool reads the rules and the dashboard's
// expressions, and finds that alerts fire when they should and not otherwise.
func TestPromtool(t *testing.T) {
	promtool := tool(t)
	if out, err := promtool("check", "rules", "alerts.yml").CombinedOutput(); err != nil {
		t.Errorf("check rules: %v\n%s", err, out)
	}
	if out, err := promtool("test", "rules", "testdata/alerts_test.yml").CombinedOutput(); err != nil {
		t.Errorf("test rules: %v\n%s", err, out)
	}
	var b strings.Builder
	b.WriteString("groups: [{name: dashboard, rules: [\n")
	for i, p := range panels(t) {
		for j, g := range p.Targets {
			expr, _ := json.Marshal(g.Expr)
			fmt.Fprintf(&b, "{record: panel_%d_%d, expr: %s},\n", i, j, expr)
		}
	}
	b.WriteString("]}]\n")
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool("check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("the dashboard: %v\n%s", err, out)
	}
	broken := filepath.Join(t.TempDir(), "broken.yml")
	if err := os.WriteFile(broken, []byte("groups: [{name: x, rules: [{record: a, expr: 'sum(('}]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := promtool("check", "rules", broken).Run(); err == nil {
		t.Error("promtool finds nothing wrong with what is")
	}
}

// tool is promtool: the machine's, or that of Debian's package.
func tool(t *testing.T) func(args ...string) *exec.Cmd {
	t.Helper()
	dir := os.Getenv("LBCLUSTER_LAB_DIR")
	if dir == "" {
		dir = "../.lab"
	}
	run, err := image.Tool(t.Context(), dir, "prometheus", "promtool", false)
	if err != nil {
		t.Fatal(err)
	}
	return run
}
