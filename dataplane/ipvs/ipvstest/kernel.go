package ipvstest

import (
	"fmt"
	"slices"
	"sync"

	"lbcluster/dataplane/ipvs"

	"golang.org/x/sys/unix"
)

// Kernel is a table in memory. The zero Kernel is empty and knows the
// schedulers of a Debian kernel. Safe for concurrent use.
type Kernel struct {
	// Fail, when set, is asked before each operation; its error is the
	// operation's, and nothing happens.
	Fail func(ipvs.Op) error
	// FailList, when set, is asked before each listing.
	FailList func() error
	// OnDests is called before the destinations of one service are read; it may change
	// the kernel.
	OnDests func(ipvs.Key)

	mu       sync.Mutex
	services []ipvs.Service
	daemons  []ipvs.Daemon // the sender first
	timeouts ipvs.Timeouts // 0: the kernel's own
	done     []ipvs.Op
	lists    int
}

var schedulers = []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"}

// Dests are the destinations of one service, sorted.
func (k *Kernel) Dests(key ipvs.Key) ([]ipvs.Dest, error) {
	if k.OnDests != nil {
		k.OnDests(key)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.services {
		if s.Key == key {
			return s.Canonical().Dests, nil
		}
	}
	return nil, nil
}

// DoAll carries out ops as the kernel does.
func (k *Kernel) DoAll(ops []ipvs.Op) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		errs[i] = k.Do(op)
	}
	return errs
}

// Do carries out op as the kernel does.
func (k *Kernel) Do(op ipvs.Op) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.Fail != nil {
		if err := k.Fail(op); err != nil {
			return fmt.Errorf("ipvsadm %s: %w", op, err)
		}
	}
	if err := k.do(op); err != nil {
		return fmt.Errorf("ipvsadm %s: %w", op, err)
	}
	k.done = append(k.done, op)
	return nil
}

func (k *Kernel) do(op ipvs.Op) error {
	i := slices.IndexFunc(k.services, func(s ipvs.Service) bool { return s.Key == op.Service.Key })
	switch op.Verb {
	case ipvs.AddService, ipvs.UpdateService:
		return k.setService(i, op)
	case ipvs.RemoveService:
		if i >= 0 {
			k.services = slices.Delete(k.services, i, i+1)
		}
		return nil
	}
	if i < 0 {
		if op.Verb == ipvs.RemoveDest {
			return nil
		}
		return unix.ESRCH
	}
	if op.Verb != ipvs.RemoveDest && op.Dest.Addr.Is6() != op.Service.Is6() && len(k.daemons) > 0 {
		return unix.EINVAL // the daemons' messages cannot name it
	}
	return doDest(&k.services[i], op)
}

func (k *Kernel) setService(i int, op ipvs.Op) error {
	s := op.Service.Canonical()
	s.Dests = nil
	switch {
	case !slices.Contains(schedulers, s.Scheduler) || s.Engine != "" && s.Engine != "sip":
		return fmt.Errorf("%w: %w", ipvs.ErrScheduler, unix.ENOENT)
	case op.Verb == ipvs.AddService && i >= 0:
		return unix.EEXIST
	case op.Verb == ipvs.AddService:
		k.services = append(k.services, s)
	case i < 0:
		return unix.ESRCH
	default:
		s.Dests = k.services[i].Dests
		k.services[i] = s
	}
	return nil
}

func doDest(s *ipvs.Service, op ipvs.Op) error {
	d := op.Dest
	otherFamily := d.Addr.Is6() != s.Is6()
	j := slices.IndexFunc(s.Dests, func(o ipvs.Dest) bool { return o.DestKey == d.DestKey })
	switch {
	case op.Verb == ipvs.RemoveDest:
		if j >= 0 {
			s.Dests = slices.Delete(s.Dests, j, j+1)
		}
		return nil
	case otherFamily && d.Method != ipvs.Tunnel:
		return unix.EINVAL
	case d.Weight < 0 || d.Lower > d.Upper && d.Upper != 0:
		return unix.ERANGE
	case op.Verb == ipvs.AddDest && j >= 0:
		return unix.EEXIST
	case op.Verb == ipvs.AddDest:
		s.Dests = append(s.Dests, d)
	case j < 0:
		return unix.ENOENT
	default:
		d.Active, d.Inactive = s.Dests[j].Active, s.Dests[j].Inactive
		s.Dests[j] = d
	}
	return nil
}

// Services are List's, without their destinations.
func (k *Kernel) Services() ([]ipvs.Service, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.FailList != nil {
		if err := k.FailList(); err != nil {
			return nil, err
		}
	}
	all := k.copy()
	for i := range all {
		all[i].Dests = nil
	}
	return all, nil
}

// List returns a copy of the table, sorted.
func (k *Kernel) List() ([]ipvs.Service, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lists++
	if k.FailList != nil {
		if err := k.FailList(); err != nil {
			return nil, err
		}
	}
	return k.copy(), nil
}

func (k *Kernel) copy() []ipvs.Service {
	out := slices.Clone(k.services)
	for i := range out {
		out[i].Dests = slices.Clone(out[i].Dests)
	}
	ipvs.Sort(out)
	return out
}

// String prints the table as "ipvsadm -Sn" would (and the thresholds).
func (k *Kernel) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return ipvs.Rules(k.copy())
}

// Set replaces the table by what rules say: somebody else's doing.
func (k *Kernel) Set(rules string) error {
	services, err := Parse(rules)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.services = services
	return nil
}

// Done returns the operations that succeeded since the last call.
func (k *Kernel) Done() []ipvs.Op {
	k.mu.Lock()
	defer k.mu.Unlock()
	done := k.done
	k.done = nil
	return done
}

// Lists is how often the table was listed.
func (k *Kernel) Lists() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lists
}
