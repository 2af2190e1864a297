package bench

import (
	"time"

	"lbcluster/e2e/lab"
)

// watched is how long a broken owner is looked at.
const watched = 10 * time.Second

func cut(a *attempt) {
	a.begin("the cable of " + a.owner.Name + " is pulled")
	a.owner.CutLink()
	a.awaitSuccessor()
	a.end()
	a.owner.RestoreLink()
}

func killFenced(a *attempt) {
	a.begin("the daemon of " + a.owner.Name + " is killed")
	a.must(a.fence(a.owner))
	a.awaitSuccessor()
	a.end()
	a.revive(a.owner)
}

func kill(a *attempt) {
	a.begin("the daemon of " + a.owner.Name + " is killed")
	a.must(a.contestant.kill(a.owner))
	a.awaitSuccessor()
	a.until(watched / 2)
	a.end()
	a.revive(a.owner)
}

func freeze(a *attempt) {
	a.begin("the daemon of " + a.owner.Name + " is frozen")
	a.must(a.contestant.freeze(a.owner))
	a.until(watched)
	a.must(a.thaw(a.owner))
	time.Sleep(afterward)
	a.end()
}

func loseVRRP(a *attempt) {
	a.begin("VRRP is lost")
	block := a.site.Partition(a.site.Dirs, a.site.Dirs, "ip protocol 112")
	a.until(2 * watched)
	block.Heal()
	time.Sleep(afterward)
	a.end()
}

func reattach(a *attempt) {
	a.begin("the port of " + a.owner.Name + " dies silently")
	a.owner.Detach()
	a.awaitSuccessor()
	a.begin("the port of " + a.owner.Name + " lives again")
	a.owner.Attach()
	time.Sleep(2 * afterward)
	a.end()
}

func move(a *attempt) {
	a.begin("the VIP is to leave " + a.owner.Name)
	a.must(a.hand(a.owner))
	a.awaitSuccessor()
	time.Sleep(time.Second) // until the last request was answered or given up
	a.end()
	a.back(a.owner)
}

func killLeader(a *attempt) {
	leader := a.leader()
	a.begin("the daemon of " + leader.Name + ", the leader, is killed")
	a.must(a.contestant.kill(leader))
	a.until(watched / 2) // an election takes one to two seconds
	a.end()
	a.revive(leader)
}

func stallLeader(a *attempt) {
	leader := a.leader()
	a.begin("the disk of " + leader.Name + ", the leader, hangs")
	a.disks[leader].Stall()
	resumed := false
	defer func() { // a disk that hangs would keep the lab from ending
		if !resumed {
			a.disks[leader].Resume()
		}
	}()
	a.until(watched)
	a.disks[leader].Resume()
	resumed = true
	time.Sleep(afterward)
	a.end()
}

// the rest of the directors.
func others(dirs []*lab.Host, h *lab.Host) *lab.Host {
	for _, o := range dirs {
		if o != h {
			return o
		}
	}
	return nil
}
