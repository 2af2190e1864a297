package scale

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/e2e/lab"
)

// table reads a host's IPVS table.
type table struct {
	host *lab.Host
	*ipvs.Handle
}

func tableOf(h *lab.Host) table {
	return table{h, ipvs.New(fmt.Sprintf("/proc/self/fd/%d", h.NetNS()))}
}

// full reports whether the host has the whole table: asked of its last virtual server
// often, and of all once that is complete.
func (t table) full(s Size) (bool, error) {
	last, err := t.Dests(key(s.Services - 1))
	if err != nil || len(last) != s.Servers {
		return false, err
	}
	for i := range s.Services {
		if dests, err := t.Dests(key(i)); err != nil || len(dests) != s.Servers {
			return false, err
		}
	}
	return true, nil
}

// weight is that of one real server; -1: it is not there.
func (t table) weight(k ipvs.Key, server netip.AddrPort) int {
	dests, _ := t.Dests(k)
	i := slices.IndexFunc(dests, func(d ipvs.Dest) bool { return netip.AddrPortFrom(d.Addr, d.Port) == server })
	if i < 0 {
		return -1
	}
	return dests[i].Weight
}

// poll is how often the kernel is asked; a measured time may be so much too long.
const poll = 5 * time.Millisecond

// await waits until each of the tables is as wanted, and returns how long that took
// since began.
func await(t lab.T, began time.Time, what string, tables []table, wanted func(table) bool) time.Duration {
	t.Helper()
	for _, k := range tables {
		for deadline := began.Add(5 * time.Minute); !wanted(k); time.Sleep(poll) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not on %s within 5 minutes", what, k.host.Name)
			}
		}
	}
	return time.Since(began)
}
