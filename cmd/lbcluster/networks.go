package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"lbcluster/fsm"
)

// hostAddr is an address of an interface of this machine that is up.
type hostAddr struct {
	iface  string
	mac    string // empty: the interface has none
	prefix netip.Prefix
}

// hostAddrs lists the addresses of interfaces that are up, but for loopback.
// Whether there is carrier does not matter: a pulled cable takes no address away.
func hostAddrs() ([]hostAddr, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var out []hostAddr
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it vanished meanwhile
		}
		mac := ""
		if len(i.HardwareAddr) == 6 {
			mac = i.HardwareAddr.String()
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, hostAddr{i.Name, mac, p})
			}
		}
	}
	return out, nil
}

// mostNetworks is how many addresses a member tells the others.
const mostNetworks = 16

// memberNetworks chooses what the others must know of this machine's addresses:
// its main one, those of the networks that hold VIPs or the main address, and
// those that named lists, as interfaces or networks. With one of them come the
// IPv6 link-local addresses of its interface, from which adverts are sent. A VIP
// never is one: it is here today and elsewhere tomorrow.
func memberNetworks(have []hostAddr, main netip.Addr, vips []netip.Addr, named []string) []fsm.Network {
	var out []fsm.Network
	ifaces := map[string]bool{}
	add := func(h hostAddr) {
		if !slices.ContainsFunc(out, func(n fsm.Network) bool { return n.Prefix.Addr() == h.prefix.Addr() }) {
			out = append(out, fsm.Network{Prefix: h.prefix, MAC: h.mac})
		}
	}
	for _, h := range have {
		a := h.prefix.Addr()
		if !a.IsGlobalUnicast() || slices.Contains(vips, a) || a != main && h.prefix.IsSingleIP() {
			continue
		}
		if h.prefix.Contains(main) || slices.ContainsFunc(vips, h.prefix.Contains) || h.isNamed(named) {
			add(h)
			ifaces[h.iface] = true
		}
	}
	for _, h := range have {
		if ifaces[h.iface] && h.prefix.Addr().IsLinkLocalUnicast() {
			add(h)
		}
	}
	first := func(n fsm.Network) int { // what must not be cut off comes first
		switch {
		case n.Prefix.Addr() == main:
			return 0
		case slices.ContainsFunc(vips, n.Prefix.Contains):
			return 1
		}
		return 2
	}
	slices.SortFunc(out, func(a, b fsm.Network) int {
		if x, y := first(a), first(b); x != y {
			return x - y
		}
		return a.Prefix.Addr().Compare(b.Prefix.Addr())
	})
	out = out[:min(len(out), mostNetworks)]
	slices.SortFunc(out, func(a, b fsm.Network) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	return out
}

func (h hostAddr) isNamed(named []string) bool {
	return slices.ContainsFunc(named, func(n string) bool {
		if p, err := netip.ParsePrefix(n); err == nil {
			return p.Contains(h.prefix.Addr())
		}
		return n == h.iface
	})
}

// checkNetwork reads an entry of networks: in lbcluster.yaml.
func checkNetwork(n string) error {
	if strings.Contains(n, "/") {
		if _, err := netip.ParsePrefix(n); err != nil {
			return fmt.Errorf("networks: %q is no network like 10.0.0.0/24", n)
		}
		return nil
	}
	if !ifName.MatchString(n) {
		return fmt.Errorf("networks: %q is neither an interface's name nor a network like 10.0.0.0/24", n)
	}
	return nil
}

// networks follows this machine's addresses: at once for the lease's sockets,
// and into the table for the others.
type networks struct {
	self    fsm.MemberID
	main    netip.Addr
	named   []string
	table   func() *fsm.Table
	propose func(context.Context, fsm.Command) (fsm.Result, error)
	look    func() ([]hostAddr, error)
	changed chan struct{} // one slot: locals changed
	log     *slog.Logger

	mu  sync.Mutex
	now []fsm.Network
}

const (
	networksPoll = time.Second
	// networksLasting is how many looks in a row must agree before the table is
	// told: a network that is just being set up changes from look to look.
	networksLasting = 3
	networksRetry   = 10 // looks after a proposal that failed
)

// locals are the prefixes for the lease's sockets.
func (n *networks) locals() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []netip.Prefix
	for _, w := range n.now {
		if !w.Prefix.Addr().IsLinkLocalUnicast() {
			out = append(out, w.Prefix)
		}
	}
	return out
}

// run looks from time to time until ctx ends. What can't be read or proposed is
// tried again; nothing here is worth the daemon's end.
func (n *networks) run(ctx context.Context) error {
	same, wait := 0, 0
	for {
		if n.refresh() {
			same = 0
		}
		same++
		wait = max(0, wait-1)
		if same >= networksLasting && wait == 0 && !n.tell(ctx) {
			wait = networksRetry
		}
		if !pause(ctx, networksPoll) {
			return nil
		}
	}
}

// refresh looks at the addresses; true: they changed.
func (n *networks) refresh() bool {
	have, err := n.look()
	if err != nil {
		return false // as before
	}
	now := memberNetworks(have, n.main, n.table().VIPs(), n.named)
	n.mu.Lock()
	changed := !slices.Equal(n.now, now)
	n.now = now
	n.mu.Unlock()
	if changed {
		poke(n.changed)
	}
	return changed
}

// tell brings the table up to date, if it is not; false: that failed.
func (n *networks) tell(ctx context.Context) bool {
	me, ok := n.table().Member(n.self)
	n.mu.Lock()
	now := slices.Clone(n.now)
	n.mu.Unlock()
	if !ok || me.State != fsm.Present || len(now) == 0 || slices.Equal(me.Networks, now) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	_, err := n.propose(ctx, fsm.Command{By: string(n.self), At: time.Now(), Member: &fsm.SetMember{ID: n.self, Networks: &now}})
	if err != nil && ctx.Err() == nil {
		n.log.Info("could not tell the cluster this machine's addresses, will try again", "err", err)
	}
	return err == nil
}

// poke wakes who waits for a channel of one slot.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
