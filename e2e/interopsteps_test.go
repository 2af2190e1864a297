package e2e

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/e2e/interop"
	"lbcluster/e2e/lab"
)

// act does what a step's name says.
func (r *interopRun) act(step string) {
	r.t.Helper()
	switch step {
	case interop.StepPeerStarts, interop.StepPeerStartsAgain:
		r.startPeer()
	case interop.StepPeerDies:
		r.peer.CutLink()
		r.signalPeer(syscall.SIGKILL)
		r.line.Off(time.Now(), r.peer.Name)
	case interop.StepPeerReturns:
		r.forget(r.peer)
		r.peer.RestoreLink()
		r.startPeer()
	case interop.StepOwnerDies, interop.StepNextDies:
		r.powerOff(r.owner())
	case interop.StepOthersDie:
		owner := r.owner()
		r.powerOff(r.Others(owner)...)
	case interop.StepBothReturn, interop.StepOthersReturn:
		r.powerOn()
	case interop.StepOwnerStops:
		r.stop(r.owner())
	case interop.StepAllStop:
		r.stop(r.Dirs...)
	case interop.StepOwnerReturns, interop.StepAllStart:
		r.start()
	case interop.StepPeerStops:
		if err := r.keepalived.Stop(); err != nil {
			r.t.Error(err)
		}
	case interop.StepPeerFreezes:
		r.signalPeer(syscall.SIGSTOP)
	case interop.StepPeerThaws:
		r.signalPeer(syscall.SIGCONT)
	case interop.StepPathCut:
		match := "ip protocol 112"
		if r.batch.IPv6 {
			match = "ip6 nexthdr 112"
		}
		r.cut = r.Partition([]*lab.Host{r.peer}, r.Dirs, match)
	case interop.StepPathHeals:
		r.cut.Heal()
	default:
		r.t.Fatalf("nobody knows how to do %q", step)
	}
}

func (r *interopRun) startPeer() {
	r.peer.MustRun("sh", "-c", "rm -f /run/ka*.pid") // of one that was killed
	r.keepalived = r.peer.StartKeepalived(r.batch.Theirs(len(r.Dirs)))
}

// signalPeer: keepalived is two processes, and no other runs there.
func (r *interopRun) signalPeer(sig syscall.Signal) {
	r.t.Helper()
	pids := r.peer.Pids()
	if len(pids) == 0 {
		r.t.Fatalf("keepalived does not run")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil {
			r.t.Errorf("signalling keepalived: %v", err)
		}
	}
}

// owner is the director that has the address of the cell which is always the
// cluster's if there is one.
func (r *interopRun) owner() *lab.Host {
	r.t.Helper()
	for _, h := range r.Dirs {
		if r.Daemons[h] != nil && h.HasAddress(r.batch.VIP(0)) {
			return h
		}
	}
	r.t.Fatalf("no director has %s", r.batch.VIP(0))
	return nil
}

// powerOff takes the power from all of them at once.
func (r *interopRun) powerOff(hosts ...*lab.Host) {
	for _, h := range hosts {
		r.Daemons[h].PowerOff()
		r.line.Off(time.Now(), h.Name)
		delete(r.Daemons, h)
		r.stopped = append(r.stopped, h)
	}
}

// powerOn gives it back to all that lost it.
func (r *interopRun) powerOn() {
	for _, h := range r.stopped {
		r.forget(h)
		h.Boot()
	}
	r.start()
}

// forget takes the addresses off a host whose kernel kept them.
func (r *interopRun) forget(h *lab.Host) {
	for i := range interop.Cells {
		bits := "/32"
		if r.batch.IPv6 {
			bits = "/128"
		}
		_, _ = h.Run(context.Background(), "ip", "addr", "del", r.batch.VIP(i)+bits, "dev", lab.Interface)
	}
}

// stop stops daemons as systemd would, all at once.
func (r *interopRun) stop(hosts ...*lab.Host) {
	r.t.Helper()
	var g errgroup.Group
	for _, h := range hosts {
		d := r.Daemons[h]
		g.Go(d.Stop)
		delete(r.Daemons, h)
		r.stopped = append(r.stopped, h)
	}
	if err := g.Wait(); err != nil {
		r.t.Errorf("stopping %d directors: %v", len(hosts), err)
	}
}

// start starts the daemons that do not run, all at once.
func (r *interopRun) start() {
	var started []*lab.Director
	for _, h := range r.stopped {
		started = append(started, h.StartDirector())
	}
	for i, h := range r.stopped {
		r.Started(h, started[i])
	}
	r.stopped = nil
}
