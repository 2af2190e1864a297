package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"lbcluster/dataplane/ipvs"
)

// Released is what became of what lbcluster had put into the kernel.
type Released struct {
	Removed  []Leftover     // addresses that had been left on interfaces
	Loopback []netip.Prefix // VIPs that stay on lo, for this machine is a real server
}

// ReleaseHost is what Release needs of a *vip.Host.
type ReleaseHost interface {
	LeftoverHost
	vmacRemover
	sysctls
}

// Release gives the kernel's table to whoever comes next, for a machine that has
// left its cluster, whose [Plane] has ended and whose gate is still there, closed:
// addresses on interfaces are removed, and so are the interfaces made for virtual
// routers (keepalived makes its own), the hidden services, which without the gate's
// marks mean nothing, and the rules that hold packets back; the settings of IPVS are
// put back and its connections no more synchronised; all other services stay
// with their connections, and so do the addresses on lo and what keeps them silent,
// since the local server goes on. Last the record is forgotten. What can't be removed
// is in the error, and the record stays; see [Clear] for the way out that leaves
// nothing.
func Release(stateFile string, k Kernel, host ReleaseHost, holds Marker) (Released, error) {
	r, err := openRecord(stateFile)
	if err != nil {
		return Released{}, err
	}
	out := Released{Loopback: r.get().Loopback}
	out.Removed, err = RemoveLeftovers(stateFile, host)
	if err = errors.Join(err, clearVMACs(r.get(), host), clearSysctls(r.get(), host, pathSysctls), removeHidden(k), clearHolds(r.get(), holds), clearTuning(r.get(), k, host)); err != nil || stateFile == "" {
		return out, err
	}
	if err := os.Remove(stateFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, fmt.Errorf("remove the record of what was put into the kernel: %w", err)
	}
	return out, nil
}

func removeHidden(k Kernel) error {
	have, err := k.List()
	if err != nil {
		return fmt.Errorf("list the services: %w", err)
	}
	var errs []error
	for _, s := range have {
		if hidden(s.Key) {
			errs = append(errs, k.Do(ipvs.Op{Verb: ipvs.RemoveService, Service: bare(s)}))
		}
	}
	return errors.Join(errs...)
}
