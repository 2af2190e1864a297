package dataplane

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/ipvs/ipvstest"
)

// Addresses on interfaces and the hidden service go; services with their
// destinations, and what makes this machine a real server, stay.
func TestRelease(t *testing.T) {
	h, k := newClearHost(), &ipvstest.Kernel{}
	const stays = "-A -t 10.0.0.100:80 -s wlc\n-a -t 10.0.0.100:80 -r 10.0.0.2:80 -g -w 1\n-A -u 10.0.0.9:53 -s rr\n"
	must(t, k.Set(stays+"-A -f 1818361857 -s rr\n"))
	state := filepath.Join(t.TempDir(), "dataplane.json")
	must(t, os.WriteFile(state, []byte(clearRecord), 0o600))
	k.Done()
	out, err := Release(state, k, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Removed) != 1 || out.Removed[0].String() != "10.0.0.100/32 on eth0" || len(out.Loopback) != 1 {
		t.Errorf("released %+v", out)
	}
	if ops := k.Done(); len(ops) != 1 || ops[0].Verb != ipvs.RemoveService || ops[0].Service.Key.Mark != LocalMark {
		t.Errorf("did %v to IPVS", ops)
	}
	if h.snap.Has(2, netip.MustParsePrefix("10.0.0.100/32")) || !h.snap.Has(1, netip.MustParsePrefix("10.0.0.101/32")) {
		t.Errorf("left: %v", h.snap.Addrs)
	}
	if h.sysctls["net.ipv4.conf.all.arp_ignore"] != "1" {
		t.Errorf("sysctls: %v", h.sysctls)
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record is still there: %v", err)
	}
	if out, err := Release(state, k, h, nil); err != nil || len(out.Removed) != 0 {
		t.Errorf("a second time: %+v, %v", out, err)
	}
}

// What can't be removed is told, and the record stays.
func TestReleaseFails(t *testing.T) {
	h, k := newClearHost(), &ipvstest.Kernel{}
	must(t, k.Set("-A -f 1818361857 -s rr\n"))
	k.Fail = func(ipvs.Op) error { return errors.New("busy") }
	state := filepath.Join(t.TempDir(), "dataplane.json")
	must(t, os.WriteFile(state, []byte(clearRecord), 0o600))
	if _, err := Release(state, k, h, nil); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(state); err != nil {
		t.Errorf("the record: %v", err)
	}
}
