package cluster

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"lbcluster/fsm"
)

// gossip runs memberlist, whose view of who is alive is shown in status. It
// decides nothing, and a node without it works.
type gossip struct {
	s *session

	mu      sync.Mutex
	list    *memberlist.Memberlist
	trouble error
}

func newGossip(s *session) *gossip { return &gossip{s: s} }

// config is memberlist's for a LAN, encrypted, and apart from other clusters.
func (g *gossip) config() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	addr := g.s.id.Addr
	c.Name = string(g.s.id.ID)
	c.BindAddr, c.AdvertiseAddr = addr.Addr().String(), addr.Addr().String()
	c.BindPort, c.AdvertisePort = int(addr.Port())+1, int(addr.Port())+1
	c.Label = g.s.id.Cluster
	c.SecretKey = g.s.id.GossipKey
	// A member that comes back with another address is otherwise refused for ever.
	c.DeadNodeReclaimTime = 30 * time.Second
	// A peer that is frozen must not hold up the end for the usual ten seconds.
	c.TCPTimeout = 2 * time.Second
	// Its packets are a few dozen bytes: compressing them costs more than sending.
	c.EnableCompression = false
	c.Logger = log.New(lineLogger{g.s.log.With("part", "gossip")}, "", 0)
	return c
}

// run gossips until ctx ends; a port that cannot be had is tried again.
func (g *gossip) run(ctx context.Context) error {
	for ctx.Err() == nil {
		list, err := memberlist.Create(g.config())
		g.set(list, err)
		if err != nil {
			g.s.log.Warn("gossip does not run; nothing depends on it", "error", err)
			sleep(ctx, 10*g.s.n.t.Retry)
			continue
		}
		g.keepJoined(ctx, list)
		g.set(nil, nil)
		// Leave tells the others that this is no failure; it must not hold up the end.
		if err := list.Leave(200 * time.Millisecond); err != nil {
			g.s.log.Debug("leaving the gossip", "error", err)
		}
		if err := list.Shutdown(); err != nil {
			g.s.log.Debug("ending the gossip", "error", err)
		}
	}
	return nil
}

// keepJoined contacts members that the gossip does not know.
func (g *gossip) keepJoined(ctx context.Context, list *memberlist.Memberlist) {
	for ctx.Err() == nil {
		alive := aliveIn(list)
		for _, id := range g.s.others() {
			addr, ok := g.s.addrOf(id)
			if !ok || alive[id] || ctx.Err() != nil {
				continue
			}
			peer := fmt.Sprintf("%s:%d", hostText(addr.Addr().String()), addr.Port()+1)
			if _, err := list.Join([]string{peer}); err != nil {
				g.s.log.Log(ctx, slog.LevelDebug, "gossip does not reach a member", "id", id, "error", err)
			}
		}
		sleep(ctx, 10*g.s.n.t.Retry)
	}
}

// hostText writes an address as the host part of host:port.
func hostText(ip string) string {
	for _, r := range ip {
		if r == ':' {
			return "[" + ip + "]"
		}
	}
	return ip
}

func (g *gossip) set(list *memberlist.Memberlist, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list, g.trouble = list, err
}

func aliveIn(list *memberlist.Memberlist) map[fsm.MemberID]bool {
	alive := make(map[fsm.MemberID]bool)
	for _, m := range list.Members() {
		alive[fsm.MemberID(m.Name)] = m.State == memberlist.StateAlive
	}
	return alive
}

// alive returns who gossip thinks is alive, and why it does not run.
func (g *gossip) alive() (map[fsm.MemberID]bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list == nil {
		return nil, g.trouble
	}
	return aliveIn(g.list), nil
}
