package interop

import (
	"net/netip"
	"slices"
	"testing"

	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

func read(t *testing.T, text string) fsm.Config {
	t.Helper()
	open := func(string) ([]byte, error) { return []byte(text), nil }
	r, problems := conf.Reader{Open: open, Glob: func(string) ([]string, error) { return nil, nil }, ConfigID: "peer"}.Read("x.conf")
	for _, p := range problems {
		t.Errorf("%v", p)
	}
	return r.Config
}

// The two files of each batch have the same routers but for what is to differ.
func TestConf(t *testing.T) {
	names := map[string]bool{}
	for _, b := range Batches {
		names[b.String()] = true
		ours, theirs := read(t, b.Ours()), read(t, b.Theirs(3))
		if len(ours.Routers) != len(Cells) || len(theirs.Routers) != len(Cells) {
			t.Fatalf("%s: %d and %d routers", b, len(ours.Routers), len(theirs.Routers))
		}
		for i, c := range Cells {
			checkRouters(t, b, c, ours.Routers[i], theirs.Routers[i])
			if got := ours.Routers[i].Addresses[0].Prefix.Addr().String(); got != b.VIP(i) {
				t.Errorf("%s: %s has %s, want %s", b, Router(i), got, b.VIP(i))
			}
		}
	}
	if len(names) != len(Batches) {
		t.Errorf("two batches have one name: %v", names)
	}
}

func checkRouters(t *testing.T, b Batch, c Cell, ours, theirs fsm.Router) {
	t.Helper()
	if len(ours.Peering.Peers) != 1 || ours.Peering.Unicast != b.Unicast || theirs.Peering.Unicast != b.Unicast {
		t.Fatalf("%s, %s: peers %+v and %+v", b, c, ours.Peering, theirs.Peering)
	}
	peer := ours.Peering.Peers[0].Addr
	if theirs.Peering.Source != peer {
		t.Errorf("%s, %s: the cluster listens to %s, the peer speaks from %s", b, c, peer, theirs.Peering.Source)
	}
	for _, s := range b.directors(3) {
		d := netip.MustParseAddr(s)
		if b.IPv6 && !b.Unicast {
			d = netip.MustParseAddr("fe80::1b:0:0:1") // as the lab's MACs make them
		}
		if c.Rank == EqualLow && d.Compare(peer) > 0 || c.Rank == EqualHigh && d.Compare(peer) < 0 {
			t.Errorf("%s, %s: the directors have %s, the peer %s", b, c, d, peer)
		}
		if b.Unicast && !slices.ContainsFunc(theirs.Peering.Peers, func(p fsm.Peer) bool { return p.Addr == d }) {
			t.Errorf("%s, %s: the peer does not know %s", b, c, d)
		}
	}
	want := map[Rank]int{Higher: 1, Lower: -1}[c.Rank]
	if got := int(ours.Priority) - int(theirs.Priority); got*want < 0 || (got == 0) != (want == 0) {
		t.Errorf("%s, %s: priorities %d and %d", b, c, ours.Priority, theirs.Priority)
	}
	if x, y := ours.AuthPass != "", ours.Peering.NoPreempt; x != b.Pass || y != c.NoPreempt || int(ours.Version) != b.Version {
		t.Errorf("%s, %s: password %v, nopreempt %v, version %d", b, c, x, y, ours.Version)
	}
	if ours.VRID != theirs.VRID || ours.AuthPass != theirs.AuthPass || ours.Version != theirs.Version || ours.AdvertInterval != theirs.AdvertInterval ||
		ours.Peering.NoPreempt != theirs.Peering.NoPreempt || !slices.Equal(ours.Addresses, theirs.Addresses) {
		t.Errorf("%s, %s: the two differ: %+v %+v", b, c, ours, theirs)
	}
}
