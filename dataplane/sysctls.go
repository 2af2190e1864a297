package dataplane

import (
	"fmt"
	"maps"
	"strconv"
)

// leastSysctl is a sysctl that must not be below a number.
type leastSysctl struct {
	name  string
	least int
}

// raise sets the sysctls that are too low, and notes in the record what they were.
func (p *Plane) raise(all []leastSysctl, why string) error {
	for _, c := range all {
		now, err := p.cfg.VIPs.Sysctl(c.name)
		if err == nil {
			n, _ := strconv.Atoi(now)
			if n >= c.least {
				continue
			}
			p.record.update(func(r *recorded) {
				if _, noted := r.Sysctls[c.name]; !noted {
					r.Sysctls = maps.Clone(r.Sysctls)
					if r.Sysctls == nil {
						r.Sysctls = map[string]string{}
					}
					r.Sysctls[c.name] = now
				}
			})
			if err = p.record.save(recordWait); err != nil {
				p.failed("record", err)
			}
			p.log.Info("dataplane: "+why, "sysctl", c.name, "from", now, "to", c.least)
			err = p.cfg.VIPs.SetSysctl(c.name, strconv.Itoa(c.least))
		}
		if err != nil {
			return fmt.Errorf("%s=%d: %w", c.name, c.least, err)
		}
	}
	return nil
}

// lower puts back what raise changed, unless somebody changed it since.
func (p *Plane) lower(all []leastSysctl, why string) {
	was := p.record.get().Sysctls
	for _, c := range all {
		old, changed := was[c.name]
		if !changed {
			continue
		}
		now, err := p.cfg.VIPs.Sysctl(c.name)
		if err == nil && now == strconv.Itoa(c.least) {
			p.log.Info("dataplane: "+why, "sysctl", c.name, "to", old)
			err = p.cfg.VIPs.SetSysctl(c.name, old)
		}
		if err != nil {
			p.failed("put back "+c.name, err)
			continue
		}
		p.record.update(func(r *recorded) {
			r.Sysctls = maps.Clone(r.Sysctls)
			delete(r.Sysctls, c.name)
		})
	}
}
