package realserver

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Kernel is what Apply changes; [Host] is the real one.
type Kernel interface {
	See() (Seen, error)
	SetARP(name string, value int) error
	Add(netip.Addr) (existed bool, err error)
	Remove(netip.Addr) error
}

// Apply brings the host to the VIPs wanted. rec is what earlier calls changed; save
// stores it whenever it changes, before the kernel is. It returns what was done,
// also beside an error, and the new Record. After a setting that fails no IPv4
// address is added, and while an address is left that should go the settings stay;
// all else is tried.
func Apply(k Kernel, want []netip.Addr, rec Record, save func(Record) error) (done []Op, _ Record, _ error) {
	seen, err := k.See()
	if err != nil {
		return nil, rec, err
	}
	var errs []error
	loud, stuck := false, false
	for _, op := range Plan(want, seen, rec) {
		if op.Kind == Add && op.Addr.Is4() && loud || (op.Kind == Restore || op.Kind == Forget) && stuck {
			continue
		}
		next, err := do(k, op, seen, rec, save)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", op, err))
			loud = loud || op.Kind == Set
			stuck = stuck || op.Kind == Remove
		} else {
			done = append(done, op)
		}
		rec = next
	}
	return done, rec, errors.Join(errs...)
}

// do makes one change: noted before it is made where it adds something of ours, and
// after it where it takes that back, so that a crash between leaves a note too much
// rather than one too few.
func do(k Kernel, op Op, seen Seen, rec Record, save func(Record) error) (Record, error) {
	next := Record{Addresses: slices.Clone(rec.Addresses), ARP: maps.Clone(rec.ARP)}
	without := func(a netip.Addr) {
		next.Addresses = slices.DeleteFunc(next.Addresses, func(o netip.Addr) bool { return o == a })
	}
	var err error
	switch op.Kind {
	case Set:
		if _, noted := next.ARP[op.Name]; !noted {
			if next.ARP == nil {
				next.ARP = map[string]int{}
			}
			next.ARP[op.Name] = seen.ARP["all"][op.Name]
			if err := save(next); err != nil {
				return rec, err
			}
		}
		return next, k.SetARP(op.Name, op.Value)
	case Add:
		if !slices.Contains(next.Addresses, op.Addr) {
			next.Addresses = append(next.Addresses, op.Addr)
			if err := save(next); err != nil {
				return rec, err
			}
		}
		existed, err := k.Add(op.Addr)
		if err == nil && !existed {
			return next, nil
		}
		without(op.Addr) // it is not there, or not ours
		return next, errors.Join(err, save(next))
	case Remove:
		err = k.Remove(op.Addr)
		without(op.Addr)
	case Restore:
		err = k.SetARP(op.Name, op.Value)
		delete(next.ARP, op.Name)
	case Forget:
		delete(next.ARP, op.Name)
	}
	if err != nil {
		return rec, err
	}
	return next, save(next)
}
