package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"lbcluster/fsm"
)

// Paths says how checks get to a real server by way of to, a virtual server's address:
// with a firewall mark, from an address. ok is false while they cannot from here; that
// says nothing of the server. It is the data plane.
type Paths interface {
	Path(server netip.Addr, to netip.AddrPort) (mark uint32, from netip.Addr, ok bool)
}

// errNoResult is that of a probe which could not be made.
var errNoResult = errors.New("no result")

// ask makes one probe of a server.
func (r *Runner) ask(ctx context.Context, c fsm.Check, server netip.AddrPort) (fsm.Weighing, error) {
	if !c.DSR {
		return r.check(ctx, c)
	}
	if r.paths == nil {
		return fsm.Weighing{}, errNoResult
	}
	through, ok := c, false
	if through.Mark, through.Bind, ok = r.paths.Path(server.Addr(), c.Dest); !ok {
		return fsm.Weighing{}, errNoResult
	}
	_, err := r.check(ctx, through)
	if err == nil || ctx.Err() != nil {
		return fsm.Weighing{}, err
	}
	for _, local := range []error{syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.EPERM, syscall.EINVAL} {
		if errors.Is(err, local) {
			return fsm.Weighing{}, errNoResult // this host's fault
		}
	}
	itself := c
	itself.Dest = netip.AddrPortFrom(server.Addr(), c.Dest.Port())
	if _, direct := r.check(ctx, itself); direct != nil {
		return fsm.Weighing{}, direct
	}
	if strings.HasPrefix(err.Error(), "no answer") {
		return fsm.Weighing{}, errors.New("answers, but the VIP is not on its loopback")
	}
	return fsm.Weighing{}, fmt.Errorf("answers, but not as %s: %w", c.Dest, err)
}
