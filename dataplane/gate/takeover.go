package gate

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"time"
)

// takeOver goes from the earlier process's gate to this one's. The order is the
// point: old closed (or, when it is inherited, copied), new attached, other
// kinds off, new pinned.
func (g *Gate) takeOver(known []netip.Addr, inherit bool) (err error) {
	old, err := findEarlier(g.dir)
	defer old.close()
	if err != nil {
		_, e := old.shut()
		return errors.Join(err, e)
	}
	// Two live gates contradict each other; neither is believed.
	inherit = inherit && len(old) == 1
	if !inherit {
		if _, err := old.shut(); err != nil {
			return err
		}
	}
	defer func() {
		// No program reads the old map now; or this attempt has failed half way
		// and both may be attached, so that nothing may stay open.
		_, e := old.shut()
		if err != nil {
			g.shutAll()
			err = errors.Join(err, e)
		}
	}()
	if err := g.prepareMaps(known, old, inherit); err != nil {
		return err
	}
	if err := g.loadPrograms(); err != nil {
		return err
	}
	if err := g.attachAll(); err != nil {
		return err
	}
	return g.maps.pin(g.dir)
}

// loadPrograms puts both variants of the program over the maps into the kernel.
func (g *Gate) loadPrograms() (err error) {
	for _, d := range directions {
		if g.progs[d], err = load(d, g.maps, g.mark); err != nil {
			return err
		}
		if g.ids[d], err = programID(g.progs[d]); err != nil {
			return err
		}
	}
	return nil
}

// prepareMaps makes the new maps, with every address that is known from
// anywhere and the members that the earlier process knew, and with its live
// deadlines where those are inherited.
func (g *Gate) prepareMaps(known []netip.Addr, old earlierGates, inherit bool) error {
	var err error
	if g.maps, err = newMaps(); err != nil {
		return err
	}
	g.slots.Store(&map[netip.Addr]*slot{})
	for i := range uint32(MaxVIPs) {
		g.free = append(g.free, MaxVIPs-1-i)
	}
	all := make(map[netip.Addr]bool)
	for _, a := range known {
		all[a] = false
	}
	members := make(map[[8]byte]bool)
	for _, e := range old {
		for a, v := range e.values {
			all[a] = all[a] || v.Local != 0 && g.mark != 0
		}
		maps.Copy(members, e.senders)
	}
	if err := errors.Join(g.change(all, nil), g.maps.setMembers(members)); err != nil {
		return err
	}
	if inherit {
		g.inherited = old[0].live()
		for a, d := range g.inherited {
			(*g.slots.Load())[a].set(d)
		}
	}
	return nil
}

// shutAll closes every address of this gate.
func (g *Gate) shutAll() {
	g.inherited = nil
	if slots := g.slots.Load(); slots != nil {
		for _, s := range *slots {
			s.set(0)
		}
	}
}

// closeWait is how long CloseAll waits for a process that is opening.
const closeWait = time.Second

// CloseAll shuts, from any process, whatever gate is pinned in pinDir ("" means
// DefaultPinDir) or attached to an interface of the calling thread's network
// namespace, reads it back, and returns the addresses that it holds. Nothing is
// detached, and without any gate there is nothing to do: for the short process
// that cleans up behind one that died.
//
// After an error what could be closed is closed, but the leases must not be
// released: a process that is in the middle of opening may have copied live
// deadlines (Config.Inherit).
func CloseAll(pinDir string) ([]netip.Addr, error) {
	if pinDir == "" {
		pinDir = DefaultPinDir
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	unlock, lockErr := lock(ctx, pinDir)
	if lockErr == nil {
		defer unlock()
	} else if errors.Is(lockErr, os.ErrNotExist) {
		lockErr = nil // nobody has opened a gate there since the machine started
	}
	old, findErr := findEarlier(pinDir)
	defer old.close()
	addrs, err := old.shut()
	return addrs, errors.Join(findErr, err, lockErr)
}

// Inherited are the deadlines, absolute CLOCK_BOOTTIME nanoseconds, that Open
// took over from the process before this one: these addresses pass until then.
// Whoever decides about leases adopts them, or closes them.
func (g *Gate) Inherited() map[netip.Addr]int64 { return maps.Clone(g.inherited) }
