package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// ClearHost is what Clear needs of a *vip.Host.
type ClearHost interface {
	LeftoverHost
	sysctls
	vmacRemover
}

// Clear takes out of the kernel what the record says that lbcluster put into it:
// addresses on interfaces, and the interfaces it made for them, then those on lo and the sysctls that kept them
// silent, then the rules that mark packets and IPVS services, the hidden ones
// included; last the record itself.
// It is for a machine that has left its cluster, whose [Plane] has ended and
// whose gate is still there, closed. What somebody else made stays. What can't be
// removed is in the error and still in the record; the rest is removed.
func Clear(stateFile string, k Kernel, host ClearHost, marks, holds Marker) error {
	r, err := openRecord(stateFile)
	if err != nil {
		return err
	}
	_, addrErr := RemoveLeftovers(stateFile, host)
	was := r.get()
	err = errors.Join(addrErr, clearVMACs(was, host), clearLoopback(was, host), clearSysctls(was, host, serverSysctls), clearSysctls(was, host, pathSysctls), clearMarks(was, marks), clearHolds(was, holds), clearTuning(was, k, host), clearServices(was, k))
	if err != nil || stateFile == "" {
		return err
	}
	if err := os.Remove(stateFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the record of what was put into the kernel: %w", err)
	}
	return nil
}

func clearLoopback(was recorded, host ClearHost) error {
	if len(was.Loopback) == 0 {
		return nil
	}
	snap, err := host.Snapshot()
	if err != nil {
		return fmt.Errorf("read the addresses of lo: %w", err)
	}
	var errs []error
	for _, l := range snap.Links {
		for _, prefix := range was.Loopback {
			if l.Loopback && snap.Has(l.Index, prefix) {
				errs = append(errs, host.Remove(l.Index, prefix))
			}
		}
	}
	return errors.Join(errs...)
}

// clearSysctls puts back what was changed, unless somebody changed it since.
func clearSysctls(was recorded, host sysctls, which []leastSysctl) error {
	var errs []error
	for _, c := range which {
		old, changed := was.Sysctls[c.name]
		if !changed {
			continue
		}
		now, err := host.Sysctl(c.name)
		if err == nil && now == strconv.Itoa(c.least) {
			err = host.SetSysctl(c.name, old)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("put back %s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

func clearMarks(was recorded, marks Marker) error {
	if !was.Marks {
		return nil
	}
	if _, err := marks.Set(nil); err != nil {
		return fmt.Errorf("unmark packets: %w", err)
	}
	return nil
}

func clearServices(was recorded, k Kernel) error {
	ours := was.owns()
	have, err := k.List()
	if err != nil {
		return err
	}
	ours.own(have)
	out := carryOut(k, have, Diff(have, nil, ours), func() bool { return false })
	return errors.Join(out.errs...)
}
