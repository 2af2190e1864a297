package fsm

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// largeConfig is a configuration of n real servers, the last with its own weight.
func largeConfig(n, weight int) Config {
	v := VirtualServer{ServiceKey: ServiceKey{Addr: addr4(100), Port: 80, Protocol: TCP}, Scheduler: "rr", Method: DirectRouting}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).Next()
		v.RealServers = append(v.RealServers, RealServer{Addr: addr, Port: 80, Weight: 1})
	}
	v.RealServers[n-1].Weight = weight
	return Config{Services: []VirtualServer{v}}
}

// The history is bounded in number and in size, and always has the newest two.
func TestHistoryIsBounded(t *testing.T) {
	for _, tt := range []struct{ servers, applies, want int }{
		{1, HistoryKept + 7, HistoryKept},
		{20000, 5, 2},
		{25000, 4, 2},
		{70000, 3, 2},
		{10000, 8, historyElements / 10001},
	} {
		t.Run(fmt.Sprint(tt.servers), func(t *testing.T) {
			table := founded(t)
			for i := range tt.applies {
				e, err := table.edit(Command{At: epoch, Apply: &ApplySet{Set: "default"}})
				if err != nil {
					t.Fatal(err)
				}
				e.remember(Applied{Revision: e.rev, Set: "default", Config: largeConfig(tt.servers, i+1)})
				e.event("apply", "so many")
				table = e.finish()
			}
			if got := len(table.History); got != tt.want {
				t.Fatalf("%d revisions are kept, want %d", got, tt.want)
			}
			if last := table.History[len(table.History)-1]; last.Revision != table.Revision {
				t.Errorf("the newest is %d of %d", last.Revision, table.Revision)
			}
		})
	}
}

// Entries share memory with the table, but an apply must not change old ones.
func TestHistoryKeepsWhatWas(t *testing.T) {
	table := founded(t)
	for i := range 3 {
		next, _, err := table.Apply(Command{At: epoch.Add(time.Duration(i) * time.Minute), Apply: &ApplySet{Set: "default", Config: largeConfig(3, i+1)}})
		if err != nil {
			t.Fatal(err)
		}
		table = next
	}
	for i, a := range table.History {
		if got := a.Config.Services[0].RealServers[2].Weight; got != i+1 {
			t.Errorf("revision %d has weight %d, want %d", a.Revision, got, i+1)
		}
	}
	former, ok := table.Former(table.History[len(table.History)-1])
	if !ok || former.Revision != table.Revision-1 {
		t.Errorf("before %d came %d", table.Revision, former.Revision)
	}
	if _, ok := table.Former(table.History[0]); ok {
		t.Error("there is something before the first")
	}
}
