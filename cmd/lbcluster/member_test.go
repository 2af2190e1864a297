package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster"
	"lbcluster/cluster/api"
	"lbcluster/cluster/lease"
	"lbcluster/dataplane"
	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/gate"
	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
	"lbcluster/journal"
)

var (
	vipA = netip.MustParseAddr("172.25.88.100")
	vipB = netip.MustParseAddr("172.25.88.101")
)

func threeMembers() *fsm.Table {
	addr := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	return &fsm.Table{
		Cluster: "c",
		Members: []fsm.Member{
			{ID: "m1", Name: "dir1", Role: fsm.Director, State: fsm.Present, Addr: addr("172.25.88.11:7500")},
			{ID: "m2", Name: "dir2", Role: fsm.Director, State: fsm.Present, Addr: addr("172.25.88.12:7500")},
			{ID: "m3", Name: "wit", Role: fsm.Witness, State: fsm.Present, Addr: addr("172.25.88.13:7500")},
		},
		Routers: []fsm.Router{{ID: 1, Name: "VI_1", Addresses: []fsm.Address{
			{Prefix: netip.PrefixFrom(vipA, 32)}, {Prefix: netip.PrefixFrom(vipB, 32)},
		}}},
	}
}

func TestLeaseWantAsksForWhatTheGateHolds(t *testing.T) {
	none := func(netip.Addr) bool { return false }
	onlyA := func(a netip.Addr) bool { return a == vipA }
	all := func(netip.Addr) bool { return true }
	for _, c := range []struct {
		name   string
		self   fsm.MemberID
		guards func(netip.Addr) bool
		addrs  []netip.Addr
		rank   int
	}{
		{"first in order", "m1", all, []netip.Addr{vipA, vipB}, 0},
		{"second in order", "m2", all, []netip.Addr{vipA, vipB}, 1},
		{"a witness never stands", "m3", all, []netip.Addr{vipA, vipB}, -1},
		{"a new address costs nothing that is held", "m1", onlyA, []netip.Addr{vipA}, 0},
		{"no gate, no VIP", "m1", none, nil, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := leaseWant(c.self, threeMembers(), fsm.VoterSet{}, c.guards, (*unitFitness)(nil).why)
			if r := w.Routers[0]; r.Rank != c.rank || !slices.Equal(r.Addrs, c.addrs) || r.ID != 1 {
				t.Errorf("got %+v, want rank %d, addresses %v", r, c.rank, c.addrs)
			}
			if _, ok := w.Peers[c.self]; ok || len(w.Peers) != 2 {
				t.Errorf("peers: %v", w.Peers)
			}
		})
	}
}

// refusing is a gate that fails with an error.
type refusing struct{ err error }

func (r refusing) SetVIPs([]dataplane.Guarded) error   { return r.err }
func (r refusing) SetMembers([]net.HardwareAddr) error { return r.err }

func TestGateKeysKnowWhatWasTaken(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		has  bool
	}{
		{"taken", nil, true},
		{"an old address is still there, the new ones are taken", gate.ErrAddressPresent, true},
		{"refused", errors.New("no memory"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &gateKeys{gate: refusing{c.err}, changed: make(chan struct{}, 1)}
			if err := k.SetVIPs([]dataplane.Guarded{{Addr: vipA}}); !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if k.has(vipA) != c.has || k.has(vipB) {
				t.Errorf("has: %v, %v", k.has(vipA), k.has(vipB))
			}
			if told := len(k.changed) == 1; told != c.has {
				t.Errorf("the feed was told: %v", told)
			}
		})
	}
}

// A member is known by each of its addresses, so that its adverts alarm nobody
// on whatever network they are heard.
func TestMembersAreKnownByAllTheirAddresses(t *testing.T) {
	tab := threeMembers()
	tab.Members[1].Networks = []fsm.Network{{Prefix: netip.MustParsePrefix("192.0.2.12/24")}, {Prefix: netip.MustParsePrefix("fe80::12/64")}}
	for a, want := range map[string]bool{
		tab.Members[1].Addr.Addr().String(): true, "192.0.2.12": true, "fe80::12": true, "192.0.2.13": false, "fe80::13": false,
	} {
		if got := isMember(tab, netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
}

// recorder is an owner that remembers.
type recorder struct{ calls []string }

func (r *recorder) Acquired(p fence.Permit) { r.calls = append(r.calls, "acquired") }
func (r *recorder) Lost(uint64, string) <-chan struct{} {
	r.calls = append(r.calls, "lost")
	return nil
}

func TestTenuresCountTenuresNotPermits(t *testing.T) {
	owner := &recorder{}
	var _ lease.Owner = owner
	ten := newTenures(owner, nil, func(journal.Entry) {}, func(uint64) fsm.MemberID { return "" })
	now := int64(1)
	permit := fence.NewTerm(7, []netip.Addr{vipA}, 100, func() int64 { return now }).Permit()
	ten.Lost(7, "never held")
	ten.Acquired(permit)
	ten.Acquired(permit) // other addresses, same tenure
	if since, n := ten.of(7); since.IsZero() || time.Since(since) > time.Minute || n != (tally{1, 0}) {
		t.Errorf("held: since %v, %+v", since, n)
	}
	ten.Lost(7, "the daemon stops")
	if since, n := ten.of(7); !since.IsZero() || n != (tally{1, 1}) {
		t.Errorf("lost: since %v, %+v", since, n)
	}
	if got := len(owner.calls); got != 4 {
		t.Errorf("the data plane heard %v", owner.calls)
	}
	first, second := <-ten.reports, <-ten.reports
	if !first.Owns || second.Owns || second.Why != "the daemon stops" || len(ten.reports) != 0 {
		t.Errorf("reports: %+v, %+v and %d more", first, second, len(ten.reports))
	}
}

func TestTenuresNeverBlock(t *testing.T) {
	ten := newTenures(&recorder{}, nil, func(journal.Entry) {}, func(uint64) fsm.MemberID { return "" })
	for i := range uint64(1000) {
		ten.Acquired(fence.NewTerm(i, nil, 1, func() int64 { return 0 }).Permit())
	}
	if len(ten.reports) != cap(ten.reports) {
		t.Errorf("%d reports wait", len(ten.reports))
	}
}

func TestDroppedLeavesOutWhatNeverHappened(t *testing.T) {
	got := map[string]uint64{}
	addDropped(got, "lease_", map[string]uint64{"key": 3, "replay": 0})
	addDropped(got, "vrrp_", nil)
	if want := map[string]uint64{"lease_key": 3}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNodesErrorsInTheAPIsWords(t *testing.T) {
	for err, want := range map[error]error{
		cluster.ErrToken:      fsm.ErrInvalid,
		cluster.ErrWrongCA:    fsm.ErrDenied,
		cluster.ErrNoLeader:   api.ErrNoQuorum,
		cluster.ErrUncertain:  api.ErrNoQuorum,
		cluster.ErrUnenrolled: api.ErrNotEnrolled,
	} {
		got := asAPI(fmt.Errorf("joining: %w: more", err))
		if !errors.Is(got, want) || !strings.Contains(got.Error(), "more") {
			t.Errorf("%v became %v, want %v and its own words", err, got, want)
		}
	}
	if err := errors.New("other"); asAPI(err) != err || asAPI(nil) != nil {
		t.Error("what has no word of its own is changed")
	}
}

func TestNodeErrorsAreToldInTheAPIsWords(t *testing.T) {
	for from, to := range map[error]error{
		cluster.ErrUnenrolled: api.ErrNotEnrolled, cluster.ErrEnrolled: api.ErrEnrolled,
		cluster.ErrNoLeader: api.ErrNoQuorum, cluster.ErrUncertain: api.ErrNoQuorum,
		cluster.ErrToken: fsm.ErrInvalid, cluster.ErrWrongCA: fsm.ErrDenied,
		cluster.ErrRemoved: fsm.ErrDenied, cluster.ErrLastMember: fsm.ErrInvalid,
	} {
		got := asAPI(fmt.Errorf("doing something: %w", from))
		if !errors.Is(got, to) || !errors.Is(got, from) {
			t.Errorf("%v became %v, want it to be %v too", from, got, to)
		}
	}
	if err := asAPI(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
}

// A status that is being filled while the member ends must find its parts.
func TestCloseLeavesThePartsForWhoStillAsks(t *testing.T) {
	m := &member{kernel: ipvs.New("")}
	m.close()
	if m.kernel == nil {
		t.Error("a closed member has lost its parts")
	}
	m.discard()
	if m.kernel != nil {
		t.Error("a discarded data plane is still there")
	}
}
