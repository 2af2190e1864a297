package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/vishvananda/netns"

	"lbcluster/cluster"
	"lbcluster/cluster/lease"
	"lbcluster/dataplane"
	"lbcluster/dataplane/gate"
	"lbcluster/dataplane/vip"
	"lbcluster/journal"
)

// fenceLimit bounds all that fence does.
const fenceLimit = time.Second

// fencer gives up what a dead daemon held. The steps are function values, so
// that their order can be tested.
type fencer struct {
	lock    func() (release func(), err error) // errAlive: a daemon lives
	close   func() ([]netip.Addr, error)       // the gate, read back
	remove  func() ([]dataplane.Leftover, error)
	release func(context.Context) (units int, err error) // the leases, in the dead daemon's name
	note    func(journal.Entry) error
}

// run takes the steps in the only safe order: gate closed and read back,
// addresses removed, leases released (R8). An error of the gate forbids the
// release: the promises then run out by themselves. It says on w what it did.
func (f fencer) run(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	unlock, err := f.lock()
	if errors.Is(err, errAlive) {
		fmt.Fprintln(w, "A daemon runs here: there is nothing to fence.")
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	closed, closeErr := f.close()
	if closeErr != nil {
		closeErr = fmt.Errorf("close the gate: %w; nothing is released, the leases run out by themselves", closeErr)
	} else if len(closed) > 0 {
		fmt.Fprintf(w, "The gate is closed for %s.\n", joined(closed))
	}
	removed, removeErr := f.remove()
	for _, r := range removed {
		fmt.Fprintf(w, "Removed %s.\n", r)
	}
	units, releaseErr := 0, error(nil)
	if closeErr == nil {
		if units, releaseErr = f.release(ctx); units > 0 {
			fmt.Fprintf(w, "Released %s in the dead daemon's name.\n", count(units, "lease"))
		}
	}
	if len(removed) > 0 || units > 0 {
		text := fmt.Sprintf("the daemon had died: gate closed, %s removed, %s released", count(len(removed), "VIP"), count(units, "lease"))
		releaseErr = errors.Join(releaseErr, f.note(journal.Entry{Kind: journal.Fenced, Text: text}))
	} else if closeErr == nil && removeErr == nil && releaseErr == nil {
		fmt.Fprintln(w, "The daemon had left nothing behind.")
	}
	return errors.Join(closeErr, removeErr, releaseErr)
}

func joined(addrs []netip.Addr) string {
	text := ""
	for i, a := range addrs {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	return text
}

// newFencer is the real one.
func newFencer(cfg NodeConfig) fencer {
	return fencer{
		lock: func() (func(), error) {
			l, err := takeLock(cfg.lockFile())
			if err != nil {
				return nil, err
			}
			return l.release, nil
		},
		close: func() ([]netip.Addr, error) { return gate.CloseAll(cfg.BPFPinDir) },
		remove: func() ([]dataplane.Leftover, error) {
			host, err := vip.New(netns.None())
			if err != nil {
				return nil, fmt.Errorf("reach the interfaces: %w", err)
			}
			defer host.Close()
			return dataplane.RemoveLeftovers(cfg.stateFile(), host)
		},
		release: func(ctx context.Context) (int, error) { return releaseDead(ctx, cfg) },
		note: func(e journal.Entry) error {
			e.At, e.Boot, e.BootID = time.Now(), gate.BootNow(), journal.BootID()
			return journal.Append(cfg.DataDir, e)
		},
	}
}

// releaseDead releases the leases in the dead daemon's name, and returns how many
// a majority of the voters knows to be free. Without a record of what it held,
// or without answers, they run out by themselves: that is no error.
func releaseDead(ctx context.Context, cfg NodeConfig) (int, error) {
	id, enrolled, err := cluster.EnrolledAs(cfg.DataDir)
	if err != nil || !enrolled {
		return 0, err
	}
	freed, err := lease.ReleaseDead(ctx, lease.Dead{StateFile: cfg.leaseFile(), Self: id.ID, Cluster: id.Cluster, Key: id.LeaseKey})
	if errors.Is(err, lease.ErrNothingKept) {
		return 0, nil
	}
	return len(freed.Acked), err
}
