package e2e

import (
	"fmt"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// The members talk on a network of their own, and the VIP is on another: either
// may die for the owner without anybody seeing it but by silence.
func TestTwoNetworks(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	nics := map[*lab.Host]*lab.NIC{}
	for i, h := range s.Dirs {
		addr := fmt.Sprintf("10.2.0.%d", 11+i)
		nics[h] = h.AddNIC(addr + "/24")
		s.Start(h, "--addr", addr)
	}
	token := tokenText.FindString(s.Dirs[0].MustRun("lbcluster", "init", "--guard", "0s"))
	for _, h := range s.Dirs[1:] {
		h.MustRun("lbcluster", "join", "10.2.0.11", "--token", token)
	}
	s.AwaitVoters(3)
	s.Serve()
	e := open(s)
	end := e.judged(t)
	time.Sleep(3 * time.Second) // all have heard each other on both networks
	t.Run("the members' network dies for the owner", func(t *testing.T) { e.membersNetworkDies(t, nics) })
	t.Run("the VIP's network dies for the owner", func(t *testing.T) { e.vipNetworkDies(t) })
	end()
}

// The leases go the other way.
func (e *eyes) membersNetworkDies(t *testing.T, nics map[*lab.Host]*lab.NIC) {
	e.AwaitCalm()
	owner, from := e.AwaitOwner(), probe.Now()
	nics[owner].Detach()
	e.wantUndisturbed(t, owner, from, pause(6*time.Second))
	nics[owner].Attach()
	e.heals(t, owner)
}

// The owner still has a majority and a carrier: it is the others, who do not
// hear it there, and hear each other, that tell.
func (e *eyes) vipNetworkDies(t *testing.T) {
	e.AwaitCalm()
	time.Sleep(6 * time.Second) // a new owner keeps the VIP for a while
	old, from := e.AwaitOwner(), probe.Now()
	old.Detach()
	next := e.AwaitSuccessor(old)
	e.await(old.Name+" takes the address off", 3*time.Second, func() bool { return !old.HasAddress(site.VIP) })
	e.wantHandover(t, next, from, pause(3*time.Second))
	old.Attach()
	e.heals(t, next)
}
