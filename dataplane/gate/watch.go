package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// How often attachments are looked at without an event. A tcx program that goes
// says nothing on netlink, so there the look is what finds it.
const (
	lookTCX = 25 * time.Millisecond
	lookAll = time.Second // with a fresh list of interfaces
	// quantum bounds how long Run takes to see the end of its context.
	quantum = 50 * time.Millisecond
	// repairWait is how long a repair waits for a process that is opening.
	repairWait = time.Second
)

// watchState is what the watch has seen; mu guards it.
type watchState struct {
	mu         sync.Mutex
	attached   map[int]string // index -> name of interfaces that have both programs
	reattached uint64
	failing    map[string]string // interface -> why it has no gate
	displaced  map[string]bool   // interfaces where another program runs first
}

// Run keeps the gate on every interface: new ones get it, and where somebody
// took it off it is put back and counted. It returns nil when ctx ends, with
// everything still attached, and ErrSuperseded when a later process has opened
// the gate; other errors are logged, shown in Status and tried again. It works
// in the network namespace of the thread that calls it and starts no goroutine.
func (g *Gate) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := g.follow(ctx)
		if errors.Is(err, ErrSuperseded) {
			return err
		}
		if err != nil {
			g.failed("", err)
			sleep(ctx, time.Second)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// follow looks after each event and at intervals, until ctx ends or the event
// socket fails.
func (g *Gate) follow(ctx context.Context) error {
	// Subscribed before the first look: no change can fall between.
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_TC)
	if err != nil {
		return fmt.Errorf("subscribe to interface and filter events: %w", err)
	}
	defer s.Close()
	every := lookTCX
	if g.mode == ModeClsact {
		every = lookAll
	}
	var links []netlink.Link // as of the last full look
	var last, full time.Time
	event := true
	for ctx.Err() == nil {
		if event || time.Since(full) >= lookAll {
			if links, err = interfaces(); err != nil {
				return err
			}
			full, last = time.Now(), time.Time{}
		}
		if time.Since(last) >= every {
			if err := g.look(ctx, links); err != nil {
				return err
			}
			last = time.Now()
			if g.unfit != "" {
				sleep(ctx, quantum) // a try that fails makes events too
			}
		}
		if event, err = wait(s, min(quantum, max(time.Millisecond, every-time.Since(last)))); err != nil {
			return err
		}
	}
	return nil
}

// wait reports whether something happened within d. Events that follow closely
// (an interface's coming makes several) are taken together.
func wait(s *nl.NetlinkSocket, d time.Duration) (event bool, err error) {
	for range 20 {
		tv := unix.NsecToTimeval(int64(d))
		if err := s.SetReceiveTimeout(&tv); err != nil {
			return event, fmt.Errorf("set the event socket's timeout: %w", err)
		}
		_, _, err := s.Receive()
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS): // overrun: look at everything, as always
			event = true
			d = time.Millisecond
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return event, nil
		default:
			return event, fmt.Errorf("read interface and filter events: %w", err)
		}
	}
	return event, nil
}

// look compares what is attached with what should be, and repairs it.
func (g *Gate) look(ctx context.Context, links []netlink.Link) error {
	ours, err := g.maps.owned(g.dir)
	lost := errors.Is(err, os.ErrNotExist)
	if err != nil && !lost {
		g.failed("", fmt.Errorf("look at the pinned maps: %w", err))
	} else if !lost && !ours {
		return ErrSuperseded
	}
	missing := g.missing(links)
	if len(missing) > 0 || lost {
		err = g.repair(ctx, missing)
	} else {
		err = nil
	}
	g.judge(links)
	return err
}

// judge tells of interfaces without the gate, as far as a repair did not help.
func (g *Gate) judge(links []netlink.Link) {
	present := map[string]bool{"": true}
	for _, l := range links {
		present[l.Attrs().Name] = true
	}
	why := ""
	g.watch.mu.Lock()
	for name, text := range g.watch.failing {
		switch {
		case !present[name]:
			delete(g.watch.failing, name) // an interface that went before it ever had the gate
		case name != "" && (why == "" || name+": "+text < why):
			why = name + ": " + text
		}
	}
	g.watch.mu.Unlock()
	if why == g.unfit && g.judged {
		return
	}
	g.unfit, g.judged = why, true
	if g.onFit != nil {
		g.onFit(why == "", why)
	}
}

// repair attaches what is missing, under the lock, unless another process has
// taken over: a thawed process must not put its dead map back.
func (g *Gate) repair(ctx context.Context, missing []netlink.Link) error {
	if _, err := prepare(g.dir); err != nil { // the folder may be what was removed
		g.failedOn(missing, err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, repairWait)
	defer cancel()
	unlock, err := lock(ctx, g.dir)
	if err != nil {
		g.failedOn(missing, err)
		return nil
	}
	defer unlock()
	ours, err := g.maps.owned(g.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		g.log.Warn("the gate's pinned maps were removed; pinning them again", "dir", g.dir)
		if err := g.maps.pin(g.dir); err != nil {
			g.failed("", err)
		}
	case err != nil:
		g.failedOn(missing, err)
		return nil
	case !ours:
		return ErrSuperseded
	}
	for _, l := range missing {
		if err := g.attachOne(l); err != nil {
			g.failed(l.Attrs().Name, err)
		}
	}
	return nil
}

// failedOn notes why the gate could not be put back where it is missing.
func (g *Gate) failedOn(missing []netlink.Link, err error) {
	if len(missing) == 0 {
		g.failed("", err)
	}
	for _, l := range missing {
		g.failed(l.Attrs().Name, err)
	}
}

// failed notes and logs a failure, once for as long as it stays the same.
func (g *Gate) failed(name string, err error) {
	g.watch.mu.Lock()
	same := g.watch.failing[name] == err.Error()
	g.watch.failing[name] = err.Error()
	g.watch.mu.Unlock()
	if !same {
		g.log.Error("the gate is not on an interface or cannot look", "interface", name, "err", err)
	}
}

// missing lists the interfaces that lack a program.
func (g *Gate) missing(links []netlink.Link) []netlink.Link {
	present := make(map[int]bool)
	var out []netlink.Link
	for _, l := range links {
		present[l.Attrs().Index] = true
		ok, err := g.complete(l)
		if err != nil {
			if !gone(l) {
				g.failed(l.Attrs().Name, err)
			}
			continue
		}
		if !ok {
			out = append(out, l)
		}
	}
	g.forget(present)
	return out
}

// complete reports whether both our programs are on l, and notes who is first.
func (g *Gate) complete(l netlink.Link) (bool, error) {
	first := true
	for _, d := range directions {
		at, err := g.hook.place(l.Attrs().Index, d, g.ids[d])
		if err != nil || at < 0 {
			return false, err
		}
		first = first && at == 0
	}
	ahead, err := g.ahead(l)
	if err != nil {
		return false, err
	}
	g.noteOrder(l.Attrs().Name, first && !ahead)
	g.noteAttached(l)
	return true, nil
}

// ahead reports whether others' programs see packets of l before any program of
// the gate's hook does: XDP, and tcx before the filters of clsact.
func (g *Gate) ahead(l netlink.Link) (bool, error) {
	if x := l.Attrs().Xdp; x != nil && x.Attached {
		return true, nil
	}
	if g.mode != ModeClsact || !g.tcxToo {
		return false, nil
	}
	for _, d := range directions {
		progs, err := tcx{}.query(l.Attrs().Index, d)
		if err != nil || len(progs) > 0 {
			return len(progs) > 0, err
		}
	}
	return false, nil
}

func (g *Gate) noteOrder(name string, first bool) {
	g.watch.mu.Lock()
	defer g.watch.mu.Unlock()
	if first {
		delete(g.watch.displaced, name)
	} else if !g.watch.displaced[name] {
		g.watch.displaced[name] = true
		g.log.Warn("another program runs before the gate and may let packets around it", "interface", name)
	}
}

func (g *Gate) noteAttached(l netlink.Link) {
	g.watch.mu.Lock()
	defer g.watch.mu.Unlock()
	g.watch.attached[l.Attrs().Index] = l.Attrs().Name
	delete(g.watch.failing, l.Attrs().Name)
	delete(g.watch.failing, "")
}

// forget drops what is known of interfaces that are gone.
func (g *Gate) forget(present map[int]bool) {
	g.watch.mu.Lock()
	dropped := false
	for i, name := range g.watch.attached {
		if !present[i] {
			dropped = true
			delete(g.watch.attached, i)
			delete(g.watch.failing, name)
			delete(g.watch.displaced, name)
		}
	}
	g.watch.mu.Unlock()
	if !dropped {
		return
	}
	if err := g.hook.forget(present); err != nil {
		g.failed("", err)
	}
}
