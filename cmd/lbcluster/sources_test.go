package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// twoDirectors have an address for the cluster and one in the VIPs' network each.
func twoDirectors() *fsm.Table {
	member := func(id, name, addr, beside string, role fsm.Role) fsm.Member {
		return fsm.Member{ID: fsm.MemberID(id), Name: name, Role: role, Addr: netip.MustParseAddrPort(addr), Networks: []fsm.Network{{Prefix: netip.MustParsePrefix(beside)}}}
	}
	return &fsm.Table{Members: []fsm.Member{
		member("m1", "lb1", "192.168.0.1:7000", "10.0.0.11/24", fsm.Director),
		member("m2", "lb2", "192.168.0.2:7000", "10.0.0.12/24", fsm.Director),
		member("m3", "w", "192.168.0.3:7000", "10.0.0.13/24", fsm.Witness),
	}}
}

// TestDirectorOf: the command line before the addresses, these before names.
func TestDirectorOf(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	for _, tt := range []struct {
		name string
		s    nodeSource
		want string
	}{
		{"the address in the VIPs' network", nodeSource{file: "k.conf", from: addrs("10.0.0.12")}, "lb2"},
		{"the cluster's address", nodeSource{file: "k.conf", from: addrs("192.168.0.1")}, "lb1"},
		{"one of several", nodeSource{file: "k.conf", from: addrs("10.7.7.7", "10.0.0.12")}, "lb2"},
		{"before router_id and the file's name", nodeSource{file: "lb1.conf", routerID: "lb1", from: addrs("10.0.0.12")}, "lb2"},
		{"the command line before it", nodeSource{file: "k.conf", node: "lb1", from: addrs("10.0.0.12")}, "lb1"},
		{"a contradiction: then the name", nodeSource{file: "lb1.conf", from: addrs("10.0.0.11", "10.0.0.12")}, "lb1"},
		{"a witness's", nodeSource{file: "k.conf", from: addrs("10.0.0.13")}, ""},
		{"nobody's, but a name", nodeSource{file: "etc/lb2/k.conf", from: addrs("10.0.0.99")}, "lb2"},
		{"nobody's", nodeSource{file: "k.conf", from: addrs("10.0.0.99")}, ""},
	} {
		m, err := directorOf(twoDirectors(), tt.s)
		if err != nil || m.Name != tt.want {
			t.Errorf("%s: %q, want %q (%v)", tt.name, m.Name, tt.want, err)
		}
	}
}

// TestSpeaking: a node's file has the node's address, as it says itself or as
// the networks of the directors show, and those of the other directors.
func TestSpeaking(t *testing.T) {
	router := func(src string, unicast bool) fsm.Config {
		r := fsm.Router{ID: 5, Name: "V", Peering: fsm.Peering{Unicast: unicast, Peers: []fsm.Peer{{Addr: netip.MustParseAddr("10.0.0.99")}}}}
		if src != "" {
			r.Peering.Source = netip.MustParseAddr(src)
		}
		return fsm.Config{Routers: []fsm.Router{r}}
	}
	says := func(id, from string) api.StatusReport {
		s := api.DirectorStatus{VRRP: []api.VRRPStatus{{Router: 5, Source: netip.MustParseAddr(from)}, {Router: 6, Source: netip.MustParseAddr("1.1.1.1")}}}
		return api.StatusReport{Members: []api.MemberReport{{Member: fsm.Member{ID: fsm.MemberID(id)}, DirectorReply: api.DirectorReply{Status: &s}}}}
	}
	far := twoDirectors()
	far.Members[1].Networks = nil
	for _, tt := range []struct {
		name   string
		table  *fsm.Table
		report api.StatusReport
		cfg    fsm.Config
		own    string
		others string
		notes  string
	}{
		{"what it says", twoDirectors(), says("m1", "10.0.0.7"), router("10.0.0.12", true), "10.0.0.7", "10.0.0.12", ""},
		{"what is named is its own", twoDirectors(), api.StatusReport{}, router("10.0.0.11", true), "10.0.0.11", "10.0.0.12", ""},
		{"beside what is named", twoDirectors(), api.StatusReport{}, router("10.0.0.12", true), "10.0.0.11", "10.0.0.12", ""},
		{"beside the peers", twoDirectors(), api.StatusReport{}, router("", true), "10.0.0.11", "10.0.0.12", ""},
		{"multicast with a source", twoDirectors(), api.StatusReport{}, router("10.0.0.12", false), "10.0.0.11", "", ""},
		{"multicast", twoDirectors(), says("m1", "10.0.0.7"), router("", false), "", "", ""},
		{"the other is not known", far, api.StatusReport{}, router("", true), "10.0.0.11", "", "where lb2 sends the adverts of V from is not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			a := &app{errOut: &out}
			var n conf.Node
			a.speaking(&n, tt.report, tt.table, tt.table.Members[0], tt.cfg)
			own, others := "", ""
			if n.Sources["V"].IsValid() {
				own = n.Sources["V"].String()
			}
			for _, o := range n.Others["V"] {
				others += o.String()
			}
			if own != tt.own || others != tt.others || (out.Len() > 0) != (tt.notes != "") || !strings.Contains(out.String(), tt.notes) {
				t.Errorf("own %q others %q notes %q", own, others, out.String())
			}
		})
	}
}

// A machine that is no member has none of the directors' addresses.
func TestStrangerSpeaks(t *testing.T) {
	var out bytes.Buffer
	a := &app{errOut: &out}
	n := conf.Node{Name: "lb9"}
	cfg := fsm.Config{Routers: []fsm.Router{{Name: "V", Peering: fsm.Peering{Source: netip.MustParseAddr("10.0.0.12"), Unicast: true}}}}
	a.strangerSpeaks(&n, twoDirectors(), cfg)
	if src, known := n.Sources["V"]; !known || src.IsValid() || len(n.Others["V"]) != 2 || !strings.Contains(out.String(), "lb2's: left out for lb9") {
		t.Errorf("%+v %s", n, out.String())
	}
}
