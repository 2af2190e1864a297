package lease

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// successor starts a new process of member i: its socket is open again, its
// gate is what the kernel has. deadlines: what it takes over armed.
func (g *group) successor(i int, deadlines map[netip.Addr]int64, change func(cfg *Config)) *member {
	g.t.Helper()
	old := g.members[i]
	m := &member{id: old.id, gate: old.gate, owner: newFakeOwner()}
	cfg := old.Driver.cfg
	cfg.Owner, cfg.Conn, cfg.FreshIdentity, cfg.Inherited = m.owner, g.hub.conn(g.peers[m.id]), false, deadlines
	if change != nil {
		change(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	m.Driver, g.members[i] = d, m
	return m
}

// keepGroup is a group that keeps its state in memory.
func keepGroup(t *testing.T, n int) (*group, []string) {
	dir := memoryDir(t)
	var paths []string
	g := newGroup(t, n, func(i int, c *Config) {
		paths = append(paths, filepath.Join(dir, string(c.Self)))
		c.StateFile, c.Boot, c.LastBootID = paths[i], thisBoot, otherBoot.String()
	})
	return g, paths
}

// end ends a process and leaves gate and promises alone.
func (m *member) end(t *testing.T, d time.Duration) {
	t.Helper()
	start := time.Now()
	m.keep()
	if err := <-m.done; err != nil || time.Since(start) > d {
		t.Errorf("Run: %v after %v", err, time.Since(start))
	}
}

// A holder that executes itself anew goes on: the gate stays open, the owner of
// the new process has it, nobody else ever did, and it is renewed.
func TestHolderGoesOnAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := keepGroup(t, 3)
		g.start(one)
		g.sleep(time.Second)
		first, i := g.members[0], 0
		for j, m := range g.members {
			if m.owner.owns(1) {
				first, i = m, j
			}
		}
		boot := first.Status().Boot
		first.end(t, time.Millisecond)
		if h := first.owner.history(); len(h) != 1 {
			t.Errorf("the process that ended told its owner: %v", h)
		}
		g.sleep(50 * time.Millisecond) // the new process loads
		if !first.gate.open(vip1, g.clock()) {
			t.Fatal("the gate was closed")
		}
		next := g.successor(i, first.gate.deadlines(), nil)
		next.start(t.Context())
		g.sleep(10 * time.Millisecond)
		if !next.owner.owns(1) {
			t.Fatalf("the new process does not hold: %+v", next.Status().Routers)
		}
		next.Update(g.want(i, one))
		g.sleep(time.Second)
		next.SetFit(true, "")
		g.sleep(10 * time.Second)
		if h := next.owner.history(); len(h) != 1 || !next.owner.owns(1) {
			t.Errorf("the new process: %v", h)
		}
		for j, m := range g.members {
			if j != i && len(m.owner.history()) > 0 {
				t.Errorf("%s: %v", m.id, m.owner.history())
			}
		}
		if s := next.Status(); s.Boot != boot {
			t.Errorf("the identity changed from %v to %v", boot, s.Boot)
		}
		g.stop()
	})
}

// One that is not told in time that it may go on gives up, in the safe order.
func TestAdoptedTenureEndsWithoutWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := keepGroup(t, 1)
		g.start(one)
		g.sleep(time.Second)
		g.members[0].end(t, time.Millisecond)
		next := g.successor(0, g.members[0].gate.deadlines(), nil)
		next.Update(g.want(0, one))
		next.start(t.Context())
		g.sleep(adoptGrace - 100*time.Millisecond)
		if !next.owner.owns(1) {
			t.Error("it was given up early")
		}
		g.sleep(time.Second)
		if next.owner.owns(1) || next.gate.open(vip1, g.clock()) {
			t.Error("it is held although nobody said that it can be used")
		}
		g.stop()
	})
}

// While the new process starts its parts say no: nothing is lost by that, if
// they say yes in time; and it ends after the grace if they do not.
func TestAdoptedTenureSurvivesItsStart(t *testing.T) {
	for name, early := range map[string]func(r *Router){
		"no rank":       func(r *Router) { r.Rank = -1 },
		"no address":    func(r *Router) { r.Addrs, r.Rank = nil, -1 },
		"not looked at": func(r *Router) { r.Unfit = "its interface has not been looked at yet" },
		"nothing":       nil,
	} {
		for _, better := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				g, _ := keepGroup(t, 1)
				g.start(one)
				g.sleep(time.Second)
				g.members[0].end(t, time.Millisecond)
				next := g.successor(0, g.members[0].gate.deadlines(), nil)
				w := g.want(0, one)
				if early == nil {
					w.Routers = nil
				} else {
					early(&w.Routers[0])
				}
				next.Update(w)
				next.SetFit(false, "the gate was not looked at yet")
				next.start(t.Context())
				g.sleep(2 * time.Second)
				next.SetFit(true, "")
				if better {
					next.Update(g.want(0, one))
				}
				g.sleep(2 * adoptGrace)
				if h := next.owner.history(); better != (len(h) == 1) || better != next.gate.open(vip1, g.clock()) {
					t.Errorf("%s, better %v: %v", name, better, h)
				}
				if better { // and from then on it counts again
					next.SetFit(false, "the link is down")
					g.sleep(100 * time.Millisecond)
					if next.gate.open(vip1, g.clock()) {
						t.Errorf("%s: held although unfit", name)
					}
				}
				g.stop()
			})
		}
	}
}

// The process dies and its gate was closed: the next one releases what the dead
// one was promised, and another member holds at once.
func TestSuccessorReleasesForTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := keepGroup(t, 3)
		g.start(one)
		g.sleep(2 * time.Second)
		i := slices.IndexFunc(g.members, func(m *member) bool { return m.owner.owns(1) })
		g.members[i].end(t, time.Millisecond)
		next := g.successor(i, nil, nil) // its gate is still open: it must be closed first
		g.sleep(time.Millisecond)
		w := g.want(i, one)
		w.Routers[0].Rank = -1
		next.Update(w)
		next.SetFit(true, "")
		next.start(t.Context())
		start := time.Now()
		for !slices.ContainsFunc(g.members, func(m *member) bool { return m != next && m.owner.owns(1) }) {
			if time.Since(start) > time.Second {
				t.Fatal("nobody took over")
			}
			g.sleep(time.Millisecond)
		}
		if took := time.Since(start); took > 150*time.Millisecond {
			t.Errorf("another member held it after %v", took)
		}
		// Its addresses may still be there: the owner removes them.
		if h := next.owner.history(); len(h) != 1 || !strings.HasPrefix(h[0], "lost 1: the process before") {
			t.Errorf("the successor's owner: %v", h)
		}
		g.stop()
	})
}

// Two of three voters restart within a moment: with the state file the holder
// does not notice (R2). Without it, it loses its lease.
func TestVotersRestartUnderAHolder(t *testing.T) {
	for _, keep := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g, paths := keepGroup(t, 3)
			g.start(one)
			g.sleep(2 * time.Second)
			i := slices.IndexFunc(g.members, func(m *member) bool { return m.owner.owns(1) })
			holder := g.members[i]
			for j, m := range g.members {
				if j == i {
					continue
				}
				m.end(t, time.Millisecond)
				if !keep {
					os.Remove(paths[j])
				}
				next := g.successor(j, nil, func(c *Config) { c.LastBootID = thisBoot.String() })
				next.Update(g.want(j, one))
				next.SetFit(true, "")
				next.start(t.Context())
				if left := next.Status().Embargo; (left > 0) == keep {
					t.Errorf("keep %v: embargo of %v", keep, left)
				}
				g.sleep(100 * time.Millisecond)
			}
			g.sleep(5 * time.Second)
			if n := len(holder.owner.history()); (n == 1) != keep {
				t.Errorf("keep %v: %v", keep, holder.owner.history())
			}
			g.stop()
		})
	}
}

// Every number that the holder uses was reserved in the file before (R4).
func TestRoundsAreReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, paths := keepGroup(t, 1)
		g.start(one)
		for range 4 {
			g.sleep(time.Minute)
			b, err := os.ReadFile(paths[0])
			if err != nil {
				t.Fatal(err)
			}
			s, err := decodeState(b, stateOwner{thisBoot, clusterHash("c1"), "m1"})
			st := g.members[0].Status().Holder
			if used := st.Rounds + st.Probes; err != nil || s.seq < used || s.seq > used+seqStep+1 {
				t.Errorf("%v: %d numbers used, up to %d reserved", err, used, s.seq)
			}
		}
		if st := g.members[0].Status().Holder; st.Rounds < seqStep {
			t.Errorf("%d rounds prove nothing", st.Rounds)
		}
		g.stop()
	})
}

// A promise that cannot be written down is not given.
func TestUnsavedPromiseIsNotGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, nil)
		sf, _ := fill(t, filepath.Join(memoryDir(t), "state"))
		seal := newTestSealer(t, "m1", "c1", testKey)
		packets := make(chan arrival, 1)
		d := g.members[0].Driver
		l := newLoop(d, newSockets(d, packets), seal, packets, make(chan line, 9), recalled{file: sf})
		ask := Message{Kind: Ask, Router: 5, From: "m2", Boot: Nonce{5}, Tag: testTag, Seq: 1, TTL: 1e8, Addrs: []netip.Addr{vip1}}
		ask.Cookie = l.voter.cookies.of(identity{"m2", Nonce{5}})
		sf.close() // every write fails now
		l.vote(ask)
		if out := l.outbox["m2"]; len(out) != 1 || out[0].Kind != Deny || out[0].Reason != Unsaved {
			t.Errorf("answered %+v", out)
		}
		l.vote(ask) // the same round again: what was promised is still not written down
		if out := l.outbox["m2"]; len(out) != 2 || out[1].Kind != Deny || out[1].Reason != Unsaved {
			t.Errorf("the repeated Ask is answered %+v", out)
		}
	})
}

// What a file that this process could not use says of an earlier time must not
// be believed by a later one.
func TestUnusableStateIsRemoved(t *testing.T) {
	path := filepath.Join(memoryDir(t), "state")
	sf, _ := fill(t, path)
	defer sf.close() // another process has it
	d := &Driver{cfg: Config{Self: "m1", Cluster: "c1", Params: profile(t, "default"), StateFile: path, Boot: thisBoot}, clocks: KernelClocks()}
	r := d.recall()
	if r.file != nil || r.identity == (Nonce{9}) || r.embargo <= d.clocks.Raw() {
		t.Errorf("recalled %+v", r)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

// A voter that starts within its embargo, and again, serves the rest of it.
func TestEmbargoOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(memoryDir(t), "state")
	now := int64(100e9)
	clock := func() int64 { return now }
	start := func() recalled {
		d := &Driver{clocks: Clocks{Raw: clock}, cfg: Config{
			Self: "m1", Cluster: "c1", Params: profile(t, "default"), StateFile: path, Boot: thisBoot, LastBootID: thisBoot.String(),
		}}
		r := d.recall()
		r.file.close()
		return r
	}
	first := start()
	now += 1e9
	if second := start(); second.embargo != first.embargo || second.identity != first.identity {
		t.Errorf("embargo %d, then %d", first.embargo, second.embargo)
	}
}
