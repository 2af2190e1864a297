package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lbcluster/cluster"
	"lbcluster/cluster/api"
	"lbcluster/dataplane"
	"lbcluster/fsm"
)

// ejectedNode leaves and abandons as it is told.
type ejectedNode struct {
	fails string
	did   []string
}

func (n *ejectedNode) step(name string) error {
	n.did = append(n.did, name)
	if slices.Contains(strings.Fields(n.fails), name) {
		return errors.New(name + " fails")
	}
	return nil
}

func (n *ejectedNode) Leave(context.Context) error {
	if n.fails == "last" {
		n.did = append(n.did, "leave")
		return fmt.Errorf("leave: %w", cluster.ErrLastMember)
	}
	return n.step("leave")
}

func (n *ejectedNode) Abandon(context.Context) error { return n.step("abandon") }

// A cluster is abandoned only if it does not agree, and only by force.
func TestLeaveOrAbandon(t *testing.T) {
	for _, tt := range []struct {
		fails     string
		force     bool
		did       string
		abandoned string
		err       bool
	}{
		{"", false, "leave", "", false},
		{"", true, "leave", "", false},
		{"leave", false, "leave", "", true},
		{"leave", true, "leave abandon", "leave fails", false},
		{"leave abandon", true, "leave abandon", "leave fails", true},
		{"last", true, "leave abandon", "", false}, // nobody is left who could disagree
		{"last", false, "leave", "", true},
	} {
		n := &ejectedNode{fails: tt.fails}
		abandoned, err := leaveOrAbandon(t.Context(), n, tt.force)
		if got := strings.Join(n.did, " "); got != tt.did || abandoned != tt.abandoned || (err != nil) != tt.err {
			t.Errorf("%q, force %v: did %s, %q, %v", tt.fails, tt.force, got, abandoned, err)
		}
	}
}

// The gate is not taken away while an address may be left.
func TestTheGateGoesLast(t *testing.T) {
	for _, tt := range []struct {
		addresses, ungate error
		asked             bool
		err               string
	}{
		{nil, nil, true, ""},
		{errors.New("busy"), nil, false, "the gate stays, closed"},
		{nil, errors.New("busy"), true, "take the gate away"},
	} {
		asked := false
		_, err := release(
			func() (dataplane.Released, error) { return dataplane.Released{}, tt.addresses },
			func() error { asked = true; return tt.ungate })
		if asked != tt.asked || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v, %v: the gate was taken: %v, error %v", tt.addresses, tt.ungate, asked, err)
		}
	}
}

// A VIP is dark unless another director could hold it now, or a VRRP peer speaks.
func TestDarkWithout(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *api.StatusReport, table *fsm.Table)
		dark   string // part of the only sentence; empty: none
	}{
		{"well", nil, ""},
		{"owned elsewhere, whatever else", func(r *api.StatusReport, _ *fsm.Table) { r.Routers[0].Owner, r.Members[1].Status = "m2", nil }, ""},
		{"owned by nobody that is known", func(r *api.StatusReport, _ *fsm.Table) { r.Routers[0].Owner, r.Members[1].Drained = "", true }, "VI_1 (10.0.0.1)"},
		{"the other is drained", func(r *api.StatusReport, _ *fsm.Table) { r.Members[1].Drained = true }, "VI_1"},
		{"the other leaves", func(r *api.StatusReport, _ *fsm.Table) { r.Members[1].State = fsm.Leaving }, "VI_1"},
		{"the other is a witness", func(r *api.StatusReport, _ *fsm.Table) { r.Members[1].Role = fsm.Witness }, "VI_1"},
		{"the other does not answer", func(r *api.StatusReport, _ *fsm.Table) { r.Members[1].Status = nil }, "VI_1"},
		{"the other is unfit", func(r *api.StatusReport, _ *fsm.Table) { r.Members[1].Status.Leases[0].Unfit = "no link" }, "VI_1"},
		{"the other has no table", func(r *api.StatusReport, _ *fsm.Table) { r.Members[1].Status.Kernel.Applied = false }, "VI_1"},
		{"another unit's lease", func(r *api.StatusReport, _ *fsm.Table) { r.Members[1].Status.Leases[0].Router = 9 }, "VI_1"},
		{"drained, but a peer speaks", func(r *api.StatusReport, _ *fsm.Table) {
			r.Members[1].Drained = true
			r.Routers[0].Speakers = []api.SpeakerReport{{Speaker: api.Speaker{AgeMS: 400}}}
		}, ""},
		{"drained, and the peer has gone silent", func(r *api.StatusReport, _ *fsm.Table) {
			r.Members[1].Drained = true
			r.Routers[0].Speakers = []api.SpeakerReport{{Speaker: api.Speaker{AgeMS: 11000}}}
		}, "VI_1"},
		{"drained, and only a member speaks", func(r *api.StatusReport, _ *fsm.Table) {
			r.Members[1].Drained = true
			r.Routers[0].Speakers = []api.SpeakerReport{{Speaker: api.Speaker{AgeMS: 400}, Member: "dir1"}}
		}, "VI_1"},
		{"no majority", func(r *api.StatusReport, _ *fsm.Table) { r.Survival.Answering = 1 }, "only 1 of 3 voters"},
		{"alone", func(_ *api.StatusReport, table *fsm.Table) { table.Members = table.Members[:1] }, "the only member"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			self := fsm.Member{ID: "m1", Role: fsm.Director, State: fsm.Present}
			other := fsm.Member{ID: "m2", Role: fsm.Director, State: fsm.Present}
			table := &fsm.Table{Members: []fsm.Member{self, other}}
			report := api.StatusReport{
				Self: "m1", Survival: api.Survival{Voters: 3, Answering: 3, Majority: 2},
				Routers: []api.RouterReport{{Name: "VI_1", Unit: 1, Owner: "m1", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}},
				Members: []api.MemberReport{{Member: self}, {Member: other, DirectorReply: api.DirectorReply{Status: &api.DirectorStatus{
					Kernel: api.KernelStatus{Applied: true}, Leases: []api.LeaseStatus{{Router: 1}},
				}}}},
			}
			if tt.change != nil {
				tt.change(&report, table)
			}
			dark := darkWithout(report, table, self)
			if (tt.dark == "") != (len(dark) == 0) || tt.dark != "" && (len(dark) != 1 || !strings.Contains(dark[0], tt.dark)) {
				t.Errorf("dark: %q, want %q", dark, tt.dark)
			}
		})
	}
}

// A machine that is in no cluster has nothing to eject.
func TestEjectNeedsAMember(t *testing.T) {
	node, err := cluster.New(cluster.Config{Dir: t.TempDir(), Name: "dir1", Addr: netip.MustParseAddrPort("127.0.0.1:7500")})
	if err != nil {
		t.Fatal(err)
	}
	d := &theDaemon{node: node, vacate: make(chan departure)}
	if _, err := d.Eject(t.Context(), api.EjectRequest{Force: true}); err == nil {
		t.Error("ejected")
	}
}
