package ipvstest

import (
	"cmp"
	"fmt"
	"slices"

	"lbcluster/dataplane/ipvs"

	"golang.org/x/sys/unix"
)

// NoInterface is the name of an interface that the fake host has not.
const NoInterface = "gone0"

// Daemons lists the synchronisation daemons, the sender first.
func (k *Kernel) Daemons() ([]ipvs.Daemon, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.daemons), nil
}

// StartDaemon starts one as the kernel does.
func (k *Kernel) StartDaemon(d ipvs.Daemon) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.startDaemon(d); err != nil {
		return fmt.Errorf("ipvsadm %s: %w", d, err)
	}
	return nil
}

func (k *Kernel) startDaemon(d ipvs.Daemon) error {
	mixed := func(s ipvs.Service) bool {
		return slices.ContainsFunc(s.Dests, func(d ipvs.Dest) bool { return d.Addr.Is6() != s.Is6() })
	}
	switch err := d.Check(); {
	case err != nil:
		return err
	case slices.ContainsFunc(k.daemons, func(o ipvs.Daemon) bool { return o.Role == d.Role }):
		return unix.EEXIST
	case d.Interface == NoInterface:
		return unix.ENODEV
	case slices.ContainsFunc(k.services, mixed):
		return fmt.Errorf("%w (%w)", unix.EINVAL, ipvs.ErrMixed)
	}
	if d = d.Canonical(); d.MaxLen == 0 {
		d.MaxLen = 1400 // what an MTU of 1500 leaves, in 32-byte steps or so
	}
	k.daemons = append(k.daemons, d)
	slices.SortFunc(k.daemons, func(a, b ipvs.Daemon) int { return cmp.Compare(a.Role, b.Role) })
	return nil
}

// StopDaemon stops the one of that role, if it runs.
func (k *Kernel) StopDaemon(r ipvs.Role) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.daemons = slices.DeleteFunc(k.daemons, func(d ipvs.Daemon) bool { return d.Role == r })
	return nil
}

// Timeouts are what was set, or the kernel's own.
func (k *Kernel) Timeouts() (ipvs.Timeouts, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return orDefault(k.timeouts, ipvs.DefaultTimeouts), nil
}

// SetTimeouts sets those that are not 0.
func (k *Kernel) SetTimeouts(t ipvs.Timeouts) error {
	if err := t.Check(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timeouts = orDefault(t, k.timeouts)
	return nil
}

func orDefault(t, or ipvs.Timeouts) ipvs.Timeouts {
	return ipvs.Timeouts{TCP: cmp.Or(t.TCP, or.TCP), TCPFIN: cmp.Or(t.TCPFIN, or.TCPFIN), UDP: cmp.Or(t.UDP, or.UDP)}
}
