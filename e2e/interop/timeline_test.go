package interop

import (
	"testing"
	"time"
)

// at is so many seconds after the epoch of the test.
func at(s float64) time.Time {
	return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second)))
}

func sec(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func TestLook(t *testing.T) {
	const vip = "172.25.88.101"
	on := func(s float64, host string) Change { return Change{at(s), host, vip, true} }
	off := func(s float64, host string) Change { return Change{at(s), host, vip, false} }
	cluster, peer, both := Holders{Cluster: true}, Holders{Peer: true}, Holders{true, true}
	for _, c := range []struct {
		what    string
		changes []Change
		want    Seen // of the seconds from 10 to 20
	}{
		{"nothing ever happened", nil, Seen{Nobody: sec(10)}},
		{"nothing happened since", []Change{on(1, "dir1")}, Seen{Holders: cluster}},
		{"a change after the stretch", []Change{on(1, "dir1"), off(21, "dir1")}, Seen{Holders: cluster}},
		{"the peer takes over", []Change{on(1, "dir1"), off(12, "dir1"), on(13.5, PeerHost)},
			Seen{Holders: peer, After: sec(3.5), Nobody: sec(1.5), Taken: 1}},
		{"the peer takes over too early", []Change{on(1, "dir1"), on(13, PeerHost), off(13.25, "dir1")},
			Seen{Holders: peer, After: sec(3.25), Both: sec(0.25), Taken: 1}},
		{"another director does, and the sides are as before", []Change{on(1, "dir1"), off(12, "dir1"), on(13, "dir2")},
			Seen{Holders: cluster, After: sec(3), Nobody: sec(1)}},
		{"another director does before", []Change{on(1, "dir1"), on(12, "dir2"), off(12.5, "dir1")},
			Seen{Holders: cluster, Twice: sec(0.5)}},
		{"two stretches, of which the longer counts", []Change{on(1, "dir1"), on(11, PeerHost), off(12, PeerHost), on(13, PeerHost), off(16, PeerHost)},
			Seen{Holders: cluster, After: sec(6), Both: sec(3), Taken: 2}},
		{"one stretch, though a director joins in it", []Change{on(1, "dir1"), on(12, PeerHost), on(13, "dir2"), off(15, "dir2")},
			Seen{Holders: both, After: sec(2), Both: sec(8), Twice: sec(2), Taken: 1}},
		{"both all the time", []Change{on(1, "dir1"), on(2, PeerHost)}, Seen{Holders: both, Both: sec(10)}},
		{"told twice", []Change{on(1, PeerHost), on(12, PeerHost)}, Seen{Holders: peer}},
		{"told out of order", []Change{on(13, PeerHost), off(12, "dir1"), on(1, "dir1")},
			Seen{Holders: peer, After: sec(3), Nobody: sec(1), Taken: 1}},
		{"another address", []Change{on(1, "dir1"), {at(12), PeerHost, "172.25.88.102", true}}, Seen{Holders: cluster}},
	} {
		var l Timeline
		for _, x := range c.changes {
			l.Add(x)
		}
		if got := l.Look(vip, at(10), at(20)); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
}

// A host without power has nothing, whatever its kernel kept.
func TestOff(t *testing.T) {
	var l Timeline
	l.Add(Change{at(1), "dir1", "a", true})
	l.Add(Change{at(1), "dir1", "b", true})
	l.Add(Change{at(1), "dir2", "b", true})
	l.Off(at(12), "dir1")
	if got := l.Look("a", at(10), at(20)); got != (Seen{After: sec(2), Nobody: sec(8)}) {
		t.Errorf("a: %+v", got)
	}
	if got := l.Look("b", at(10), at(20)); got != (Seen{Holders: Holders{Cluster: true}, Twice: sec(2)}) {
		t.Errorf("b: %+v", got)
	}
}
