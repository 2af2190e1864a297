package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
	"lbcluster/metrics"
)

// What a cluster that serves says of itself to those who look: Prometheus by TCP and
// by the socket, people in a browser by TLS.
func TestClusterIsSeen(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	s.Dirs[0].WriteFile("/etc/lbcluster/lbcluster.yaml", seenConf)
	certificate(t, s.Dirs[0])
	s.Dirs[0].WriteFile("/etc/web.token", seenToken) // which everybody can read
	s.Form()
	s.Serve()
	owner := s.AwaitOwner()
	const visits = 24
	for range visits {
		if out, err := s.Client.Curl(context.Background(), "http://"+site.Target+"/"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	time.Sleep(2 * time.Second) // counters are read once a second
	wantMetrics(t, s, owner, visits)
	wantTCPMetrics(t, s)
	wantPage(t, s)
	if out := s.Dirs[1].MustRun("lbcluster", "status", "--check"); !strings.HasPrefix(out, "LBCLUSTER OK - survives 1 more failure | failures_left=1 members=3 answering=3 routers=1 dark=0 servers=2 down=0") {
		t.Errorf("monitoring is told: %s", out)
	}
}

const (
	seenConf = `metrics: 172.25.88.11:9750
web:
  listen: 172.25.88.11:9751
  certificate: /etc/web.pem
  key: /etc/web.key
  token_file: /etc/web.token
`
	seenToken = "4ff2f1ac1b1d45d3a7c1"
)

// wantPage: it is not served while its token is open to everybody, which status says;
// then to who has the token.
func wantPage(t *testing.T, s *site.Site) {
	t.Helper()
	const url = "https://172.25.88.11:9751"
	if out := s.Dirs[1].MustRun("lbcluster", "status"); !strings.Contains(out, "web cannot be served: the token in /etc/web.token can be read by everybody") {
		t.Errorf("status does not warn of the token:\n%s", out)
	}
	s.Dirs[0].MustRun("chmod", "600", "/etc/web.token")
	s.Eventually(20*time.Second, "the page is served", func() error {
		out, err := s.Watcher.Run(context.Background(), "curl", "-sSk", "--max-time", "5", "-u", "anna:"+seenToken, url+"/")
		if err == nil && !strings.Contains(out, `<script type="module" src="app.js">`) {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
	ask := func(args ...string) string {
		out, _ := s.Watcher.Run(context.Background(), append([]string{"curl", "-sSk", "--max-time", "5"}, args...)...)
		return out
	}
	if out := ask("-w", "%{http_code}", url+"/"); !strings.HasSuffix(out, "401") {
		t.Errorf("without the token: %s", out)
	}
	if out := ask("-N", "-H", "Authorization: Bearer "+seenToken, url+"/v1/watch?every=1s&last=1"); strings.Count(out, "event: status") < 3 || !strings.Contains(out, "event: event") || !strings.Contains(out, `"name":"VI_1"`) {
		t.Errorf("the stream is %.2000s", out)
	}
}

// wantMetrics compares what the directors tell with what was done.
func wantMetrics(t *testing.T, s *site.Site, owner *lab.Host, visits int) {
	t.Helper()
	all := map[*lab.Host]series{}
	for _, h := range s.Dirs {
		all[h] = parseMetrics(t, h.MustRun("curl", "-sS", "--unix-socket", "/run/lbcluster/lbcluster.sock", "http://lbcluster/metrics"))
	}
	sum := func(name string) (n float64) {
		for _, one := range all {
			n += one[name]
		}
		return n
	}
	for name, want := range map[string]float64{
		`lbcluster_router_owned{router="VI_1"}`:                                                                   1,
		`lbcluster_virtual_server_connections_total{virtual_server="tcp/172.25.88.100:80"}`:                       float64(visits),
		`lbcluster_gate_open{vip="172.25.88.100"}`:                                                                1,
		`lbcluster_vrrp_state{router="VI_1",state="MASTER"}`:                                                      1,
		`lbcluster_raft_state{state="leader"}`:                                                                    1,
		`lbcluster_failures_left`:                                                                                 3,
		`lbcluster_ipvs_applied`:                                                                                  3,
		`lbcluster_ipvs_operations_total{operation="add_server"}`:                                                 6,
		`lbcluster_real_server_up{server="172.25.88.2:80",virtual_server="tcp/172.25.88.100:80"}`:                 3,
		`lbcluster_real_server_opinion{server="172.25.88.3:80",virtual_server="tcp/172.25.88.100:80"}`:            3,
		`lbcluster_real_server_votes{opinion="up",server="172.25.88.2:80",virtual_server="tcp/172.25.88.100:80"}`: 9,
	} {
		if got := sum(name); got != want {
			t.Errorf("%s adds up to %v, not %v", name, got, want)
		}
	}
	mine := all[owner]
	if left := mine[`lbcluster_gate_deadline_seconds{vip="172.25.88.100"}`]; left <= 0 || left > 0.8 {
		t.Errorf("the gate's deadline is %v s away", left)
	}
	for _, name := range []string{
		`lbcluster_lease_renewals_total{router="VI_1"}`, `lbcluster_lease_remaining_seconds{router="VI_1"}`, `lbcluster_vrrp_adverts_sent_total{router="VI_1"}`,
		`lbcluster_virtual_server_bytes_total{direction="in",virtual_server="tcp/172.25.88.100:80"}`,
		`lbcluster_gate_packets_total{kind="in",verdict="passed",vip="172.25.88.100"}`,
		`lbcluster_check_duration_seconds_count{kind="tcp",result="passed"}`, `lbcluster_raft_applied_index`,
	} {
		if mine[name] <= 0 {
			t.Errorf("%s is %v on the owner", name, mine[name])
		}
	}
	each := 0.0
	for _, server := range []string{"172.25.88.2:80", "172.25.88.3:80"} {
		each += mine[fmt.Sprintf(`lbcluster_real_server_connections_total{server=%q,virtual_server="tcp/172.25.88.100:80"}`, server)]
	}
	if each != float64(visits) {
		t.Errorf("the real servers got %v connections, not %d", each, visits)
	}
	wantAllMetrics(t, mine)
}

// wantAllMetrics: an owner tells all in the list but what has not happened.
func wantAllMetrics(t *testing.T, s series) {
	t.Helper()
	names := map[string]bool{}
	for name := range s {
		name, _, _ = strings.Cut(name, "{")
		names[strings.TrimSuffix(name, "_count")] = true
	}
	for _, m := range metrics.List() {
		switch m.Name {
		case "lbcluster_gate_last_drop_age_seconds", "lbcluster_vrrp_adverts_rejected_total", "lbcluster_network_dropped_total", "lbcluster_raft_last_contact_seconds":
			continue
		}
		if !names[m.Name] {
			t.Errorf("%s is not told", m.Name)
		}
	}
	if t.Failed() {
		t.Logf("told are %v", slices.Sorted(maps.Keys(names)))
	}
}

// wantTCPMetrics: who was told to serves them to the network, and nothing else; the
// others serve nothing.
func wantTCPMetrics(t *testing.T, s *site.Site) {
	t.Helper()
	get := func(url string) string {
		out, err := s.Watcher.Run(context.Background(), "curl", "-sS", "--max-time", "5", "-o", "/run/answer", "-w", "%{http_code}", url)
		if err != nil {
			return "nothing"
		}
		return strings.TrimSpace(out)
	}
	for url, want := range map[string]string{
		"http://172.25.88.11:9750/metrics":   "200",
		"http://172.25.88.11:9750/v1/status": "404",
		"http://172.25.88.11:9750/v1/leave":  "404",
		"http://172.25.88.12:9750/metrics":   "nothing",
	} {
		if got := get(url); got != want {
			t.Errorf("%s: %s, not %s", url, got, want)
		}
	}
}

// series are samples by name and labels as Prometheus' text format has them.
type series map[string]float64

func parseMetrics(t *testing.T, text string) series {
	t.Helper()
	out := series{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "#") || !ok {
			continue
		}
		if i := strings.LastIndex(line, "} "); i >= 0 {
			name, value = line[:i+1], strings.TrimSpace(line[i+2:])
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out[name] = v
	}
	return out
}
