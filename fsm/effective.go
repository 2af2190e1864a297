package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Service is a virtual server as every director's kernel shall have it.
type Service struct {
	ServiceKey
	Scheduler       string   `json:"scheduler"`
	Method          Method   `json:"method"`
	Persistence     Duration `json:"persistence,omitempty"`      // 0: off
	PersistenceMask uint8    `json:"persistence_mask,omitempty"` // 1-128 with persistence, else 0
	// The rest as in VirtualServer.
	PersistenceEngine string `json:"persistence_engine,omitempty"`
	OnePacket         bool   `json:"one_packet,omitempty"`
	HashPort          bool   `json:"hash_port,omitempty"`
	HashFallback      bool   `json:"hash_fallback,omitempty"`
	Dests             []Dest `json:"dests"` // by address and port
}

// Dest is a real server as the kernel shall have it.
type Dest struct {
	Addr           netip.Addr `json:"addr"`
	Port           uint16     `json:"port"`
	Method         Method     `json:"method"`
	Weight         int        `json:"weight"`
	UpperThreshold uint32     `json:"upper_threshold,omitempty"`
	LowerThreshold uint32     `json:"lower_threshold,omitempty"`
}

// Effective is what IPVS shall have, sorted by key: a pure function of the
// table. A server that is down is left out (with Inhibit: weight 0), a disabled
// one is left out, a drained one has weight 0, and a weight set by hand
// replaces the file's. Where too few are up, backups join them, and the sorry server
// stands for all where no backup is up either.
func (t *Table) Effective() []Service {
	return t.EffectiveWhere(func(ServiceKey) bool { return true })
}

// EffectiveWhere is the part of [Table.Effective] whose virtual servers are wanted.
func (t *Table) EffectiveWhere(wanted func(ServiceKey) bool) []Service {
	hands, x, short := handsOf(t.Overrides), t.index(), t.short()
	all := make([]Service, 0, len(t.Services))
	for i, v := range t.Services {
		if wanted(v.ServiceKey) {
			all = append(all, t.effective(v, x.of[i], hands, short[v.ServiceKey]))
		}
	}
	return all
}

// effective is one virtual server; targets are those of its real servers.
func (t *Table) effective(v VirtualServer, targets []Target, hands byHand, short bool) Service {
	s := Service{
		ServiceKey: v.ServiceKey, Scheduler: v.Scheduler, Method: v.Method,
		OnePacket: v.OnePacket, HashPort: v.HashPort, HashFallback: v.HashFallback, Dests: make([]Dest, 0, len(v.RealServers)),
	}
	if v.Persistence > 0 {
		s.Persistence, s.PersistenceMask, s.PersistenceEngine = v.Persistence, v.PersistenceMask, v.PersistenceEngine
		if s.PersistenceMask == 0 {
			s.PersistenceMask = uint8(v.BitLen()) // each client alone
		}
	}
	panics := t.panics(v, targets)
	for i, r := range v.RealServers {
		o, h := hands.on(v.ServiceKey, r.AddrPort()), t.Health[targets[i]].but(panics)
		weight, there := effective(r, o, h)
		if o.Weight == nil {
			weight = v.slowly(weight, h)
		}
		if r.Backup && !short {
			weight = 0
		}
		if there {
			s.Dests = append(s.Dests, Dest{r.Addr, r.Port, v.MethodOf(r), weight, r.UpperThreshold, r.LowerThreshold})
		}
	}
	s.Dests = v.sorry(s.Dests, short && (v.Sorry == nil || !t.backedUp(v, targets, hands)))
	slices.SortFunc(s.Dests, func(a, b Dest) int {
		return netip.AddrPortFrom(a.Addr, a.Port).Compare(netip.AddrPortFrom(b.Addr, b.Port))
	})
	return s
}

// effective is the weight of one server, and whether it is in the kernel at all.
func effective(r RealServer, o Override, h Health) (weight int, there bool) {
	down := h.Down
	weight = h.Weighs.of(r.Weight)
	if o.Weight != nil {
		weight = *o.Weight
	}
	switch {
	case o.State == Disabled, down && !r.Inhibit:
		return 0, false
	case o.State == Drained, down:
		return 0, true
	}
	return weight, true
}

// but is h, or up where a pool panics.
func (h Health) but(panics bool) Health {
	h.Down = h.Down && !panics
	return h
}

// ServerState is all there is to say about one real server of one virtual server.
type ServerState struct {
	Server    netip.AddrPort `json:"server"`
	Target    Target         `json:"target,omitempty"` // "": nothing to check
	Weight    int            `json:"weight"`           // the file's
	Effective int            `json:"effective"`        // the kernel's
	InKernel  bool           `json:"in_kernel"`        // false: not in the kernel's table at all
	Backup    bool           `json:"backup,omitempty"`
	Admin     AdminState     `json:"admin,omitempty"`
	AdminBy   string         `json:"admin_by,omitempty"` // who set Admin or ByHand
	// AdminSince and AdminUntil are when Admin was set, and when a drain ends; by
	// the clock of who asked for it.
	AdminSince time.Time `json:"admin_since,omitzero"`
	AdminUntil time.Time `json:"admin_until,omitzero"`
	ByHand     *int      `json:"by_hand,omitempty"` // the weight an operator set
	Health     Health    `json:"health"`
	Up         []string  `json:"up"`   // names of members whose vote counts and is up
	Down       []string  `json:"down"` // and down
	Why        string    `json:"why"`  // a sentence for people
}

// ServerStates tells of each real server of a virtual server, in the file's
// order; nil if there is no such virtual server.
func (t *Table) ServerStates(key ServiceKey) []ServerState {
	v, ok := t.Service(key)
	if !ok {
		return nil
	}
	hands, voters, short := handsOf(t.Overrides), t.voters(), t.short()[key]
	targets := targetsOf(v.RealServers)
	panics, sorry := t.panics(v, targets), short && v.Sorry != nil && !t.backedUp(v, targets, hands)
	states := make([]ServerState, 0, len(v.RealServers))
	for _, r := range v.RealServers {
		target := r.Target()
		o, sum := hands.on(key, r.AddrPort()), t.tally(target, voters)
		s := ServerState{
			Server: r.AddrPort(), Target: target, Weight: r.Weight, Health: t.Health[target],
			Admin: o.State, AdminBy: o.By, AdminSince: o.Since, AdminUntil: o.Until(), ByHand: o.Weight, Up: sum.up, Down: sum.down,
		}
		orEmpty(&s.Up)
		orEmpty(&s.Down)
		s.Effective, s.InKernel = effective(r, o, s.Health.but(panics))
		s.Why = s.why(sum, t.Settings.Health)
		if weighed := s.Health.whyWeighed(sum); weighed != "" {
			s.Why += "; " + weighed
		}
		if panics && s.Health.Down {
			s.Why += fmt.Sprintf("; taken as up all the same: %d %% of the pool or more are down", v.Panic)
		}
		if full := s.Effective; o.Weight == nil {
			if s.Effective = v.slowly(full, s.Health); v.SlowStart > 0 && s.Health.Step > 0 && full > 0 {
				s.Why += s.Health.whySlow()
			}
		}
		s.Backup = r.Backup
		switch {
		case r.Backup && !short:
			s.Effective = 0
			s.Why += "; a backup: not needed now"
		case r.Backup && s.Effective > 0:
			s.Why += "; a backup: too few of the others are up"
		}
		if sorry && s.Effective > 0 {
			s.Effective, s.InKernel = 0, false
			s.Why += "; the sorry server serves instead: too few are up"
		}
		states = append(states, s)
	}
	return states
}

// why is the sentence: health first, then what was set by hand.
func (s ServerState) why(sum tally, policy HealthPolicy) string {
	parts := []string{s.whyHealth(sum, policy)}
	switch s.Admin {
	case Drained:
		parts = append(parts, "drained by "+s.AdminBy+s.whenAdmin()+": connections finish, none is new")
	case Disabled:
		parts = append(parts, "disabled by "+s.AdminBy+s.whenAdmin())
	}
	if s.ByHand != nil {
		parts = append(parts, fmt.Sprintf("weight %d set by hand (the file says %d)", *s.ByHand, s.Weight))
	}
	return strings.Join(parts, "; ")
}

// whenAdmin is " since 2026-11-23 12:00:00 UTC, until 12:10:00"; empty where it is not known.
func (s ServerState) whenAdmin() string {
	if s.AdminSince.IsZero() {
		return ""
	}
	text := " since " + s.AdminSince.Format(time.DateTime) + " UTC"
	switch {
	case s.AdminUntil.IsZero():
		return text
	case s.AdminUntil.Sub(s.AdminSince) < 12*time.Hour:
		return text + ", until " + s.AdminUntil.Format(time.TimeOnly)
	}
	return text + ", until " + s.AdminUntil.Format(time.DateTime)
}

func (s ServerState) whyHealth(sum tally, policy HealthPolicy) string {
	word, for_ := "up", len(sum.up)
	if s.Health.Down {
		word, for_ = "down", len(sum.down)
	}
	all := len(sum.up) + len(sum.down)
	since := ""
	if s.Health.Since != 0 {
		since = fmt.Sprintf(" since revision %d", s.Health.Since)
	}
	switch {
	case s.Target == "":
		return "up: it has no check"
	case all == 0 && s.Health.Since == 0:
		return "up: nobody has checked it yet"
	case all == 0 && s.Health.Down && s.Health.Detail == unchecked:
		return "down" + since + ": nobody has found it up yet (alpha)"
	case all == 0:
		return fmt.Sprintf("%s%s: nobody has an opinion now, so it stays", word, since)
	case 2*for_ > all, s.Health.Down && for_ > 0 && policy == HealthAnyDown:
		return fmt.Sprintf("%s%s: %s", word, since, sum.says(s.Health.Down))
	}
	return fmt.Sprintf("%s%s: opinions are even (up: %s; down: %s), so it stays",
		word, since, strings.Join(sum.up, ", "), strings.Join(sum.down, ", "))
}
