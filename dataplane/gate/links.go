package gate

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// attachAll puts the gate on every interface, as the first act of a process,
// and takes off what an earlier one attached in another way. Interfaces that
// cannot have it are noted, and looked at again by Run; if none can, that is an
// error.
func (g *Gate) attachAll() error {
	g.watch.attached = make(map[int]string)
	g.watch.failing = make(map[string]string)
	g.watch.displaced = make(map[string]bool)
	links, err := interfaces()
	if err != nil {
		return err
	}
	present := make(map[int]bool)
	var failed error
	for _, l := range links {
		present[l.Attrs().Index] = true
		if err := g.attachOne(l); err != nil {
			g.failed(l.Attrs().Name, err)
			failed = errors.Join(failed, err)
		}
	}
	if len(g.watch.attached) == 0 && failed != nil {
		return failed
	}
	for _, h := range g.others() {
		for _, l := range links {
			if err := detachBoth(h, l); err != nil && !gone(l) {
				return err
			}
		}
		if err := h.forget(nil); err != nil {
			return err
		}
	}
	return g.hook.forget(present)
}

func detachBoth(h hook, l netlink.Link) error {
	return errors.Join(h.detach(l.Attrs().Index, ingress), h.detach(l.Attrs().Index, egress))
}

// attachOne puts both programs on an interface. One that vanishes meanwhile is
// no error.
func (g *Gate) attachOne(l netlink.Link) error {
	a := l.Attrs()
	for _, d := range directions {
		if err := g.hook.attach(a.Index, d, g.progs[d]); err != nil {
			if gone(l) {
				return nil
			}
			return fmt.Errorf("attach the gate to %s (%s, %s): %w", a.Name, g.mode, d, err)
		}
	}
	if err := g.verify(l); err != nil {
		return err
	}
	g.watch.mu.Lock()
	_, before := g.watch.attached[a.Index]
	if before {
		g.watch.reattached++
	}
	g.watch.attached[a.Index] = a.Name
	delete(g.watch.failing, a.Name)
	g.watch.mu.Unlock()
	if before {
		g.log.Warn("somebody took the gate off an interface; it is back", "interface", a.Name, "mode", g.mode)
	} else {
		g.log.Info("gate attached", "interface", a.Name, "mode", g.mode)
	}
	return nil
}

// verify finds out whether the kernel did what it said: on an ingress qdisc,
// which has one list of filters, a filter for what goes out takes the place of
// the one for what comes in.
func (g *Gate) verify(l netlink.Link) error {
	for _, d := range directions {
		at, err := g.hook.place(l.Attrs().Index, d, g.ids[d])
		if (err != nil || at < 0) && !gone(l) {
			return errors.Join(err, fmt.Errorf("attach the gate to %s (%s, %s): it is not there afterwards (is there an ingress qdisc instead of clsact?)",
				l.Attrs().Name, g.mode, d))
		}
	}
	return nil
}

// interfaces lists every interface but lo.
func interfaces() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		links, err = netlink.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return slices.DeleteFunc(links, func(l netlink.Link) bool { return l.Attrs().Index == loopback }), nil
}

// gone reports whether l no longer exists.
func gone(l netlink.Link) bool {
	_, err := netlink.LinkByIndex(l.Attrs().Index)
	return errors.As(err, &netlink.LinkNotFoundError{})
}

// interfaceAddrs lists the addresses on interfaces but lo.
func interfaceAddrs() (map[netip.Addr]bool, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		list, err = netlink.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := make(map[netip.Addr]bool)
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && a.LinkIndex != loopback {
			out[ip.Unmap()] = true
		}
	}
	return out, nil
}
