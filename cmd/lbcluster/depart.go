package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netns"

	"lbcluster/dataplane"
	"lbcluster/dataplane/gate"
	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// departure is a request to let go, for the machine is about to leave its cluster.
type departure struct {
	stopped chan struct{} // closed when this member's parts have ended
	left    chan struct{} // closed when the node has left, or failed to
	clear   func(NodeConfig) error
	cleared chan error // one slot: what became of the kernel's part then
}

// newDeparture has clear done to the kernel once the machine has left.
func newDeparture(clear func(NodeConfig) error) departure {
	return departure{stopped: make(chan struct{}), left: make(chan struct{}), clear: clear, cleared: make(chan error, 1)}
}

// wait waits until the kernel is cleared.
func (dep departure) wait(ctx context.Context) error {
	select {
	case err := <-dep.cleared:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// depart, once no part runs, waits until the node has left and then takes everything of ours out of
// the kernel. A node that failed to leave stays what it is.
func (d *theDaemon) depart(dep departure) {
	id, was := d.node.Identity() // while it is still one
	close(dep.stopped)
	<-dep.left
	if _, still := d.node.Identity(); still || !was || id.Role == fsm.Witness {
		dep.cleared <- nil // a witness has nothing there, and perhaps no right to look
		return
	}
	err := dep.clear(d.cfg)
	if err != nil {
		d.log.Error("left the cluster, but not everything is out of the kernel", "err", err)
	}
	dep.cleared <- err
}

// clearKernel removes addresses, sysctls, marks and IPVS services of ours, and last
// the gate, behind which none of the addresses may be left.
func clearKernel(cfg NodeConfig) error {
	host, err := vip.New(netns.None())
	if err != nil {
		return fmt.Errorf("reach the interfaces: %w", err)
	}
	defer host.Close()
	k := ipvs.New("")
	defer k.Close()
	if err := dataplane.Clear(cfg.stateFile(), k, host, newMarker(), newHolder()); err != nil {
		return err
	}
	if err := gate.Remove(cfg.BPFPinDir); err != nil {
		return fmt.Errorf("take the gate away: %w", err)
	}
	return nil
}

// errNotCleared says what the operator has to look at.
func errNotCleared(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errors.New("this machine has left its cluster, but something of it is still in its kernel"), err)
}
