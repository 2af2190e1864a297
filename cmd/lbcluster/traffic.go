package main

import (
	"sync"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
	"lbcluster/metrics"
)

// trafficAge is how old the kernel's counters may be that are shown: however many
// ask, the kernel is asked once in this time.
const trafficAge = time.Second

// ipvsCounters is what reads them: an ipvs.Handle of its own, so that nobody who
// looks makes the data plane wait.
type ipvsCounters interface {
	Traffic(dests bool) ([]ipvs.Traffic, error)
	Close()
}

// traffic reads the kernel's counters of the table's virtual servers. What others
// put into IPVS is not told.
type traffic struct {
	kernel ipvsCounters

	mu     sync.Mutex
	closed bool
	reads  [2]trafficRead // of services alone, with destinations
}

type trafficRead struct {
	at   time.Time
	list []ipvs.Traffic
	err  error
}

// read returns the counters, at most trafficAge old.
func (t *traffic) read(dests bool) ([]ipvs.Traffic, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.reads[0]
	if dests {
		r = &t.reads[1]
	}
	if !t.closed && (r.at.IsZero() || time.Since(r.at) >= trafficAge) {
		r.list, r.err = t.kernel.Traffic(dests)
		r.at = time.Now()
	}
	return r.list, r.err
}

// close ends the asking: whoever still wants to know gets what was known. t may be
// nil.
func (t *traffic) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.kernel.Close()
}

// services is for the status: a kernel that does not answer shows elsewhere.
func (t *traffic) services(table *fsm.Table) []api.ServiceTraffic {
	list, err := t.read(false)
	if err != nil {
		return nil
	}
	ours := serviceNames(table)
	var out []api.ServiceTraffic
	for _, s := range list {
		if name := s.Key.String(); ours[name] {
			out = append(out, api.ServiceTraffic{Service: name, Traffic: apiTraffic(s.Stats)})
		}
	}
	return out
}

// servers is for the metrics.
func (t *traffic) servers(table *fsm.Table) ([]metrics.Server, error) {
	list, err := t.read(true)
	if err != nil {
		return nil, err
	}
	ours := serviceNames(table)
	var out []metrics.Server
	for _, s := range list {
		name := s.Key.String()
		if !ours[name] {
			continue
		}
		for _, d := range s.Dests {
			out = append(out, metrics.Server{Service: name, Server: d.DestKey.String(), Traffic: apiTraffic(d.Stats), Active: d.Active, Inactive: d.Inactive})
		}
	}
	return out, nil
}

func serviceNames(table *fsm.Table) map[string]bool {
	names := make(map[string]bool, len(table.Services))
	for _, s := range table.Services {
		names[s.ServiceKey.String()] = true
	}
	return names
}

func apiTraffic(s ipvs.Stats) api.Traffic {
	return api.Traffic{Connections: s.Connections, InPackets: s.InPackets, OutPackets: s.OutPackets, InBytes: s.InBytes, OutBytes: s.OutBytes}
}
