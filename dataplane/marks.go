package dataplane

import (
	"fmt"
	"slices"
	"time"

	"lbcluster/dataplane/fwmark"
	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// Marker has the kernel mark packets: a *fwmark.Handle. Without rules it removes
// what it made.
type Marker interface {
	Set([]fwmark.Rule) (changed bool, err error)
}

// Marks are the rules that the table asks for, in the order of its services. Like
// Want it depends on nothing else.
func Marks(t *fsm.Table) []fwmark.Rule {
	var out []fwmark.Rule
	for _, v := range t.Services {
		for _, m := range v.Matches {
			out = append(out, fwmark.Rule{
				Mark: v.Mark, To: m.Addr, Protocol: uint8(protocols[m.Protocol]), FromPort: m.FromPort, ToPort: m.ToPort,
			})
		}
	}
	return out
}

// marking is what the reconcile loop knows of the rules.
type marking struct {
	told []fwmark.Rule
	set  bool // told is what stood after the last look
}

// narrowMarks takes away rules that are wanted no more, before their services go.
func (p *Plane) narrowMarks(want []fwmark.Rule) error {
	keep := slices.DeleteFunc(slices.Clone(p.marking.told), func(r fwmark.Rule) bool { return !slices.Contains(want, r) })
	if !p.marking.set || len(keep) == len(p.marking.told) {
		return nil
	}
	return p.setMarks(keep)
}

// setMarks makes want the rules. Where none was ever made nothing is asked of the
// kernel, which would load a module for it.
func (p *Plane) setMarks(want []fwmark.Rule) error {
	if p.cfg.Marks == nil || len(want) == 0 && !p.record.get().Marks {
		return nil
	}
	changed, err := p.cfg.Marks.Set(want)
	if err != nil {
		p.marking.set = false
		return fmt.Errorf("mark packets: %w", err)
	}
	drift := changed && p.marking.set && slices.Equal(want, p.marking.told)
	p.marking = marking{told: want, set: true}
	if len(want) == 0 {
		p.record.update(func(r *recorded) { r.Marks = false })
	}
	p.reportMarks(want, changed, drift)
	return nil
}

func (p *Plane) reportMarks(want []fwmark.Rule, changed, drift bool) {
	texts := make([]string, len(want))
	for i, r := range want {
		texts[i] = r.String()
	}
	p.mu.Lock()
	p.status.Marks = texts
	if drift {
		p.status.DriftRepaired++
		p.status.LastRepair, p.status.RepairedAt = "nftables: table inet "+fwmark.Table, time.Now()
	}
	p.mu.Unlock()
	switch {
	case drift:
		p.log.Warn("dataplane: repaired what somebody changed in nftables", "table", "inet "+fwmark.Table)
	case changed:
		p.log.Info("dataplane: nftables", "table", "inet "+fwmark.Table, "rules", texts)
	}
}

// standing are the rules whose services stand: marking packets for one that does not
// would take them from whoever gets them without a mark.
func standing(rules []fwmark.Rule, out outcome) []fwmark.Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r fwmark.Rule) bool {
		return out.failed[ipvs.Key{Mark: r.Mark, V6: r.To.Addr().Is6()}]
	})
}
