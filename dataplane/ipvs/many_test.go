package ipvs_test

import (
	"net/netip"
	"slices"
	"testing"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/ipvs/ipvstest"
)

// crowd is a service of so many destinations, and the operations that make it.
func crowd(n int) (ipvs.Service, []ipvs.Op) {
	s := ipvstest.Must("-A -t 172.25.88.100:80 -s rr")[0]
	ops := []ipvs.Op{{Verb: ipvs.AddService, Service: s}}
	for i := range n {
		d := ipvs.Dest{DestKey: ipvs.DestKey{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i / 200), byte(1 + i%200)}), Port: 80}, Method: ipvs.DirectRouting, Weight: i % 7}
		s.Dests = append(s.Dests, d)
		ops = append(ops, ipvs.Op{Verb: ipvs.AddDest, Service: ipvs.Service{Key: s.Key, Scheduler: "rr"}, Dest: d})
	}
	return s.Canonical(), ops
}

// Each operation of many gets its own answer, and one that fails holds up none.
func TestManyAtOnce(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		want, ops := crowd(1234)
		twice, unsaid, strange, gone := ops[7], ops[8], ops[9], ops[10]
		unsaid.Dest.Weight = -1
		strange.Service.Key.Port = 81 // there is no such service
		gone.Verb, gone.Dest.Port = ipvs.RemoveDest, 81
		for _, at := range []int{50, 99, 100, 101, 500, 1000} { // about the seams of messages, too
			ops = slices.Insert(ops, at, gone, twice, unsaid, strange)
		}
		ops = append(ops, strange) // what comes last is answered, whatever it is
		fails, seen := make([]bool, len(ops)), map[string]bool{}
		for i, op := range ops {
			fails[i] = op.Dest.Weight < 0 || op.Service.Port == 81 || op.Verb == ipvs.AddDest && seen[op.String()]
			seen[op.String()] = true
		}
		for i, err := range w.DoAll(ops) {
			if (err != nil) != fails[i] {
				t.Errorf("operation %d, %s: %v", i, ops[i], err)
			}
		}
		w.expect(t, ipvs.Rules([]ipvs.Service{want}))
		dests, err := w.Dests(want.Key)
		if err != nil || !slices.Equal(dests, want.Dests) {
			t.Errorf("%d destinations of %d are read: %v", len(dests), len(want.Dests), err)
		}
		if dests, err := w.Dests(strange.Service.Key); err != nil || len(dests) != 0 {
			t.Errorf("of no service: %v, %v", dests, err)
		}
		bare := want
		bare.Dests = nil
		if all, err := w.Services(); err != nil || len(all) != 1 || !all[0].Same(bare) || len(all[0].Dests) != 0 {
			t.Errorf("the services are %+v, %v", all, err)
		}
		if errs := w.DoAll(nil); len(errs) != 0 {
			t.Errorf("of nothing: %v", errs)
		}
	})
}
