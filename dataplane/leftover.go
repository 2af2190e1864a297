package dataplane

import (
	"errors"
	"fmt"
	"net/netip"

	"lbcluster/dataplane/vip"
)

// Leftover is an address that a dead process had put on an interface.
type Leftover struct {
	Interface string
	Prefix    netip.Prefix
}

// LeftoverHost is what RemoveLeftovers needs of a *vip.Host.
type LeftoverHost interface {
	Snapshot() (vip.Snapshot, error)
	Remove(index int, prefix netip.Prefix) error
}

func (l Leftover) String() string { return l.Prefix.String() + " on " + l.Interface }

// RemoveLeftovers removes the addresses that the record of a dead process names,
// by their exact prefix, and returns those that were there. Nothing else is
// touched: no other address, and no IPVS service. The gate must be closed for
// them already. The record is left for the next process, which finds them gone.
// Without a record there is nothing to do; what cannot be removed is in the
// error, the rest is removed.
func RemoveLeftovers(stateFile string, host LeftoverHost) ([]Leftover, error) {
	r, err := openRecord(stateFile)
	if err != nil {
		return nil, err
	}
	addrs := r.get().Addresses
	if len(addrs) == 0 {
		return nil, nil
	}
	snap, err := host.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("read the addresses of the interfaces: %w", err)
	}
	var removed []Leftover
	var errs []error
	for _, a := range addrs {
		link, ok := snap.Named(a.Dev)
		if !ok || !snap.Has(link.Index, a.Prefix) {
			continue
		}
		gone := Leftover{a.Dev, a.Prefix}
		if err := host.Remove(link.Index, a.Prefix); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", gone, err))
			continue
		}
		removed = append(removed, gone)
	}
	return removed, errors.Join(errs...)
}
