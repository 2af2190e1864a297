package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// sized is a configuration of so many virtual servers with so many real servers
// each; checked servers have a TCP check.
func sized(services, servers int, checked bool) Config {
	vip := netip.MustParseAddr("10.1.0.1")
	cfg := Config{Routers: []Router{{
		Name: "VI_1", Interface: "eth0", VRID: 51, Priority: 100, Version: 2, AdvertInterval: Duration(time.Second),
		Addresses: []Address{{Prefix: netip.PrefixFrom(vip, 32)}},
	}}}
	for i := range services {
		v := VirtualServer{ServiceKey: ServiceKey{Addr: vip, Port: uint16(1000 + i), Protocol: TCP}, Scheduler: "rr", Method: DirectRouting}
		for j := range servers {
			r := RealServer{Addr: netip.AddrFrom4([4]byte{10, 2, byte(j / 250), byte(1 + j%250)}), Port: v.Port, Weight: 1}
			if checked {
				r.Checks = []Check{{
					Kind: CheckTCP, Dest: r.AddrPort(), ConnectTimeout: Duration(5 * time.Second), Retry: 1,
					DelayBeforeRetry: Duration(time.Second), DelayLoop: Duration(time.Minute),
				}}
			}
			v.RealServers = append(v.RealServers, r)
		}
		cfg.Services = append(cfg.Services, v)
	}
	return cfg
}

// large is a table of one director, to which commands are applied.
type large struct {
	t     testing.TB
	table *Table
}

func newLarge(t testing.TB) *large {
	f := &large{t, New()}
	f.do(Command{Found: &Found{Cluster: "c1", Name: "dir1", Addr: netip.MustParseAddrPort("10.9.0.1:7946"), Profile: "default"}})
	return f
}

func (f *large) do(c Command) {
	f.t.Helper()
	c.By, c.At = "root", time.Unix(1, 0)
	next, _, err := f.table.Apply(c)
	if err != nil {
		f.t.Fatal(err)
	}
	f.table = next
}

func (f *large) apply(cfg Config) { f.do(Command{Apply: &ApplySet{Set: "default", Config: cfg}}) }

// reweighed is cfg with another weight of one server.
func reweighed(cfg Config, service, server, weight int) Config {
	cfg.Services = slices.Clone(cfg.Services)
	v := &cfg.Services[service]
	v.RealServers = slices.Clone(v.RealServers)
	v.RealServers[server].Weight = weight
	return cfg
}

func BenchmarkApply(b *testing.B) {
	for _, checked := range []bool{false, true} {
		cfg := sized(100, 100, checked)
		b.Run(fmt.Sprintf("first/checked=%v", checked), func(b *testing.B) {
			empty := newLarge(b)
			for b.Loop() {
				f := *empty
				f.apply(cfg)
			}
		})
		b.Run(fmt.Sprintf("weight/checked=%v", checked), func(b *testing.B) {
			f := newLarge(b)
			f.apply(cfg)
			for i := 0; b.Loop(); i++ {
				f.apply(reweighed(cfg, 50, 50, 2+i%2))
			}
		})
		b.Run(fmt.Sprintf("override/checked=%v", checked), func(b *testing.B) {
			f := newLarge(b)
			f.apply(cfg)
			for i := 0; b.Loop(); i++ {
				weight := 2 + i%2
				v := f.table.Services[50]
				f.do(Command{Override: &SetOverride{Service: v.ServiceKey, Server: v.RealServers[50].AddrPort(), Weight: &weight}})
			}
		})
	}
}

func BenchmarkCodec(b *testing.B) {
	cmd := Command{At: time.Unix(1, 0), Apply: &ApplySet{Set: "default", Config: sized(100, 100, false)}}
	data, err := cmd.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			_, _ = cmd.Encode()
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			_, _ = Decode(data)
		}
	})
}

func BenchmarkEffective(b *testing.B) {
	f := newLarge(b)
	f.apply(sized(100, 100, true))
	for b.Loop() {
		f.table.Effective()
	}
}
