package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// Status is what a Plane has done and sees.
type Status struct {
	Cluster string       `json:"cluster"`
	Table   fsm.Revision `json:"table"`   // the latest table handed over
	Applied fsm.Revision `json:"applied"` // the last one that stood in IPVS whole
	Whole   bool         `json:"whole"`   // Applied means something
	Ready   bool         `json:"ready"`   // see Plane.Ready
	Waiting string       `json:"waiting,omitempty"`

	// Failing is what the last pass over IPVS and the gate failed with; empty:
	// it succeeded. LastError stays after success.
	Failing     string    `json:"failing,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	Errors      uint64    `json:"errors"`  // all so far
	Retries     uint64    `json:"retries"` // passes that failed so far
	// Operations counts the writes to IPVS that succeeded, by what they did
	// ("add_server"), without those to services that are hidden from listings.
	Operations map[string]uint64 `json:"operations,omitempty"`
	// DriftRepaired counts the operations that undid what others did to IPVS.
	DriftRepaired uint64 `json:"drift_repaired"`
	// LastRepair is the last of these operations, as ipvsadm's words.
	LastRepair string    `json:"last_repair,omitempty"`
	RepairedAt time.Time `json:"repaired_at,omitzero"`

	Services        []ServiceStatus  `json:"services"`
	ForeignServices []ForeignService `json:"foreign_services,omitempty"`
	VIPs            []VIPStatus      `json:"vips"`
	ForeignVIPs     []ForeignVIP     `json:"foreign_vips,omitempty"`
	// Claimed are addresses that are owned here, and for which others answer too.
	Claimed []Claimed `json:"claimed,omitempty"`
	// Marks are the rules that mark packets here, as nft shows them.
	Marks []string `json:"marks,omitempty"`
	// Sync is how connections are synchronised; nil: they are not.
	Sync *SyncStatus `json:"sync,omitempty"`
	// Tuning says which settings of IPVS cannot be had here.
	Tuning []string `json:"tuning,omitempty"`
	// Locals are the VIPs that this director serves itself, as a real server.
	Locals []LocalStatus `json:"locals,omitempty"`
}

// ServiceStatus is a service of ours as the kernel has it.
type ServiceStatus struct {
	Service   string       `json:"service"` // as fsm.ServiceKey.String
	Scheduler string       `json:"scheduler"`
	Dests     []DestStatus `json:"dests"`
}

// DestStatus is a destination with its connections.
type DestStatus struct {
	Addr     netip.AddrPort `json:"addr"`
	Weight   int            `json:"weight"`
	Active   uint32         `json:"active"`
	Inactive uint32         `json:"inactive"`
}

// ForeignService is one that lbcluster never made.
type ForeignService struct {
	Service string `json:"service"`
	Remove  string `json:"remove"` // the command that would remove it
	// Rules is the service with its destinations as ipvsadm -Sn prints it.
	Rules string `json:"rules"`
}

// VIPStatus is one address of a router on this host.
type VIPStatus struct {
	Router    uint64       `json:"router"`
	Name      string       `json:"name"`
	Prefix    netip.Prefix `json:"prefix"`
	Interface string       `json:"interface,omitempty"` // empty: none was found, see Problem
	Link      bool         `json:"link"`                // the interface is up and has carrier
	Owned     bool         `json:"owned"`
	On        bool         `json:"on"`       // on the interface, by us or somebody else
	Restored  uint64       `json:"restored"` // times it was put back after others removed it
	Announced int          `json:"announced"`
	Problem   string       `json:"problem,omitempty"`
}

// ForeignVIP is an address of the table that somebody else put on an interface.
type ForeignVIP struct {
	Prefix    netip.Prefix `json:"prefix"`
	Interface string       `json:"interface"`
	Remove    string       `json:"remove"` // the command that removes it
}

// Status returns a copy of what is known now.
func (p *Plane) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	if p.table != nil {
		s.Table = p.table.Revision
	}
	s.Operations = maps.Clone(s.Operations)
	s.Services, s.ForeignServices = slices.Clone(s.Services), slices.Clone(s.ForeignServices)
	s.Claimed = p.claimed()
	s.Marks, s.Tuning = slices.Clone(s.Marks), slices.Clone(s.Tuning)
	if s.Sync != nil {
		sync := *s.Sync
		s.Sync = &sync
	}
	s.VIPs, s.ForeignVIPs, s.Locals = slices.Clone(s.VIPs), slices.Clone(s.ForeignVIPs), slices.Clone(s.Locals)
	return s
}

// Applied is the revision that stood in IPVS whole at the last look; false:
// none since the start.
func (p *Plane) Applied() (fsm.Revision, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status.Applied, p.status.Whole
}

const notApplied = "the IPVS table has not been applied since the start"

// Fit reports whether this member could serve anything it would win, and if
// not, why: a table has been applied. What a single unit lacks, a link say,
// Config.OnRouterFit tells.
func (p *Plane) Fit() (ok bool, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fit, p.unfit
}

// judge works out Fit, and what each unit lacks, and tells of changes.
func (p *Plane) judge() {
	p.mu.Lock()
	ok, why := p.status.Ready, ""
	if !ok {
		why = notApplied
	}
	changed := ok != p.fit || why != p.unfit
	p.fit, p.unfit = ok, why
	p.mu.Unlock()
	p.tellUnits()
	if changed && p.cfg.OnFit != nil {
		p.cfg.OnFit(ok, why)
	}
}

// tellUnits tells of each unit whose fitness changed, by id.
func (p *Plane) tellUnits() {
	a := &p.addresses
	now := a.judgeUnits()
	for _, unit := range slices.Sorted(maps.Keys(now)) {
		if old, told := a.unitsTold[unit]; told && old == now[unit] {
			continue
		}
		if p.cfg.OnRouterFit != nil {
			p.cfg.OnRouterFit(unit, now[unit] == "", now[unit])
		}
	}
	a.unitsTold = now
}

// fail notes an error in s.
func (s *Status) fail(err error) {
	s.LastError, s.LastErrorAt = err.Error(), time.Now()
	s.Errors++
}

// failed notes an error; the same one is logged once in errorsLogged.
func (p *Plane) failed(what string, err error) {
	err = fmt.Errorf("%s: %w", what, err)
	p.mu.Lock()
	p.status.fail(err)
	fresh := p.unheard(err.Error())
	p.mu.Unlock()
	if fresh {
		p.log.Error("dataplane: failed, will try again", "err", err)
	}
}

// unheard reports whether an error is to be logged now. The caller holds p.mu.
func (p *Plane) unheard(text string) bool {
	now := time.Now()
	maps.DeleteFunc(p.logged, func(_ string, at time.Time) bool { return now.Sub(at) >= errorsLogged })
	if _, again := p.logged[text]; again {
		return false
	}
	p.logged[text] = now
	return true
}

// retrying notes a failed pass of the reconcile loop.
func (p *Plane) retrying(what string, err error) {
	p.failed(what, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Retries++
	p.status.Failing = err.Error()
}

func (p *Plane) succeeded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Failing = ""
}

func (p *Plane) setWaiting(why string) {
	p.mu.Lock()
	changed := why != p.status.Waiting
	p.status.Waiting = why
	p.mu.Unlock()
	if changed && why != "" {
		p.log.Info("dataplane: waiting", "why", why)
	}
}

// listed takes what the kernel's table was into the status.
func (p *Plane) listed(have, want []ipvs.Service, ours Ownership) {
	have = slices.DeleteFunc(slices.Clone(have), func(s ipvs.Service) bool { return hidden(s.Key) })
	foreign := Foreign(have, want, ours)
	p.mu.Lock()
	old := p.status.ForeignServices
	p.status.Services, p.status.ForeignServices = nil, nil
	for _, s := range have {
		if !slices.ContainsFunc(foreign, func(f ipvs.Service) bool { return f.Key == s.Key }) {
			p.status.Services = append(p.status.Services, serviceStatus(s))
		}
	}
	for _, s := range foreign {
		p.status.ForeignServices = append(p.status.ForeignServices,
			ForeignService{Service: s.Key.String(), Remove: "ipvsadm " + ipvs.Op{Verb: ipvs.RemoveService, Service: s}.String(), Rules: ipvs.Rules([]ipvs.Service{s})})
	}
	current := slices.Clone(p.status.ForeignServices)
	p.mu.Unlock()
	for _, f := range current {
		if !slices.ContainsFunc(old, func(o ForeignService) bool { return o.Service == f.Service }) {
			p.log.Warn("dataplane: an IPVS service that is not ours is left alone", "service", f.Service, "remove", f.Remove)
		}
	}
}

func serviceStatus(s ipvs.Service) ServiceStatus {
	out := ServiceStatus{Service: s.Key.String(), Scheduler: s.Scheduler}
	for _, d := range s.Dests {
		out.Dests = append(out.Dests, DestStatus{
			Addr: netip.AddrPortFrom(d.Addr, d.Port), Weight: d.Weight, Active: d.Active, Inactive: d.Inactive,
		})
	}
	return out
}

// publish puts what the router loop knows into the status.
func (p *Plane) publish() {
	vips := p.addresses.vips()
	foreign := p.reportForeign()
	p.mu.Lock()
	p.status.VIPs, p.status.ForeignVIPs = vips, foreign
	p.status.Locals = p.addresses.localStatus(p.gateLocal)
	p.mu.Unlock()
	p.judge()
}

func (a *addressLoop) vips() []VIPStatus {
	if a.table == nil {
		return nil
	}
	var out []VIPStatus
	for _, fr := range a.table.Routers {
		r := a.routers[fr.ID]
		if r == nil {
			continue
		}
		for _, h := range r.places {
			v := VIPStatus{
				Router: fr.ID, Name: fr.Name, Prefix: h.prefix, Interface: h.link.Name, Link: ready(h.link),
				Owned: r.owned, On: h.on || a.host.Has(h.link.Index, h.prefix), Restored: h.restored, Announced: h.sent,
			}
			if h.problem != nil {
				v.Problem = h.problem.Error()
			}
			out = append(out, v)
		}
		for _, t := range r.nowhere {
			out = append(out, VIPStatus{Router: fr.ID, Name: fr.Name, Prefix: t.prefix, Owned: r.owned, Problem: t.err.Error()})
		}
	}
	return out
}

// reportForeign finds the table's addresses that somebody else put on an
// interface, and logs the new ones.
func (p *Plane) reportForeign() []ForeignVIP {
	a := &p.addresses
	if a.table == nil {
		return nil
	}
	mine := a.mine()
	var out []ForeignVIP
	found := map[place]bool{}
	for _, addr := range a.table.VIPs() {
		for _, at := range a.host.Where(addr) {
			key := place{at.Index, at.Prefix}
			l, _ := a.host.Link(at.Index)
			if mine[key] || l.Loopback && a.lo.wants(addr) {
				continue
			}
			f := ForeignVIP{Prefix: at.Prefix, Interface: l.Name, Remove: fmt.Sprintf("ip addr del %s dev %s", at.Prefix, l.Name)}
			out, found[key] = append(out, f), true
			if !a.foreign[key] {
				p.log.Warn("dataplane: a VIP is on an interface where we did not put it; it is left alone", "address", f.Prefix, "dev", f.Interface, "remove", f.Remove)
			}
		}
	}
	a.foreign = maps.Clone(found)
	return out
}

// mine are the places of addresses that we put, or are about to remove.
func (a *addressLoop) mine() map[place]bool {
	out := map[place]bool{}
	for _, r := range a.routers {
		for _, h := range r.places {
			if h.on && !h.foreign {
				out[h.place()] = true
			}
		}
	}
	if index, err := a.loIndex(); err == nil {
		for _, o := range a.lo.ours {
			out[place{index, o}] = true
		}
	}
	for _, l := range a.left {
		if link, ok := a.host.Named(l.Dev); ok {
			out[place{link.Index, l.Prefix}] = true
		}
	}
	return out
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

var _ Addresses = (*vip.Host)(nil)
var _ Kernel = (*ipvs.Handle)(nil)
