package dataplane

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"lbcluster/dataplane/vip"

	"golang.org/x/sync/errgroup"
)

// Claimer asks the neighbours: a *vip.Host.
type Claimer interface {
	// Claims are who else than this host answers for addr on l within wait.
	Claims(ctx context.Context, l vip.Link, addr netip.Addr, wait time.Duration) ([]vip.Claim, error)
}

// Times of asking.
const (
	askEvery = 10 * time.Second // after the answers to the last round
	askWait  = time.Second      // for an answer
	askLimit = 16               // questions under way
)

// Claimed is an address that this host owns, and for which others answer, too:
// some neighbours send there what is meant for the owner.
type Claimed struct {
	Router uint64     `json:"router"`
	Addr   netip.Addr `json:"addr"`
	// Interface is where they answer.
	Interface string      `json:"interface"`
	By        []vip.Claim `json:"by"`
}

// claimLoop asks, for each address that is owned here, who else answers for it. The
// owner alone does: each address is asked for once, and whoever answers is wrong,
// since the gates of the other members keep them silent.
func (p *Plane) claimLoop(ctx context.Context) error {
	if p.cfg.Claims == nil {
		return nil
	}
	for sleep(ctx, askEvery) {
		found, err := p.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			p.failed("look for others that answer for VIPs", err)
		}
		p.mu.Lock()
		old := p.status.Claimed
		p.status.Claimed = found
		p.mu.Unlock()
		p.tellClaims(old, found)
	}
	return nil
}

// ask makes one round. Addresses that could not be asked for are left out.
func (p *Plane) ask(ctx context.Context) ([]Claimed, error) {
	p.mu.Lock()
	vips := slices.Clone(p.status.VIPs)
	p.mu.Unlock()
	snap, err := p.cfg.VIPs.Snapshot()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var found []Claimed
	var g errgroup.Group
	g.SetLimit(askLimit)
	for _, v := range vips {
		l, ok := snap.Named(v.Interface)
		if !v.Owned || !v.On || !ok || !ready(l) {
			continue
		}
		g.Go(func() error {
			by, err := p.cfg.Claims.Claims(ctx, l, v.Prefix.Addr(), askWait)
			if len(by) > 0 {
				mu.Lock()
				defer mu.Unlock()
				found = append(found, Claimed{Router: v.Router, Addr: v.Prefix.Addr(), Interface: l.Name, By: by})
			}
			return err
		})
	}
	err = g.Wait()
	slices.SortFunc(found, func(a, b Claimed) int { return a.Addr.Compare(b.Addr) })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owned(found), err
}

// owned leaves out what went to another owner since it was asked for. The caller holds
// p.mu.
func (p *Plane) owned(found []Claimed) []Claimed {
	return slices.DeleteFunc(found, func(c Claimed) bool {
		return !slices.ContainsFunc(p.status.VIPs, func(v VIPStatus) bool {
			return v.Router == c.Router && v.Prefix.Addr() == c.Addr && v.Owned && v.On
		})
	})
}

// claimed is what the last round found, as far as it is still owned here. The caller
// holds p.mu.
func (p *Plane) claimed() []Claimed {
	return p.owned(slices.Clone(p.status.Claimed))
}

// tellClaims logs what is new, and what is over.
func (p *Plane) tellClaims(old, now []Claimed) {
	has := func(all []Claimed, c Claimed) bool {
		return slices.ContainsFunc(all, func(o Claimed) bool { return o.Addr == c.Addr && reflect.DeepEqual(o.By, c.By) })
	}
	for _, c := range now {
		if !has(old, c) {
			var by []string
			for _, b := range c.By {
				by = append(by, b.String())
			}
			p.log.Warn("dataplane: others answer for an address that is owned here", "address", c.Addr, "interface", c.Interface, "by", strings.Join(by, ", "))
		}
	}
	for _, o := range old {
		if !slices.ContainsFunc(now, func(c Claimed) bool { return c.Addr == o.Addr }) {
			p.log.Info("dataplane: nobody else answers any more for an address", "address", o.Addr)
		}
	}
}
