package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
)

// inbox collects what a member was sent.
type inbox struct {
	mu  sync.Mutex
	got []string
}

func (b *inbox) take(from fsm.MemberID, packet []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, fmt.Sprintf("%s: %s", from, packet))
}

func (b *inbox) has(want string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.got {
		if s == want {
			return true
		}
	}
	return false
}

func (b *inbox) len() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.got) }

// Lease packets go from each member to each other one over real TLS, also after
// one of them has started again, and not to members that were removed.
func TestRelayBetweenMembers(t *testing.T) {
	boxes := []*inbox{{}, {}, {}}
	all := make([]*machineUnderTest, 3)
	for i := range all {
		m := &machineUnderTest{t: t, cfg: Config{
			Dir: t.TempDir(), Name: fmt.Sprintf("dir%d", i+1), Addr: freeAddr(t), Timing: quick,
			Log: testLog(t, fmt.Sprint(i)), OnLeasePacket: boxes[i].take,
		}}
		if m.start(); m.node.Relay("m1", []byte("early")) {
			t.Error("a node in no cluster sends lease packets")
		}
		all[i] = m
	}
	token, err := all[0].node.Init(within10(t), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	all[1].join(token)
	all[2].join(token)
	try := func(from, to int, text string) {
		t.Helper()
		want := fmt.Sprintf("m%d: %s", from+1, text)
		eventually(t, fmt.Sprintf("%q at m%d", want, to+1), func() bool {
			all[from].node.Relay(fsm.MemberID(fmt.Sprintf("m%d", to+1)), []byte(text))
			return boxes[to].has(want)
		})
	}
	for from := range all {
		for to := range all {
			if from != to {
				try(from, to, "hello")
			}
		}
	}
	all[1].restart()
	try(0, 1, "back?")
	try(1, 2, "back!")

	for _, id := range []fsm.MemberID{"m1", "m9"} { // itself, and nobody
		if all[0].node.Relay(id, []byte("x")) {
			t.Errorf("m1 sends to %s", id)
		}
	}
	if all[0].node.Relay("m2", nil) || all[0].node.Relay("m2", make([]byte, maxRelayed+1)) {
		t.Error("a packet without a size that is allowed is taken")
	}
	if err := all[0].node.RemoveMember(within10(t), "m3"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no way to m3", func() bool { return !all[0].node.Relay("m3", []byte("gone?")) })
}

// Without a member's certificate nobody delivers a packet.
func TestRelayWantsAMember(t *testing.T) {
	m, _ := found(t, "dir1")
	c, err := tls.Dial("tcp", m.cfg.Addr.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpnLease}})
	if err == nil {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stranger may speak the lease's protocol: %v", err)
	}
}

// bubbleRelay is a relay to m2 and m3 in virtual time; dial makes the streams.
func bubbleRelay(ctx context.Context, dial func(ctx context.Context, to fsm.MemberID) (net.Conn, error)) (*relay, func()) {
	r := &relay{dial: dial, log: slog.New(slog.DiscardHandler), pause: 250 * time.Millisecond, from: map[fsm.MemberID]net.Conn{}}
	r.lines.Store(&map[fsm.MemberID]*relayLine{})
	ctx, stop := context.WithCancel(ctx)
	q := &queue{ch: make(chan net.Conn), done: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = r.run(ctx, q, func() ([]fsm.MemberID, <-chan struct{}) { return []fsm.MemberID{"m2", "m3"}, nil })
	})
	synctest.Wait()
	return r, func() { stop(); q.Close(); wg.Wait() }
}

// A member that reads nothing holds up neither the sender nor another member,
// and its connection is given up and tried again.
func TestRelayToAStuckMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, dials := &inbox{}, map[fsm.MemberID]int{}
		var mu sync.Mutex
		reader := &relay{deliver: box.take, log: slog.New(slog.DiscardHandler)}
		r, stop := bubbleRelay(t.Context(), func(_ context.Context, to fsm.MemberID) (net.Conn, error) {
			mu.Lock()
			dials[to]++
			mu.Unlock()
			here, there := net.Pipe() // no buffer: a write waits for its reader
			if to == "m3" {
				go reader.read(there, "m1")
			}
			return here, nil
		})
		const n = 200
		start := time.Now()
		for i := range n {
			began := time.Now()
			r.send("m2", []byte("stuck"))
			r.send("m3", fmt.Appendf(nil, "packet %d", i))
			if d := time.Since(began); d > 0 {
				t.Fatalf("send waited %v", d)
			}
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		if box.len() != n {
			t.Errorf("m3 got %d of %d packets while m2 was stuck", box.len(), n)
		}
		mu.Lock()
		if took := time.Since(start); dials["m3"] != 1 || dials["m2"] < 3 {
			t.Errorf("in %v: dialled %v; one stream to m3 and several tries of m2 wanted", took, dials)
		}
		mu.Unlock()
		if r.dropped.Load() == 0 {
			t.Error("nothing for m2 was dropped")
		}
		stop()
	})
}

// A member that does not answer at all is dialled with growing pauses, and a
// packet that had to wait too long is not sent any more.
func TestRelayRedials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, dials, up := &inbox{}, atomic.Int32{}, atomic.Bool{}
		reader := &relay{deliver: box.take, log: slog.New(slog.DiscardHandler)}
		r, stop := bubbleRelay(t.Context(), func(_ context.Context, to fsm.MemberID) (net.Conn, error) {
			if dials.Add(1); !up.Load() {
				return nil, errors.New("connection refused")
			}
			here, there := net.Pipe()
			go reader.read(there, "m1")
			return here, nil
		})
		for range 400 {
			r.send("m2", []byte("old"))
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		if n := dials.Load(); n < 4 || n > 12 {
			t.Errorf("%d attempts in 20 s", n)
		}
		up.Store(true)
		time.Sleep(2 * relayMaxPause)
		r.send("m2", []byte("new"))
		time.Sleep(2 * relayMaxPause)
		r.send("m2", []byte("newer"))
		synctest.Wait()
		if box.has("m1: old") || !box.has("m1: newer") {
			t.Errorf("after the way came back: %v", box.got)
		}
		stop()
	})
}

// The sender learns that the other end hung up, and dials again for the next packet.
func TestRelayAfterAHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, dials := &inbox{}, atomic.Int32{}
		reader := &relay{deliver: box.take, log: slog.New(slog.DiscardHandler)}
		r, stop := bubbleRelay(t.Context(), func(_ context.Context, to fsm.MemberID) (net.Conn, error) {
			dials.Add(1)
			here, there := net.Pipe()
			go func() { _ = reader.read(there, "m1"); there.Close() }() // hangs up when idle
			return here, nil
		})
		r.send("m2", []byte("one"))
		time.Sleep(relayIdle + time.Second)
		r.send("m2", []byte("two"))
		time.Sleep(time.Second)
		synctest.Wait()
		if dials.Load() != 2 || !box.has("m1: two") {
			t.Errorf("%d dials, got %v", dials.Load(), box.got)
		}
		stop()
	})
}

// FuzzRelayRead: no stream makes the reader panic or deliver what is no frame.
func FuzzRelayRead(f *testing.F) {
	f.Add([]byte{0, 3, 'a', 'b', 'c', 0, 1, 'd'})
	f.Add([]byte{0xff, 0xff, 1})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		go func() { _, _ = there.Write(b); there.Close() }()
		var again []byte
		r := &relay{deliver: func(_ fsm.MemberID, p []byte) {
			again = append(binary.BigEndian.AppendUint16(again, uint16(len(p))), p...)
		}}
		if err := r.read(here, "m1"); err == nil {
			t.Error("a stream ended without an error")
		}
		here.Close()
		if !bytes.HasPrefix(b, again) {
			t.Errorf("read %x of %x", again, b)
		}
	})
}
