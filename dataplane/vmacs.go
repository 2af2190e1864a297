package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// recordedVMAC is an interface that we made.
type recordedVMAC struct {
	Name string `json:"name"`
	MAC  string `json:"mac"`
	Base string `json:"base"` // name of the interface below
	// Quiet: we set arp_ignore of the interface below, which was 0.
	Quiet bool `json:"quiet,omitempty"`
}

// vmacs is what the router loop knows of the interfaces with a virtual router's
// MAC. They are there while the table has the router, whoever owns it.
type vmacs struct {
	ours     []recordedVMAC
	problems map[string]error         // by name: why it could not be made
	due      map[string]time.Duration // by name: next try
}

// vmacOf is the interface that the router wants over base.
func vmacOf(r fsm.Router, base vip.Link) vip.VMAC {
	mac := r.VMACAddr()
	return vip.VMAC{Name: r.VMACName(), Base: base.Index, MAC: mac[:]}
}

// baseOf is the interface below a router's own: that of its first address which
// names none.
func baseOf(r fsm.Router, names map[string]string, s vip.Snapshot, skip map[netip.Addr]bool) (vip.Link, error) {
	for _, a := range r.Addresses {
		if a.Dev == "" {
			return choose(a.Prefix.Addr(), r.Interface, names, s, skip)
		}
	}
	return vip.Link{}, fmt.Errorf("%w: each address of %s names another than use_vmac's", vip.ErrNoInterface, r.Name)
}

// makeVMACs makes the interfaces that are missing, and looks at once: an owner's
// address goes from the old place to the new one without a gap.
func (p *Plane) makeVMACs(t *fsm.Table, skip map[netip.Addr]bool) {
	a := &p.addresses
	made := false
	for _, r := range t.Routers {
		if r.VMAC == nil {
			continue
		}
		base, err := baseOf(r, p.cfg.NodeInterfaces, a.host, skip)
		if err != nil {
			continue // its addresses say so
		}
		v := vmacOf(r, base)
		l, there := a.host.Named(v.Name)
		if there && v.Is(l) && l.Up {
			delete(a.vmacs.problems, v.Name)
			continue
		}
		if p.since() >= a.vmacs.due[v.Name] {
			made = p.makeVMAC(v, base.Name, there) || made
		}
	}
	if !made {
		return
	}
	if s, err := p.cfg.VIPs.Snapshot(); err == nil { // else the kernel's word of it wakes us
		a.host = s
	}
}

// makeVMAC notes the interface in the record, then makes it. One that is there
// already, and is as it should be, is not ours. False: it could not be made.
func (p *Plane) makeVMAC(v vip.VMAC, base string, there bool) bool {
	m := &p.addresses.vmacs
	mine := func(o recordedVMAC) bool { return o.Name == v.Name }
	if !there && !slices.ContainsFunc(m.ours, mine) {
		p.noteVMACs(append(slices.Clone(m.ours), recordedVMAC{Name: v.Name, MAC: v.MAC.String(), Base: base}))
		if err := p.record.save(recordWait); err != nil {
			p.failed("record", err)
		}
	}
	quiet, err := p.cfg.VIPs.MakeVMAC(v)
	if err != nil {
		m.problems[v.Name], m.due[v.Name] = err, p.since()+longestWait
		p.failed("make the interface of a virtual router", err)
		return false
	}
	delete(m.problems, v.Name)
	delete(m.due, v.Name)
	if i := slices.IndexFunc(m.ours, mine); i >= 0 && quiet {
		ours := slices.Clone(m.ours)
		ours[i].Quiet = true
		p.noteVMACs(ours)
	}
	if !there {
		p.log.Info("dataplane: made the interface of a virtual router", "interface", v.Name, "mac", v.MAC.String(), "over", base)
	}
	return true
}

func (p *Plane) noteVMACs(ours []recordedVMAC) {
	p.addresses.vmacs.ours = ours
	p.record.update(func(r *recorded) { r.VMACs = slices.Clone(ours) })
}

// pruneVMACs removes interfaces of ours that the table has no more, once no
// address is on them.
func (p *Plane) pruneVMACs() {
	a := &p.addresses
	if a.table == nil || !a.known {
		return
	}
	wanted := map[string]bool{}
	for _, r := range a.table.Routers {
		wanted[r.VMACName()] = true
	}
	for _, r := range a.routers {
		for _, h := range r.places {
			wanted[h.link.Name] = wanted[h.link.Name] || h.on || h.tried
		}
	}
	for _, v := range slices.Clone(a.vmacs.ours) {
		if wanted[v.Name] || p.since() < a.vmacs.due[v.Name] {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(a.vmacs.ours), func(o recordedVMAC) bool { return o == v })
		if err := v.remove(p.cfg.VIPs, left); err != nil {
			a.vmacs.due[v.Name] = p.since() + longestWait
			p.failed("remove the interface of a virtual router", err)
			continue
		}
		p.log.Info("dataplane: removed the interface of a virtual router", "interface", v.Name)
		p.noteVMACs(left)
	}
}

// vmacRemover is what removing needs of a *vip.Host.
type vmacRemover interface {
	RemoveVMAC(name string, mac net.HardwareAddr) error
	AnswerAnywhere(dev string) error
}

// remove takes the interface away, and puts back what was set for it unless one
// of the others needs it.
func (v recordedVMAC) remove(h vmacRemover, others []recordedVMAC) error {
	mac, err := net.ParseMAC(v.MAC)
	if err != nil {
		return fmt.Errorf("the record of %s: %w", v.Name, err)
	}
	if err := h.RemoveVMAC(v.Name, mac); err != nil {
		return err
	}
	shared := func(o recordedVMAC) bool { return o.Base == v.Base }
	if i := slices.IndexFunc(others, shared); i >= 0 {
		others[i].Quiet = others[i].Quiet || v.Quiet
		return nil
	}
	if !v.Quiet {
		return nil
	}
	return h.AnswerAnywhere(v.Base)
}

// vmacTarget is where the addresses of a router with a MAC of its own go.
func (m vmacs) target(r fsm.Router, names map[string]string, s vip.Snapshot, skip map[netip.Addr]bool) (vip.Link, error) {
	base, err := baseOf(r, names, s, skip)
	if err != nil {
		return vip.Link{}, err
	}
	v := vmacOf(r, base)
	if l, ok := s.Named(v.Name); ok && v.Is(l) {
		return l, nil
	}
	if err := m.problems[v.Name]; err != nil {
		return vip.Link{}, err
	}
	return vip.Link{}, fmt.Errorf("%w: %s over %s is not there yet", vip.ErrNoInterface, v.Name, base.Name)
}

func clearVMACs(was recorded, host vmacRemover) error {
	var errs []error
	for i, v := range was.VMACs {
		errs = append(errs, v.remove(host, was.VMACs[i+1:]))
	}
	return errors.Join(errs...)
}
