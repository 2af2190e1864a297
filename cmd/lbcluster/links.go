package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lbcluster/journal"
)

// linkRetry is how long the watch of interfaces waits when it failed.
const linkRetry = time.Second

// linkLog turns what the kernel says of interfaces into entries of the journal.
// It belongs to one goroutine.
type linkLog struct {
	// matters says whether members or clients are reached over the interface.
	matters func(index int, name string) bool
	note    func(journal.Entry)
	links   map[int]linkState
}

type linkState struct {
	name, down string // down: why nothing goes over it; empty: it is up
	known      bool   // it mattered once
}

// take notes an interface's state when it has changed. What was so when the
// watch began is no change.
func (l *linkLog) take(index int, name, down string) {
	was, old := l.links[index]
	is := linkState{name, down, was.known || l.matters(index, name)}
	l.links[index] = is
	if !old || was.down == down || !is.known {
		return
	}
	e := journal.Entry{Kind: journal.Link, Cause: journal.LinkUp, Text: name}
	if down != "" {
		e.Cause, e.Text = journal.LinkDown, name+": "+down
	}
	l.note(e)
}

// gone notes that an interface was removed.
func (l *linkLog) gone(index int) {
	was, ok := l.links[index]
	delete(l.links, index)
	if ok && was.known && was.down == "" {
		l.note(journal.Entry{Kind: journal.Link, Cause: journal.LinkDown, Text: was.name + ": it was removed"})
	}
}

// linkDown says why nothing goes over an interface with such flags (IFF_* of
// linux/if.h); empty: it is up.
func linkDown(flags uint32) string {
	switch {
	case flags&unix.IFF_UP == 0:
		return "it was set down"
	case flags&unix.IFF_LOWER_UP == 0:
		return "no carrier"
	}
	return ""
}

// watchLinks records what becomes of this machine's interfaces until ctx ends.
func (m *member) watchLinks(ctx context.Context) error {
	l := &linkLog{matters: m.usesLink, note: m.d.note, links: map[int]linkState{}}
	for said := ""; ; {
		if err := l.follow(ctx); err != nil && err.Error() != said {
			said = err.Error()
			m.d.log.Warn("the interfaces cannot be watched for the journal", "err", err)
		}
		if !pause(ctx, linkRetry) {
			return nil
		}
	}
}

// follow takes updates until ctx ends or the kernel's socket fails.
func (l *linkLog) follow(ctx context.Context) error {
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	var failed error
	opts := netlink.LinkSubscribeOptions{ListExisting: true, ErrorCallback: func(err error) { failed = err }}
	if err := netlink.LinkSubscribeWithOptions(updates, done, opts); err != nil {
		return fmt.Errorf("subscribe to the interfaces: %w", err)
	}
	defer func() {
		close(done) // it closes the socket, and then updates
		for range updates {
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			switch {
			case !ok:
				return failed
			case u.Header.Type == unix.RTM_DELLINK:
				l.gone(int(u.Index))
			default:
				l.take(int(u.Index), u.Attrs().Name, linkDown(u.Flags))
			}
		}
	}
}

// usesLink says whether an address of this member or a VIP belongs on an
// interface.
func (m *member) usesLink(index int, name string) bool {
	if m.plane != nil {
		for _, v := range m.plane.Status().VIPs {
			if v.Interface == name {
				return true
			}
		}
	}
	addrs, err := netlink.AddrList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}, netlink.FAMILY_ALL)
	if err != nil {
		return false // it is for the record alone
	}
	mine := append(m.nets.locals(), netip.PrefixFrom(m.id.Addr.Addr(), m.id.Addr.Addr().BitLen()))
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
		ip, ok := netip.AddrFromSlice(a.IP)
		return ok && slices.ContainsFunc(mine, func(p netip.Prefix) bool { return p.Addr() == ip.Unmap() })
	})
}
