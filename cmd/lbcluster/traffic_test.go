package main

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/dataplane/ipvs"
)

// counters is a kernel that says how often it was asked.
type counters struct {
	asked int
	list  []ipvs.Traffic
	err   error
}

func (c *counters) Traffic(dests bool) ([]ipvs.Traffic, error) {
	c.asked++
	return c.list, c.err
}
func (c *counters) Close() {}

// TestTraffic: the table's services are told of with what the kernel counts, others'
// are not, and many who ask cost one question a second.
func TestTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vip := netip.MustParseAddr("172.25.88.100")
		ours := ipvs.Key{Addr: vip, Port: 443, Protocol: ipvs.TCP}
		k := &counters{list: []ipvs.Traffic{
			{Key: ours, Stats: ipvs.Stats{Connections: 5, InBytes: 1 << 40}, Dests: []ipvs.DestTraffic{
				{DestKey: ipvs.DestKey{Addr: netip.MustParseAddr("172.25.88.2"), Port: 443}, Stats: ipvs.Stats{Connections: 4}, Active: 3, Inactive: 2},
			}},
			{Key: ipvs.Key{Addr: vip, Port: 9999, Protocol: ipvs.TCP}, Stats: ipvs.Stats{Connections: 7}},
			{Key: ipvs.Key{Mark: 0x6c620001}, Stats: ipvs.Stats{Connections: 8}},
		}}
		tr := &traffic{kernel: k}
		table := apitest.NewBusy().Table()
		for range 10 {
			got := tr.services(table)
			if len(got) != 1 || got[0] != (api.ServiceTraffic{Service: "tcp/172.25.88.100:443", Traffic: api.Traffic{Connections: 5, InBytes: 1 << 40}}) {
				t.Fatalf("%+v", got)
			}
		}
		servers, err := tr.servers(table)
		if err != nil || len(servers) != 1 || servers[0].Server != "172.25.88.2:443" || servers[0].Connections != 4 || servers[0].Active != 3 || servers[0].Inactive != 2 {
			t.Fatalf("%+v, %v", servers, err)
		}
		if k.asked != 2 {
			t.Errorf("the kernel was asked %d times within a second", k.asked)
		}
		time.Sleep(trafficAge)
		k.err = errors.New("no such family")
		if got := tr.services(table); got != nil || k.asked != 3 {
			t.Errorf("%v after %d questions", got, k.asked)
		}
		if _, err := tr.servers(table); !errors.Is(err, k.err) {
			t.Errorf("the kernel's error became %v", err)
		}
		tr.close()
		time.Sleep(trafficAge)
		if tr.services(table); k.asked != 4 {
			t.Error("a closed one asks the kernel")
		}
	})
}
