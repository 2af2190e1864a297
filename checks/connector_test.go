package checks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// pretended are sockets on a network of the tests. An answer is there at the next
// look.
type pretended struct {
	*network
	open map[int]fsm.Check
	next int
	shut bool
}

func (p *pretended) begin(c fsm.Check) (int, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[c.Dest] = append(p.seen[c.Dest], time.Since(p.start))
	p.next++
	p.open[p.next] = c
	return p.next, false, nil
}

func (p *pretended) ended(over func(int, error)) {
	p.mu.Lock()
	results := map[int]error{}
	for fd, c := range p.open {
		switch {
		case p.hang[c.Dest]:
			continue
		case p.down[c.Dest]:
			results[fd] = syscall.ECONNREFUSED
		default:
			results[fd] = nil
		}
		delete(p.open, fd)
	}
	p.mu.Unlock()
	for fd, err := range results {
		over(fd, err)
	}
}

func (p *pretended) drop(fd int) {
	if _, ok := p.open[fd]; !ok {
		panic(fmt.Sprintf("socket %d is given up and not open", fd))
	}
	delete(p.open, fd)
}

func (p *pretended) close() { p.shut = len(p.open) == 0 }

// runTogether is run with a connector.
func runTogether(t *testing.T, body func(t *testing.T, c *cluster, n *network), servers ...fsm.RealServer) {
	synctest.Test(t, func(t *testing.T) {
		c, n := newCluster(t, servers...), newNetwork()
		p := &pretended{network: n, open: map[int]fsm.Check{}}
		c.runner = New(Config{Propose: c.propose})
		c.runner.check = func(context.Context, fsm.Check) (fsm.Weighing, error) { panic("a TCP check by itself") }
		c.runner.open = func() (sockets, error) { return p, nil }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.runner.Run(ctx) }()
		c.runner.Update("m1", c.table)
		body(t, c, n)
		cancel()
		if err := <-done; err != nil || !p.shut {
			t.Errorf("Run: %v; all sockets closed: %v", err, p.shut)
		}
	})
}

// wantProbes compares moments; each probe may be two grains later after the one before.
func wantProbes(t *testing.T, n *network, a netip.AddrPort, want ...time.Duration) {
	t.Helper()
	got := n.probes(a)
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		late := got[i] - want[i]
		ok = ok && late >= 0 && late <= time.Duration(i+1)*2*grain
	}
	if !ok {
		t.Errorf("%s probed at %v, want %v", a, got, want)
	}
}

// Together, checks keep keepalived's times but for a grain, and say the same.
func TestTogether(t *testing.T) {
	runTogether(t, func(t *testing.T, c *cluster, n *network) {
		n.set(n.down, web2, true)
		n.set(n.hang, web3, true)
		after(5 * time.Second)
		if got := votesOnly(c); !slices.Equal(got, []string{"172.25.88.2:80 up", "172.25.88.3:80 down connection refused", "172.25.88.4:80 down no answer within 3s"}) {
			t.Errorf("votes %q", got)
		}
		n.set(n.down, web2, false)
		n.set(n.down, web1, true) // at 6 s; retries at 9, 12, 15
		after(9900 * time.Millisecond)
		if got := votesOnly(c); !slices.Equal(got, []string{"172.25.88.3:80 up"}) {
			t.Errorf("votes %q", got)
		}
		after(400 * time.Millisecond)
		if got := votesOnly(c); !slices.Equal(got, []string{"172.25.88.2:80 down connection refused"}) {
			t.Errorf("votes %q", got)
		}
		wantProbes(t, n, web1, 0, 6*time.Second, 9*time.Second, 12*time.Second, 15*time.Second)
		wantProbes(t, n, web2, 0, 6*time.Second, 12*time.Second)
		wantProbes(t, n, web3, 0, 9*time.Second)
	}, server(web1, pairCheck(web1)), server(web2, pairCheck(web2)), server(web3, pairCheck(web3)))
}

var web3 = netip.MustParseAddrPort("172.25.88.4:80")

// votesOnly leaves the moments out.
func votesOnly(c *cluster) (votes []string) {
	for _, v := range c.votes() {
		_, v, _ = strings.Cut(v, " ")
		votes = append(votes, v)
	}
	return votes
}

// A target that goes is probed no more, and what was under way says nothing.
func TestTogetherTargetsGo(t *testing.T) {
	one, two := server(web1, pairCheck(web1)), server(web2, pairCheck(web2))
	runTogether(t, func(t *testing.T, c *cluster, n *network) {
		n.set(n.hang, web2, true)
		after(time.Second)
		c.change(func(t *fsm.Table) { t.Services[0].RealServers = []fsm.RealServer{one} })
		after(9 * time.Second)
		wantProbes(t, n, web1, 0, 6*time.Second)
		wantProbes(t, n, web2, 0)
		n.set(n.hang, web2, false)
		c.change(func(t *fsm.Table) { t.Services[0].RealServers = []fsm.RealServer{one, two} })
		after(time.Second)
		if got := votesOnly(c); !slices.Equal(got, []string{"172.25.88.2:80 up", "172.25.88.3:80 up"}) {
			t.Errorf("votes %q", got)
		}
	}, one, two)
}

// chance are sockets that end when and how a property test draws it.
type chance struct {
	t    *rapid.T
	open map[int]bool
	next int
}

func (c *chance) begin(fsm.Check) (int, bool, error) {
	if rapid.IntRange(0, 9).Draw(c.t, "at once") == 0 {
		return -1, true, syscall.ENETUNREACH
	}
	c.next++
	c.open[c.next] = true
	return c.next, false, nil
}

func (c *chance) ended(over func(int, error)) {
	for fd := 1; fd <= c.next; fd++ {
		if !c.open[fd] {
			continue
		}
		switch rapid.IntRange(0, 3).Draw(c.t, "ends") {
		case 0:
			delete(c.open, fd)
			over(fd, nil)
		case 1:
			delete(c.open, fd)
			over(fd, syscall.ECONNREFUSED)
		}
	}
}

func (c *chance) drop(fd int) {
	if !c.open[fd] {
		c.t.Fatalf("socket %d is given up and not open", fd)
	}
	delete(c.open, fd)
}

func (c *chance) close() {}

// Whatever sockets do and targets come and go: no check begins before its pause is
// over, none waits for an answer longer than its time, nobody who went is heard of, and
// a look is due soon enough for the next.
func TestConnectorKeepsTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		net := &chance{t: t, open: map[int]bool{}}
		now := time.Now()
		const timeout, every = 80 * time.Millisecond, 100 * time.Millisecond
		ended := map[*probing]time.Time{}
		c := newConnector(net, func(p *probing, err error, began time.Time) time.Duration {
			if p.ctx.Err() != nil {
				t.Fatal("a target that went has a result")
			}
			if last, ok := ended[p]; ok && began.Sub(last) < every {
				t.Fatalf("a check began %v after the one before", began.Sub(last))
			}
			if late := now.Sub(began); late > timeout+slow {
				t.Fatalf("a check took %v", late)
			}
			ended[p] = began // the pause counts from there, or from later
			return every
		})
		type alive struct {
			p    *probing
			stop func()
			born time.Time
		}
		var all []alive
		for range rapid.IntRange(1, 60).Draw(t, "looks") {
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0:
				ctx, stop := context.WithCancel(context.Background())
				p := &probing{ctx: ctx, check: fsm.Check{Kind: fsm.CheckTCP, ConnectTimeout: fsm.Duration(timeout)}}
				all = append(all, alive{p, stop, now})
				c.add(p, now)
			case 1:
				if len(all) > 0 {
					i := rapid.IntRange(0, len(all)-1).Draw(t, "who goes")
					all[i].stop()
					all = slices.Delete(all, i, i+1)
				}
			}
			next := c.look(now)
			if next < grain {
				t.Fatalf("the next look is after %v", next)
			}
			if len(c.open) != len(net.open) {
				t.Fatalf("%d sockets open, %d known", len(net.open), len(c.open))
			}
			now = now.Add(min(next, every))
		}
		for _, a := range all {
			last := ended[a.p]
			if last.IsZero() {
				last = a.born
			}
			if silent := now.Sub(last); silent > every+timeout+every+2*slow {
				t.Fatalf("a target was not heard of for %v", silent)
			}
			a.stop()
		}
	})
}

// Real sockets: what is accepted, refused, never answered, or reset once accepted.
func TestConnectorOnSockets(t *testing.T) {
	open, closed, resets := listen(t), listen(t), listen(t)
	closed.Close()
	go func() {
		for {
			conn, err := resets.AcceptTCP()
			if err != nil {
				return
			}
			_ = conn.SetLinger(0) // a close resets
			conn.Close()
		}
	}()
	foreign := tcpCheck(addr(open))
	foreign.Bind = netip.MustParseAddr("192.0.2.1")
	bound := tcpCheck(addr(open))
	bound.Bind = netip.MustParseAddr("127.0.0.78")
	silent := tcpCheck(full(t))
	silent.ConnectTimeout = fsm.Duration(100 * time.Millisecond)
	for name, c := range map[string]struct {
		check fsm.Check
		want  string
	}{
		"accepted":         {tcpCheck(addr(open)), ""},
		"bound":            {bound, ""},
		"reset":            {tcpCheck(addr(resets)), ""},
		"refused":          {tcpCheck(addr(closed)), "connection refused"},
		"never answered":   {silent, "no answer within 100ms"},
		"from a stranger":  {foreign, "cannot check from 192.0.2.1: cannot assign requested address"},
		"IPv6, and nobody": {tcpCheck(netip.AddrPortFrom(netip.IPv6Loopback(), addr(closed).Port())), "connection refused"},
	} {
		got := connectOnce(t, c.check)
		if text := fmt.Sprint(got); c.want == "" && got != nil || c.want != "" && text != c.want {
			t.Errorf("%s: %v, want %q", name, got, c.want)
		}
	}
}

// connectOnce has one check made and returns its result.
func connectOnce(t *testing.T, c fsm.Check) error {
	t.Helper()
	net, err := newEpoll()
	if err != nil {
		t.Fatal(err)
	}
	defer net.close()
	results := make(chan error, 10)
	con := newConnector(net, func(_ *probing, err error, _ time.Time) time.Duration {
		results <- err
		return time.Hour
	})
	ctx, stop := context.WithCancel(t.Context())
	var ran sync.WaitGroup
	ran.Go(func() { con.run(ctx) })
	defer ran.Wait()
	defer stop()
	con.add(&probing{ctx: ctx, check: c}, time.Now())
	select {
	case err := <-results:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("nothing came of it")
	}
}

// full is a listener that takes no more connections: SYNs are lost.
func full(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		t.Cleanup(func() { unix.Close(fd) })
		err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	for range 2 { // a backlog of 0 has room for one
		conn, err := net.DialTimeout("tcp", to.String(), 200*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
	}
	return to
}
