package ipvs

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Stats counts traffic since the service or destination was added: the kernel's
// 64-bit counters (IPVS_STATS_ATTR_* in linux/ip_vs.h). With direct routing and
// tunnels the answers do not come back through the director: Out stays 0.
type Stats struct {
	Connections           uint64
	InPackets, OutPackets uint64
	InBytes, OutBytes     uint64
}

// Traffic is what one service has carried.
type Traffic struct {
	Key
	Stats
	Dests []DestTraffic // sorted; nil unless asked for
}

// DestTraffic is what one destination of a service has carried, and the
// connections that it has now.
type DestTraffic struct {
	DestKey
	Stats
	Active, Inactive uint32
}

// Traffic reads the counters of all services, sorted by key, in one request; with
// dests also those of their destinations, in one more for each. A service that
// vanishes between the requests is left out.
func (h *Handle) Traffic(dests bool) ([]Traffic, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return nil, err
	}
	out, err := h.s.traffic(dests)
	if err != nil {
		h.drop()
		return nil, fmt.Errorf("read the IPVS counters: %w", explain(err, Op{}))
	}
	slices.SortFunc(out, func(a, b Traffic) int { return a.Key.Compare(b.Key) })
	return out, nil
}

func (s *socket) traffic(dests bool) ([]Traffic, error) {
	msgs, err := s.ask(cmdGetService, unix.NLM_F_DUMP)
	if err != nil {
		return nil, err
	}
	out := make([]Traffic, 0, len(msgs))
	for _, m := range msgs {
		v, err := parseService(m)
		if err != nil {
			return nil, err
		}
		t := Traffic{Key: v.Key}
		if t.Stats, err = parseStats(m, svcStats, svcStats64); err != nil {
			return nil, err
		}
		if dests {
			t.Dests, err = s.destTraffic(v)
		}
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (s *socket) destTraffic(v Service) ([]DestTraffic, error) {
	msgs, err := s.ask(cmdGetDest, unix.NLM_F_DUMP, serviceAttr(v))
	if err != nil {
		return nil, err
	}
	out := make([]DestTraffic, 0, len(msgs))
	for _, m := range msgs {
		d, err := parseDest(m, family(v.Is6()))
		if err != nil {
			return nil, err
		}
		t := DestTraffic{DestKey: d.DestKey, Active: d.Active, Inactive: d.Inactive}
		if t.Stats, err = parseStats(m, destStats, destStats64); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b DestTraffic) int { return a.DestKey.Compare(b.DestKey) })
	return out, nil
}

// parseStats reads the counters among a message's attributes: those of 64 bits,
// or of 32 where a kernel before 4.1 has no others.
func parseStats(msg []byte, narrow, wide int) (Stats, error) {
	a, err := parseAttrs(msg)
	if err != nil {
		return Stats{}, err
	}
	inner, number := a[wide], (*attrs).u64
	if inner == nil {
		inner = a[narrow]
		number = func(a *attrs, i int) uint64 {
			if i == statsInBytes || i == statsOutBytes {
				return a.u64(i) // bytes always had 64 bits
			}
			return uint64(a.u32(i))
		}
	}
	c, err := split(inner)
	if err != nil {
		return Stats{}, err
	}
	return Stats{
		Connections: number(&c, statsConns),
		InPackets:   number(&c, statsInPackets), OutPackets: number(&c, statsOutPackets),
		InBytes: number(&c, statsInBytes), OutBytes: number(&c, statsOutBytes),
	}, nil
}
