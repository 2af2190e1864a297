package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
)

// Dead is what it takes to release what a dead process held.
type Dead struct {
	StateFile string // as in Config
	Self      fsm.MemberID
	Cluster   string
	Key       []byte // the cluster's lease key: it is not in the state file
	// Wait bounds the whole; 0: 200 ms.
	Wait time.Duration

	// For tests; zero: the kernel's, and a socket where the dead process listened.
	Boot   BootID
	Clocks *Clocks
	Conn   Conn
}

// Freed says what came of a ReleaseDead.
type Freed struct {
	Routers []uint64 // that the dead process may have held or asked for
	// Acked are those of them whose Release a majority of the asked voters knows.
	Acked []uint64
}

// repeatDead is how often an unanswered Release is sent again.
const repeatDead = 10 * time.Millisecond

// ReleaseDead releases, in the name of this member's dead process, all that its
// state file says it may hold, so that others need not wait for the promises to
// run out (R8). The caller must have closed the gate and read it back as closed,
// and removed the addresses: whatever is released may be held by another
// member the moment after. The process must be dead: while it lives the error
// is [ErrStateBusy]. Without a state file of this boot the error is
// [ErrNothingKept], and the promises run out by themselves.
func ReleaseDead(ctx context.Context, c Dead) (Freed, error) {
	if c.Boot == (BootID{}) {
		var err error
		if c.Boot, err = ReadBootID(); err != nil {
			return Freed{}, err
		}
	}
	file, s, err := openState(c.StateFile, stateOwner{c.Boot, clusterHash(c.Cluster), c.Self})
	if file == nil {
		return Freed{}, err
	}
	defer file.close()
	if err != nil {
		return Freed{}, fmt.Errorf("%w: %w", ErrNothingKept, err)
	}
	r := &undertaker{c: c, file: file, s: s, left: map[uint64][]fsm.MemberID{}}
	if err := r.ownVoter(); err != nil {
		return Freed{}, err
	}
	for id, t := range s.tenures {
		r.left[id] = without(t.asked, []fsm.MemberID{c.Self})
	}
	if r.seal, err = newSealer(c.Self, NewNonce(), c.Cluster, c.Key); err != nil {
		return Freed{}, err
	}
	return r.run(ctx)
}

// ErrNothingKept says that there is no account of what a dead process held.
var ErrNothingKept = errors.New("the lease kept nothing for its next process")

// undertaker sends the Releases of a dead process.
type undertaker struct {
	c    Dead
	file *stateFile
	s    saved
	seal *sealer
	left map[uint64][]fsm.MemberID // voters that have not answered
}

// ownVoter releases at this member's own voter, which is in the file too: it
// would refuse others when it starts again.
func (u *undertaker) ownVoter() error {
	clocks := KernelClocks()
	if u.c.Clocks != nil {
		clocks = *u.c.Clocks
	}
	v := newVoter(u.c.Self, Nonce{}, Params{}, u.s.embargo, u.s.seats)
	for id := range u.s.tenures {
		v.Step(clocks.Raw(), Message{Kind: Release, Router: id, From: u.c.Self, Boot: u.s.identity, Seq: u.s.seq})
	}
	for _, id := range v.changed() {
		if err := u.file.putSeat(id, v.seats[id]); err != nil {
			return err
		}
	}
	return nil
}

func (u *undertaker) run(ctx context.Context) (Freed, error) {
	conn := u.c.Conn
	if conn == nil {
		c, err := listen(u.s.listen) // answers go where the member was
		if err != nil {
			return u.freed(), err
		}
		conn = c
	}
	wait := u.c.Wait
	if wait == 0 {
		wait = 200 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	packets := make(chan []byte, 64)
	var g errgroup.Group
	g.Go(func() error { return receive(conn, packets) })
	g.Go(func() error {
		defer conn.Close() // ends receive
		u.serve(ctx, conn, packets)
		return nil
	})
	err := g.Wait()
	return u.freed(), err
}

// receive moves packets from a socket until it is closed.
func receive(conn Conn, to chan<- []byte) error {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := conn.Receive(buf)
		if err != nil {
			return nil // closed; or an ICMP error of a peer, after which silence is as good
		}
		select {
		case to <- append([]byte(nil), buf[:n]...):
		default:
		}
	}
}

// serve sends, and takes answers, until a majority of everybody's voters knows.
func (u *undertaker) serve(ctx context.Context, conn Conn, packets <-chan []byte) {
	again := time.NewTicker(repeatDead)
	defer again.Stop()
	u.send(conn)
	for !u.done() {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			u.send(conn)
		case p := <-packets:
			u.take(p)
		}
	}
}

func (u *undertaker) send(conn Conn) {
	for _, p := range u.s.peers {
		var ms []Message
		for _, id := range sortedKeys(u.left) {
			if slices.Contains(u.left[id], p.id) {
				ms = append(ms, Message{Kind: Release, Router: id, Seq: u.s.seq})
			}
		}
		for len(ms) > 0 {
			n := batch(ms)
			packet, err := u.seal.seal(p.id, appendBody(nil, fsm.ConfigTag{}, u.s.identity, Nonce{}, ms[:n]))
			ms = ms[n:]
			if err != nil {
				continue
			}
			for _, to := range p.addrs {
				_ = conn.Send(packet, to) // as good as lost on the way: it is sent again
			}
		}
	}
}

func (u *undertaker) take(p []byte) {
	known := func(id fsm.MemberID) bool {
		return slices.ContainsFunc(u.s.peers, func(p savedPeer) bool { return p.id == id })
	}
	ms, err := u.seal.open(p, known)
	if err != nil {
		return
	}
	for _, m := range ms {
		if m.Kind == ReleaseAck && m.Echo == u.s.identity && m.Seq == u.s.seq {
			u.left[m.Router] = without(u.left[m.Router], []fsm.MemberID{m.From})
		}
	}
}

// acked reports whether a majority of those that were asked knows.
func (u *undertaker) acked(id uint64) bool {
	asked := len(u.s.tenures[id].asked)
	return asked-len(u.left[id]) >= majority(asked)
}

func (u *undertaker) done() bool {
	for id := range u.s.tenures {
		if !u.acked(id) {
			return false
		}
	}
	return true
}

func (u *undertaker) freed() (f Freed) {
	for _, id := range sortedKeys(u.s.tenures) {
		f.Routers = append(f.Routers, id)
		if u.acked(id) {
			f.Acked = append(f.Acked, id)
		}
	}
	return f
}
