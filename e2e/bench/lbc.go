package bench

import (
	"fmt"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// diskMB is the size of a director's own disk.
const diskMB = 64

// lbcluster is a cluster of three directors that serves.
func lbcluster(s *site.Site) *contestant {
	c := &contestant{
		site:   s,
		freeze: func(h *lab.Host) error { return s.Daemons[h].Freeze() },
		thaw:   func(h *lab.Host) error { return s.Daemons[h].Thaw() },
		kill:   func(h *lab.Host) error { s.Daemons[h].Kill(); delete(s.Daemons, h); return nil },
		fence:  func(h *lab.Host) error { d := s.Daemons[h]; delete(s.Daemons, h); return d.KillWithStopPost() },
		revive: func(h *lab.Host) { s.Start(h) },
		start:  func(h *lab.Host) { s.Daemons[h] = h.StartDirector() },
		stop:   func(h *lab.Host) error { d := s.Daemons[h]; delete(s.Daemons, h); return d.Stop() },
		back:   func(*lab.Host) {},
		pids:   func(h *lab.Host) []int { return []int{s.Daemons[h].Pid()} },
	}
	c.calm = func() *lab.Host {
		s.AwaitCalm()
		time.Sleep(time.Second)
		return s.AwaitOwner()
	}
	c.hand = func(owner *lab.Host) error { return c.order(owner, others(s.Dirs, owner)) }
	c.leader = func() *lab.Host {
		for range 5 {
			leader, owner := s.AwaitCalm(), s.AwaitOwner()
			if leader != owner {
				return leader
			}
			if err := c.order(owner, others(s.Dirs, owner)); err != nil {
				s.T.Fatalf("moving the VIP away from Raft's leader: %v", err)
			}
		}
		s.T.Fatalf("Raft's leader is the owner again and again")
		return nil
	}
	c.why = func() string {
		for _, h := range s.Dirs {
			if s.Daemons[h] == nil {
				continue
			}
			if out, status := s.Command(h, "why", "VI_1"); status == 0 {
				return out
			}
		}
		return "no director answers lbcluster why\n"
	}
	return c
}

// order moves the VIP.
func (c *contestant) order(owner, to *lab.Host) error {
	out, status := c.site.Command(to, "router", "move", "VI_1", to.Name)
	if status != 0 {
		return fmt.Errorf("lbcluster router move from %s to %s: exit status %d: %s", owner.Name, to.Name, status, out)
	}
	return nil
}

// lbclusterOnDisks gives each director's data folder a disk of its own.
func lbclusterOnDisks(t lab.T) *contestant {
	s := site.New(t, 3)
	disks := map[*lab.Host]*lab.Disk{}
	for _, h := range s.Dirs {
		disks[h] = h.OwnDisk(diskMB)
	}
	s.Form()
	s.Serve()
	c := lbcluster(s)
	c.disks = disks
	return c
}
