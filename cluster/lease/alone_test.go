package lease

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The owner is told whether somebody is ready to be next: who has VRRP peers
// asks them otherwise.
func TestNobodyNext(t *testing.T) {
	for _, c := range []struct {
		name  string
		ready bool
		end   func(*group, *member)
		alone bool
	}{
		{"stops, another is ready", true, func(_ *group, m *member) { m.stop() }, false},
		{"stops, nobody is ready", false, func(_ *group, m *member) { m.stop() }, true},
		{"unfit, another is ready", true, func(_ *group, m *member) { m.SetFit(false, "test") }, false},
		{"unfit, nobody is ready", false, func(_ *group, m *member) { m.SetFit(false, "test") }, true},
		{"does not stand, nobody is ready", false, func(g *group, m *member) { g.nexts(m, -1) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, 3, nil)
			g.start(one)
			first, _ := g.holder(nil, 2*time.Second)
			g.nexts(first, 0)
			if c.ready {
				g.ready("m1", "m2", "m3")
			}
			g.sleep(2 * time.Second)
			c.end(g, first)
			g.sleep(time.Second)
			h := first.owner.history()
			last := h[len(h)-1]
			if !strings.HasPrefix(last, "lost 1: ") || strings.HasSuffix(last, NobodyNext) != c.alone {
				t.Errorf("%s: the owner was told %q", c.name, last)
			}
			g.stop()
		})
	}
}

// nexts tells a member that all others may take router 1 from it, and its rank.
func (g *group) nexts(m *member, rank int) {
	w := g.want(g.index(m), one)
	w.Routers[0].Next, w.Routers[0].Rank = nil, rank
	for _, o := range g.members {
		if o != m {
			w.Routers[0].Next = append(w.Routers[0].Next, o.id)
		}
	}
	m.Update(w)
}

// A lease that ran out, and addresses that change, say nothing of who is next.
func TestLostOtherwiseSaysNothingOfTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start(one)
		first, _ := g.holder(nil, 2*time.Second)
		for _, m := range g.members {
			if m != first {
				m.stop()
			}
		}
		g.sleep(3 * time.Second)
		h := first.owner.history()
		if last := h[len(h)-1]; !strings.Contains(last, "ran out") || strings.HasSuffix(last, NobodyNext) {
			t.Errorf("the owner was told %q", last)
		}
		g.stop()
	})
}
