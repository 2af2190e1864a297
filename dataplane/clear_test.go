package dataplane

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lbcluster/dataplane/ipvs/ipvstest"
	"lbcluster/dataplane/vip"
)

// clearHost is a leftHost with sysctls.
type clearHost struct {
	leftHost
	sysctls map[string]string
}

func (h *clearHost) Sysctl(name string) (string, error) {
	v, ok := h.sysctls[name]
	if !ok {
		return "", os.ErrNotExist
	}
	return v, nil
}

func (h *clearHost) SetSysctl(name, value string) error { h.sysctls[name] = value; return nil }

const clearRecord = `{"cluster":"c1","revision":7,"services":["tcp/10.0.0.100:80"],
	"addresses":[{"dev":"eth0","prefix":"10.0.0.100/32"}],
	"loopback":["10.0.0.101/32"],
	"sysctls":{"net.ipv4.conf.all.arp_ignore":"0","net.ipv4.conf.all.arp_announce":"0"}}`

func newClearHost() *clearHost {
	at := func(index int, p string) vip.Addr { return vip.Addr{Index: index, Prefix: netip.MustParsePrefix(p)} }
	return &clearHost{
		leftHost{snap: vip.Snapshot{
			Links: []vip.Link{{Index: 1, Name: "lo", Loopback: true}, {Index: 2, Name: "eth0"}},
			Addrs: []vip.Addr{at(1, "127.0.0.1/8"), at(1, "10.0.0.101/32"), at(1, "10.0.0.102/32"), at(2, "10.0.0.11/24"), at(2, "10.0.0.100/32")},
		}},
		map[string]string{"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "1"},
	}
}

// Ours goes: addresses, lo, sysctls that are as we set them, services, the hidden
// one too. What others made stays. A second time there is nothing to do.
func TestClear(t *testing.T) {
	h, k := newClearHost(), &ipvstest.Kernel{}
	if err := k.Set("-A -t 10.0.0.100:80 -s wlc\n-a -t 10.0.0.100:80 -r 10.0.0.2:80 -g -w 1\n-A -f 1818361857 -s rr\n-A -u 10.0.0.9:53 -s rr\n"); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "dataplane.json")
	if err := os.WriteFile(state, []byte(clearRecord), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Clear(state, k, h, nil, nil); err != nil {
			t.Fatal(err)
		}
		if got := k.String(); strings.Count(got, "-A ") != 1 || !strings.Contains(got, "-A -u 10.0.0.9:53") {
			t.Errorf("IPVS has\n%s", got)
		}
		if len(h.snap.Addrs) != 3 || h.snap.Has(1, netip.MustParsePrefix("10.0.0.101/32")) || h.snap.Has(2, netip.MustParsePrefix("10.0.0.100/32")) {
			t.Errorf("left: %v", h.snap.Addrs)
		}
		if h.sysctls["net.ipv4.conf.all.arp_ignore"] != "0" || h.sysctls["net.ipv4.conf.all.arp_announce"] != "1" {
			t.Errorf("sysctls: %v (arp_announce was changed by somebody else since)", h.sysctls)
		}
		if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the record is still there: %v", err)
		}
	}
}

// What can't be removed is told, stays in the record, and hinders nothing else.
func TestClearGoesOnAfterAFailure(t *testing.T) {
	h, k := newClearHost(), &ipvstest.Kernel{}
	delete(h.sysctls, "net.ipv4.conf.all.arp_ignore")
	if err := k.Set("-A -t 10.0.0.100:80 -s wlc\n"); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "dataplane.json")
	if err := os.WriteFile(state, []byte(clearRecord), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Clear(state, k, h, nil, nil); err == nil || !strings.Contains(err.Error(), "put back net.ipv4.conf.all.arp_ignore") {
		t.Errorf("error: %v", err)
	}
	if k.String() != "" || len(h.snap.Addrs) != 3 {
		t.Errorf("left: %q, %v", k.String(), h.snap.Addrs)
	}
	if _, err := os.Stat(state); err != nil {
		t.Errorf("the record: %v", err)
	}
}

func (h *leftHost) RemoveVMAC(name string, _ net.HardwareAddr) error {
	h.vmacsGone = append(h.vmacsGone, name)
	return nil
}

func (h *leftHost) AnswerAnywhere(string) error { return nil }

// Both ways out take the interfaces of virtual routers away.
func TestVMACsGoWithTheMember(t *testing.T) {
	for name, out := range map[string]func(state string, h *clearHost) error{
		"Clear": func(state string, h *clearHost) error { return Clear(state, &ipvstest.Kernel{}, h, nil, nil) },
		"Release": func(state string, h *clearHost) error {
			_, err := Release(state, &ipvstest.Kernel{}, h, nil)
			return err
		},
	} {
		h, state := newClearHost(), filepath.Join(t.TempDir(), "dataplane.json")
		if err := os.WriteFile(state, []byte(`{"vmacs":[{"name":"vrrp.51","mac":"00:00:5e:00:01:33","base":"eth0"}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := out(state, h); err != nil || !slices.Equal(h.vmacsGone, []string{"vrrp.51"}) {
			t.Errorf("%s: removed %v: %v", name, h.vmacsGone, err)
		}
	}
}
