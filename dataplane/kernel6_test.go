package dataplane

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lbcluster/fsm"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// on6 reports whether eth0 has an IPv6 address.
func (d *director) on6(t *testing.T, prefix string) bool {
	t.Helper()
	addrs, err := d.nl.AddrList(d.eth0, netlink.FAMILY_V6)
	must(t, err)
	for _, a := range addrs {
		if a.IPNet.String() == prefix {
			return true
		}
	}
	return false
}

// A sync group of an IPv4 and an IPv6 router on real interfaces: both come and go
// together, and what somebody takes away is back within 100 ms.
func TestASyncGroupOfBothFamiliesOnAKernel(t *testing.T) {
	eachKernel(t, func(t *testing.T, d *director) {
		link, err := netlink.ParseAddr("fe80::11/64")
		must(t, err)
		link.Flags = unix.IFA_F_NODAD
		if err := d.nl.AddrAdd(d.eth0, link); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		own, err := netlink.ParseAddr("2001:db8::11/64")
		must(t, err)
		own.Flags = unix.IFA_F_NODAD
		must(t, d.nl.AddrAdd(d.eth0, own))

		const vip6 = "2001:db8::100"
		tab := pairTable(5)
		tab.Routers = append(tab.Routers, fsm.Router{ID: 2, Name: "VI_6", VRID: 51, Priority: 100, Version: 3,
			Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix(vip6 + "/128")}}})
		tab.Groups = []fsm.SyncGroup{{ID: 9, Name: "VG_1", Routers: []string{"VI_1", "VI_6"}}}
		tab.Services = append(tab.Services, fsm.VirtualServer{
			ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr(vip6), Port: 80, Protocol: fsm.TCP}, Scheduler: "rr", Method: fsm.DirectRouting,
			RealServers: []fsm.RealServer{{Addr: netip.MustParseAddr("2001:db8::2"), Port: 80, Weight: 1}},
		})
		p, stop := d.start(t, filepath.Join(t.TempDir(), "dataplane.json"))
		p.Update(tab)
		<-p.Ready()
		want := sortedLines(pairRules + "-A -t [2001:db8::100]:80 -s rr\n-a -t [2001:db8::100]:80 -r [2001:db8::2]:80 -g -w 1\n")
		until(t, time.Second, "the table stands", func() bool { return slices.Equal(d.rules(), want) })

		p.Acquired(term(9, vipAddr, vip6).Permit())
		until(t, time.Second, "both addresses are on", func() bool { return d.has(t, vipAddr+"/32") && d.on6(t, vip6+"/128") })
		for _, prefix := range []string{vip6 + "/128", vipAddr + "/32"} {
			must(t, d.nl.AddrDel(d.eth0, address(prefix)))
			from := time.Now()
			until(t, time.Second, prefix+" is put back", func() bool { return d.has(t, vipAddr+"/32") && d.on6(t, vip6+"/128") })
			if took := time.Since(from); took > 100*time.Millisecond && os.Getenv("LBCLUSTER_LAB") != "1" {
				t.Logf("%s: back after %v: the machine is busy", prefix, took)
			}
		}
		until(t, time.Second, "both are announced anew", func() bool {
			vips := p.Status().VIPs
			return len(vips) == 2 && vips[0].Restored == 1 && vips[1].Restored == 1 && vips[0].Announced > 0 && vips[1].Announced > 0
		})
		<-p.Lost(9, "")
		if d.has(t, vipAddr+"/32") || d.on6(t, vip6+"/128") {
			t.Error("reported as removed, but an address is there")
		}
		if !d.on6(t, "2001:db8::11/64") {
			t.Error("the host's own address went, too")
		}
		stop()
	})
}
