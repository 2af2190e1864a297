package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"lbcluster/dataplane/vip"
)

// host is interfaces with addresses, for RemoveLeftovers.
type leftHost struct {
	vmacsGone []string
	snap      vip.Snapshot
	err       error
}

func (h *leftHost) Snapshot() (vip.Snapshot, error) { return h.snap, h.err }

func (h *leftHost) Remove(index int, p netip.Prefix) error {
	if index == 9 {
		return errors.New("no such device")
	}
	for i, a := range h.snap.Addrs {
		if a.Index == index && a.Prefix == p {
			h.snap.Addrs = append(h.snap.Addrs[:i:i], h.snap.Addrs[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("%s is not there", p)
}

// TestRemoveLeftovers: what the record names is removed where it stands, by its
// exact prefix; everything else stays. Again there is nothing to do.
func TestRemoveLeftovers(t *testing.T) {
	at := func(index int, p string) vip.Addr { return vip.Addr{Index: index, Prefix: netip.MustParsePrefix(p)} }
	h := &leftHost{snap: vip.Snapshot{
		Links: []vip.Link{{Index: 2, Name: "eth0"}, {Index: 3, Name: "eth1"}, {Index: 9, Name: "bad"}},
		Addrs: []vip.Addr{at(2, "10.0.0.11/24"), at(2, "10.0.0.100/32"), at(2, "10.0.0.101/24"), at(3, "10.0.0.102/32"), at(2, "fd00::64/128"), at(9, "10.0.0.103/32")},
	}}
	state := filepath.Join(t.TempDir(), "dataplane.json")
	record := `{"cluster":"c1","revision":7,"services":["tcp/10.0.0.100:80"],"addresses":[
		{"dev":"eth0","prefix":"10.0.0.100/32"},{"dev":"eth0","prefix":"10.0.0.101/32"},
		{"dev":"eth0","prefix":"10.0.0.102/32"},{"dev":"gone","prefix":"10.0.0.100/32"},
		{"dev":"bad","prefix":"10.0.0.103/32"},{"dev":"eth0","prefix":"fd00::64/128"}]}`
	if err := os.WriteFile(state, []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	removed, err := RemoveLeftovers(state, h)
	if fmt.Sprint(removed) != "[10.0.0.100/32 on eth0 fd00::64/128 on eth0]" || err == nil {
		t.Errorf("removed %v, %v", removed, err)
	}
	if len(h.snap.Addrs) != 4 {
		t.Errorf("left: %v", h.snap.Addrs)
	}
	if removed, _ := RemoveLeftovers(state, h); len(removed) != 0 {
		t.Errorf("again: %v", removed)
	}
}

// TestRemoveLeftoversWithoutRecord: nothing known, nothing touched.
func TestRemoveLeftoversWithoutRecord(t *testing.T) {
	h := &leftHost{err: errors.New("not to be asked")}
	if removed, err := RemoveLeftovers(filepath.Join(t.TempDir(), "none"), h); removed != nil || err != nil {
		t.Errorf("%v, %v", removed, err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := RemoveLeftovers(bad, h); err == nil {
		t.Error("a record that cannot be read is no error")
	}
}
