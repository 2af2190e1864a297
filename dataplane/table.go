package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// Want is the IPVS table that the replicated table asks for, sorted by key. It
// depends on nothing else, so that two directors with the same table have the
// same services.
func Want(t *fsm.Table) []ipvs.Service {
	var out []ipvs.Service
	for _, s := range t.Effective() {
		out = append(out, wantService(s))
	}
	ipvs.Sort(out)
	return out
}

func wantService(s fsm.Service) ipvs.Service {
	w := ipvs.Service{
		Key:       wantKey(s.ServiceKey),
		Scheduler: s.Scheduler,
	}
	if s.Persistence > 0 {
		w.Flags |= ipvs.Persistent
		w.Timeout = uint32(s.Persistence.D() / time.Second)
		w.Mask = s.PersistenceMask // 0: each client alone
		w.Engine = s.PersistenceEngine
	}
	for flag, on := range map[ipvs.Flags]bool{ipvs.OnePacket: s.OnePacket, ipvs.Sched1: s.HashFallback, ipvs.Sched2: s.HashPort} {
		if on {
			w.Flags |= flag
		}
	}
	for _, d := range s.Dests {
		w.Dests = append(w.Dests, ipvs.Dest{
			DestKey: ipvs.DestKey{Addr: d.Addr, Port: d.Port},
			Method:  methods[d.Method],
			Weight:  d.Weight, Upper: d.UpperThreshold, Lower: d.LowerThreshold,
		})
	}
	return w.Canonical()
}

var methods = map[fsm.Method]ipvs.Method{
	fsm.DirectRouting: ipvs.DirectRouting, fsm.Tunnel: ipvs.Tunnel, fsm.Masquerade: ipvs.Masquerade,
}

var protocols = map[fsm.Protocol]ipvs.Protocol{fsm.TCP: ipvs.TCP, fsm.UDP: ipvs.UDP, fsm.SCTP: ipvs.SCTP}

func wantKey(k fsm.ServiceKey) ipvs.Key {
	if k.Mark != 0 {
		return ipvs.Key{Mark: k.Mark, V6: k.V6}
	}
	return ipvs.Key{Addr: k.Addr, Port: k.Port, Protocol: protocols[k.Protocol]}
}

// targets finds the interface of each of the router's addresses on this host.
// The operator's names are looked up in names first; a name found there is
// meant literally. skip are the VIPs of all routers, which name no network.
func targets(r fsm.Router, names map[string]string, s vip.Snapshot, skip map[netip.Addr]bool, v vmacs) []target {
	var out []target
	for _, a := range r.Addresses {
		if r.VMAC != nil && a.Dev == "" {
			l, err := v.target(r, names, s, skip)
			out = append(out, target{prefix: a.Prefix, label: a.Label, link: l, err: err})
			continue
		}
		configured := a.Dev
		if configured == "" {
			configured = r.Interface
		}
		l, err := choose(a.Prefix.Addr(), configured, names, s, skip)
		out = append(out, target{prefix: a.Prefix, label: a.Label, link: l, err: err})
	}
	return out
}

func choose(addr netip.Addr, configured string, names map[string]string, s vip.Snapshot, skip map[netip.Addr]bool) (vip.Link, error) {
	local, mapped := names[configured]
	if !mapped {
		return vip.Choose(addr, configured, s, skip)
	}
	l, ok := s.Named(local)
	if !ok {
		return vip.Link{}, fmt.Errorf("%w for %s: this host has no %s, which its configuration gives for %s", vip.ErrNoInterface, addr, local, configured)
	}
	return l, nil
}

// Speaker is a virtual router as the VRRP speaker needs it on this host.
type Speaker struct {
	Router fsm.Router
	// Interface is that of the router's first address that has one here; below it,
	// where the router has one of its own.
	Interface string
	Index     int
	Down      bool // its link: nothing can be heard there
	// Via is the router's own interface, which adverts leave by so that they carry
	// its MAC; empty: they leave by Interface.
	Via string
}

// speakers lists the routers whose addresses have an interface here.
func speakers(t *fsm.Table, places map[uint64][]target, below map[uint64]vip.Link) []Speaker {
	var out []Speaker
	for _, r := range t.Routers {
		i := slices.IndexFunc(places[r.ID], func(t target) bool { return t.err == nil })
		if i >= 0 {
			l, via := places[r.ID][i].link, ""
			if base, ok := below[r.ID]; ok && l.Name == r.VMACName() {
				if !r.VMAC.XmitBase {
					via = l.Name
				}
				l = base
			}
			out = append(out, Speaker{Router: r, Interface: l.Name, Index: l.Index, Down: !ready(l), Via: via})
		}
	}
	return out
}
