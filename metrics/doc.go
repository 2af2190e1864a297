// Package metrics says what a member knows in Prometheus' words.
//
// A [Collector] asks for [Facts] when it is scraped and turns them into samples;
// [Probes] counts what the checks did. [Handler] serves both, with the Go
// runtime's and the process's own metrics. Everything is named in one list, from
// which docs/metrics.md is generated and against which the alert rules and the
// dashboard in deploy are tested.
//
// Labels name what is in the table (routers, VIPs, virtual and real servers,
// members) or come from fixed lists (reasons, states, kinds); an address that
// somebody sends us is never a label, so that no stranger can add a series.
//
// Called by: cmd/lbcluster, which serves the handler on the daemon's socket and, if
// an operator wants it, on a TCP address.
//
// It never asks the kernel or another member itself, and keeps nothing but the
// probes' counts.
package metrics
