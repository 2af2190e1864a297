package metrics

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// busy are the facts of a director to which everything has happened.
func busy() Facts {
	f := apitest.NewBusy()
	local := f.Local()
	return Facts{
		Local: local, Report: api.BuildReport(f.Table(), local, f.Others(context.Background()), apitest.Now),
		Servers: []Server{{Service: "tcp/172.25.88.100:443", Server: "172.25.88.2:443", Active: 7, Inactive: 2, Traffic: api.Traffic{Connections: 1 << 40, InBytes: 1 << 50}}},
	}
}

func gather(t *testing.T, f Facts) map[string]*dto.MetricFamily {
	t.Helper()
	p := NewProbes()
	p.Observe(fsm.CheckTCP, 3*time.Millisecond, true)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(NewCollector(func(context.Context) Facts { return f }), p.took)
	got, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*dto.MetricFamily{}
	for _, g := range got {
		out[g.GetName()] = g
	}
	return out
}

// value finds one sample; labels as "name=value".
func value(t *testing.T, all map[string]*dto.MetricFamily, name string, labels ...string) (float64, bool) {
	t.Helper()
	for _, m := range all["lbcluster_"+name].GetMetric() {
		var have []string
		for _, l := range m.GetLabel() {
			have = append(have, l.GetName()+"="+l.GetValue())
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(have, l) }) {
			continue
		}
		return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
	}
	return 0, false
}

// TestEveryMetricExists: a busy director has a sample of each metric in the list,
// and none that is not in it.
func TestEveryMetricExists(t *testing.T) {
	got := gather(t, busy())
	for _, m := range List() {
		if got[m.Name] == nil {
			t.Errorf("%s has no sample", m.Name)
		}
		delete(got, m.Name)
	}
	if len(got) > 0 {
		t.Errorf("not in the list: %v", slices.Collect(maps.Keys(got)))
	}
}

// TestConventions asks Prometheus' own linter.
func TestConventions(t *testing.T) {
	r := prometheus.NewRegistry()
	f := busy()
	r.MustRegister(NewCollector(func(context.Context) Facts { return f }), NewProbes().took)
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestValues: what the samples say is what the facts say.
func TestValues(t *testing.T) {
	got := gather(t, busy())
	for _, c := range []struct {
		name   string
		labels string
		want   float64
	}{
		{"enrolled", "", 1},
		{"failures_left", "", 1},
		{"voters_answering", "", 3},
		{"raft_state", "state=leader", 1},
		{"raft_state", "state=follower", 0},
		{"member_answers", "member=dir2", 1},
		{"findings", "severity=bad", 0},
		{"mail_failing", "", 1},
		{"router_owned", "router=web", 1},
		{"lease_remaining_seconds", "router=web", 0.64},
		{"lease_renewals_total", "router=web", 812},
		{"lease_margin_least_ratio", "router=web", 0.61},
		{"gate_attached", "mode=tcx", 1},
		{"gate_deadline_seconds", "vip=172.25.88.100", 0.64},
		{"gate_packets_total", "vip=172.25.88.100 kind=in verdict=passed", 3400},
		{"vrrp_state", "router=web state=MASTER", 1},
		{"vrrp_speakers", "router=web from=foreign", 1},
		{"vrrp_adverts_received_total", "router=web from=foreign", 4},
		{"vrrp_adverts_rejected_total", "router=web reason=ttl", 1},
		{"real_server_up", "server=172.25.88.4:443", 0},
		{"real_server_opinion", "server=172.25.88.4:443", 1},
		{"real_server_votes", "server=172.25.88.4:443 opinion=down", 2},
		{"real_server_disagreement", "server=172.25.88.4:443", 1},
		{"real_server_disagreement", "server=172.25.88.2:443", 0},
		{"real_server_weight", "server=172.25.88.6:25", 3},
		{"virtual_server_servers", "virtual_server=tcp/172.25.88.100:443", 3},
		{"virtual_server_servers_taking", "virtual_server=tcp/172.25.88.100:443", 2},
		{"check_targets", "opinion=up", 5},
		{"ipvs_operations_total", "operation=add_server", 5},
		{"virtual_server_connections_total", "virtual_server=tcp/172.25.88.100:443", 12345},
		{"real_server_connections_total", "", 1 << 40},
		{"real_server_bytes_total", "direction=in", 1 << 50},
		{"real_server_active_connections", "", 7},
	} {
		v, ok := value(t, got, c.name, strings.Fields(c.labels)...)
		if !ok || v != c.want {
			t.Errorf("%s{%s} is %v (%v), want %v", c.name, c.labels, v, ok, c.want)
		}
	}
}

// TestLittleToSay: a machine in no cluster, a witness, and a director whose kernel
// cannot be read have what they can have.
func TestLittleToSay(t *testing.T) {
	none := apitest.New().Local()
	got := gather(t, Facts{Local: none})
	if v, ok := value(t, got, "enrolled"); !ok || v != 0 || len(got) != 4 { // and build, start, probes
		t.Errorf("in no cluster: %v", slices.Sorted(maps.Keys(got)))
	}
	f := busy()
	f.Local.Role = fsm.Witness
	got = gather(t, f)
	if got["lbcluster_failures_left"] == nil || got["lbcluster_gate_open"] != nil || got["lbcluster_real_server_up"] != nil {
		t.Errorf("a witness: %v", slices.Sorted(maps.Keys(got)))
	}
	f = busy()
	f.Servers, f.TrafficError = nil, errors.New("no IPVS")
	if v, _ := value(t, gather(t, f), "ipvs_counters_failing"); v != 1 {
		t.Error("counters that cannot be read are not told of")
	}
}

// TestStrangeFacts: what is there twice, or is no text, costs no scrape.
func TestStrangeFacts(t *testing.T) {
	f := busy()
	f.Servers = append(f.Servers, f.Servers[0])
	f.Local.VRRP = append(f.Local.VRRP, f.Local.VRRP[0])
	f.Local.Dropped["a\xffb"] = 1
	f.Local.Leases = append(f.Local.Leases, api.LeaseStatus{Router: 99})
	if v, ok := value(t, gather(t, f), "network_dropped_total", "reason=a?b"); !ok || v != 1 {
		t.Error("a reason that is no UTF-8 is lost")
	}
}

// TestStrangersAddNoSeries: whoever advertises our VRID, the series stay the same.
func TestStrangersAddNoSeries(t *testing.T) {
	count := func(f Facts) (n int) {
		for _, m := range gather(t, f) {
			n += len(m.GetMetric())
		}
		return n
	}
	f := busy()
	before := count(f)
	for i := range 200 {
		h := f.Local.VRRP[0].Heard
		h = append(h, h[len(h)-1])
		h[len(h)-1].Addr = h[len(h)-1].Addr.Next()
		f.Local.VRRP[0].Heard = h
		if i == 199 && count(f) != before {
			t.Errorf("%d series became %d", before, count(f))
		}
	}
}

// TestHandler: what a scraper gets.
func TestHandler(t *testing.T) {
	f := busy()
	h := Handler(NewCollector(func(context.Context) Facts { return f }), NewProbes(), slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(w.Body)
	for _, want := range []string{
		`lbcluster_router_owned{router="web"} 1`, "# TYPE lbcluster_lease_renewals_total counter", "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s is missing (status %d)", want, w.Code)
		}
	}
}

// TestPage: docs/metrics.md is the list, and its numbers of series are right.
func TestPage(t *testing.T) {
	const path = "../docs/metrics.md"
	if *update {
		if err := os.WriteFile(path, []byte(Page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != Page() {
		t.Errorf("%s is not what the list says (go test ./metrics -update): %v", path, err)
	}
	f := busy()
	one, two := len(gather(t, f)), f
	two.Servers = nil
	if one == 0 {
		t.Fatal("nothing gathered")
	}
	perServer := 0
	for _, m := range gather(t, f) {
		for _, s := range m.GetMetric() {
			if fmt.Sprint(s.GetLabel()) != "" && strings.Contains(s.String(), "172.25.88.2:443") {
				perServer++
			}
		}
	}
	if want := fmt.Sprintf("table: %d for each real server", perServer); !strings.Contains(Page(), want) {
		t.Errorf("the page does not say %q", want)
	}
}
