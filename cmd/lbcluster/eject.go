package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netns"

	"lbcluster/cluster"
	"lbcluster/cluster/api"
	"lbcluster/dataplane"
	"lbcluster/dataplane/gate"
	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
)

// forcedLeave is how long a forced eject waits for the cluster to agree.
const forcedLeave = 20 * time.Second

// leaver is a cluster.Node, to leave it.
type leaver interface {
	Leave(context.Context) error
	Abandon(context.Context) error
}

// leaveOrAbandon leaves the cluster; with force also where it does not agree, and
// then abandoned says why it did not.
func leaveOrAbandon(ctx context.Context, n leaver, force bool) (abandoned string, err error) {
	leaving, cancel := ctx, context.CancelFunc(func() {})
	if force {
		leaving, cancel = context.WithTimeout(ctx, forcedLeave)
	}
	defer cancel()
	err = n.Leave(leaving)
	switch {
	case err == nil || !force:
		return "", err
	case errors.Is(err, cluster.ErrLastMember):
		return "", n.Abandon(ctx) // nobody is left who could disagree
	}
	return err.Error(), n.Abandon(ctx)
}

// Eject implements api.Ejector. What is owned is given up by the parts' end, then
// the cluster is left, then the kernel is released.
func (d *theDaemon) Eject(ctx context.Context, req api.EjectRequest) (api.EjectReply, error) {
	if _, ok := d.node.Identity(); !ok {
		return api.EjectReply{}, api.ErrNotEnrolled
	}
	var out dataplane.Released
	dep := newDeparture(func(cfg NodeConfig) (err error) {
		out, err = releaseKernel(cfg)
		return err
	})
	if err := d.stopParts(ctx, dep); err != nil {
		return api.EjectReply{}, fmt.Errorf("eject: %w", err)
	}
	reply := api.EjectReply{Removed: []string{}}
	var err error
	reply.Abandoned, err = leaveOrAbandon(ctx, d.node, req.Force)
	close(dep.left)
	if err != nil {
		return reply, asAPI(fmt.Errorf("leave the cluster: %w", err))
	}
	if err := dep.wait(ctx); err != nil {
		return reply, errNotCleared(err)
	}
	for _, r := range out.Removed {
		reply.Removed = append(reply.Removed, r.String())
	}
	reply.Loopback = out.Loopback
	return reply, nil
}

// releaseKernel removes our addresses and, behind them, the gate; IPVS stays.
func releaseKernel(cfg NodeConfig) (dataplane.Released, error) {
	host, err := vip.New(netns.None())
	if err != nil {
		return dataplane.Released{}, fmt.Errorf("reach the interfaces: %w", err)
	}
	defer host.Close()
	k := ipvs.New("")
	defer k.Close()
	return release(
		func() (dataplane.Released, error) { return dataplane.Release(cfg.stateFile(), k, host, newHolder()) },
		func() error { return gate.Remove(cfg.BPFPinDir) })
}

// release takes the gate away only once no address is left that it kept silent.
func release(addresses func() (dataplane.Released, error), ungate func() error) (dataplane.Released, error) {
	out, err := addresses()
	if err != nil {
		return out, errors.Join(err, errors.New("the gate stays, closed, until no address is left behind it"))
	}
	if err := ungate(); err != nil {
		return out, fmt.Errorf("take the gate away: %w", err)
	}
	return out, nil
}
