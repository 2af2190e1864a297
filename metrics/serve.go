package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lbcluster/fsm"
)

// Limits of a scrape.
const (
	atOnce      = 4               // scrapes; more are told to come again
	scrapeLimit = 8 * time.Second // below the 10 s that Prometheus waits
)

// Probes counts how long checks take. Make it with [NewProbes]; safe for
// concurrent use.
type Probes struct{ took *prometheus.HistogramVec }

// NewProbes returns Probes that have counted nothing.
func NewProbes() *Probes {
	return &Probes{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: checkDuration.Name, Help: checkDuration.Help + ".",
		Buckets: []float64{.001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, checkDuration.Labels)}
}

// Observe counts one probe.
func (p *Probes) Observe(kind fsm.CheckKind, took time.Duration, passed bool) {
	result := "failed"
	if passed {
		result = "passed"
	}
	p.took.WithLabelValues(string(kind), result).Observe(took.Seconds())
}

// histogram names one that is counted elsewhere.
func histogram(name, help string, labels ...string) *Metric {
	return add("histogram", 0, name, help, labels)
}

// Collector makes metrics of what facts returns when it is scraped.
type Collector struct {
	facts func(context.Context) Facts
}

// NewCollector makes a Collector. facts may take some seconds and is called by
// several goroutines at once.
func NewCollector(facts func(context.Context) Facts) *Collector { return &Collector{facts} }

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range list {
		if m.Kind != "histogram" {
			out <- m.desc
		}
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	collect(c.facts(ctx), out)
}

// Handler serves GET /metrics.
func Handler(c *Collector, p *Probes, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(registry(c, p), promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: atOnce, Timeout: scrapeLimit,
	})
}

func registry(c *Collector, p *Probes) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(c, p.took, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
