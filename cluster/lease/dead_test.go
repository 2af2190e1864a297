package lease

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A killed holder's promises are released in its name, and another member
// holds the router long before they would have run out.
func TestReleaseDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, paths := keepGroup(t, 3)
		g.start(one)
		g.sleep(2 * time.Second)
		i := slices.IndexFunc(g.members, func(m *member) bool { return m.owner.owns(1) })
		dead := g.members[i]
		c := Dead{
			StateFile: paths[i], Self: dead.id, Cluster: "c1", Key: testKey, Boot: thisBoot,
			Clocks: &Clocks{Boot: g.clock, Raw: g.clock}, Conn: g.hub.conn(g.peers[dead.id]),
		}
		if _, err := ReleaseDead(t.Context(), c); !errors.Is(err, ErrStateBusy) {
			t.Fatalf("while the process lives: %v", err)
		}
		dead.end(t, time.Millisecond)
		dead.gate.Close([]netip.Addr{vip1}) // the caller's part
		c.Conn = g.hub.conn(g.peers[dead.id])
		start := time.Now()
		f, err := ReleaseDead(t.Context(), c)
		if err != nil || !slices.Equal(f.Routers, []uint64{1}) || !slices.Equal(f.Acked, []uint64{1}) || time.Since(start) > repeatDead {
			t.Errorf("%+v, %v after %v", f, err, time.Since(start))
		}
		for !slices.ContainsFunc(g.members, func(m *member) bool { return m != dead && m.owner.owns(1) }) {
			if time.Since(start) > time.Second {
				t.Fatal("nobody took over")
			}
			g.sleep(time.Millisecond)
		}
		if took := time.Since(start); took > 150*time.Millisecond {
			t.Errorf("another held it after %v", took)
		}
		// The dead one's own voter, started again, knows of the Release.
		next := g.successor(i, nil, nil)
		next.Update(g.want(i, one))
		next.SetFit(true, "")
		next.start(t.Context())
		g.sleep(time.Second)
		if s := next.Status(); s.Routers[0].Holder == dead.id || s.Routers[0].Own {
			t.Errorf("started again: %+v", s.Routers)
		}
		g.stop()
	})
}

// Nobody answers: it ends in time, and says what is not known to be free.
func TestReleaseDeadGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, paths := keepGroup(t, 3)
		g.start(one)
		g.sleep(2 * time.Second)
		i := slices.IndexFunc(g.members, func(m *member) bool { return m.owner.owns(1) })
		g.members[i].end(t, time.Millisecond)
		g.hub.dropping(func(_, _ netip.AddrPort) bool { return true })
		start := time.Now()
		f, err := ReleaseDead(t.Context(), Dead{
			StateFile: paths[i], Self: g.ids[i], Cluster: "c1", Key: testKey, Boot: thisBoot, Wait: ms(90),
			Clocks: &Clocks{Boot: g.clock, Raw: g.clock}, Conn: g.hub.conn(g.peers[g.ids[i]]),
		})
		if err != nil || len(f.Routers) != 1 || len(f.Acked) != 0 || time.Since(start) != ms(90) {
			t.Errorf("%+v, %v after %v", f, err, time.Since(start))
		}
		g.hub.dropping(nil)
		g.stop()
	})
}

func TestReleaseDeadWithoutAState(t *testing.T) {
	c := Dead{StateFile: filepath.Join(memoryDir(t), "state"), Self: "m1", Cluster: "c1", Key: testKey}
	if _, err := ReleaseDead(context.Background(), c); !errors.Is(err, ErrNothingKept) {
		t.Errorf("a new file: %v", err)
	}
	c.StateFile = filepath.Join(memoryDir(t), "no", "state")
	if _, err := ReleaseDead(context.Background(), c); err == nil {
		t.Error("no folder is no error")
	}
}
