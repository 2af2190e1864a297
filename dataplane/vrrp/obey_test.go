package vrrp

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// peered is vi1 with a peer.
func peered() Router {
	r := vi1
	r.Peers = []Listed{{Addr: peer1}}
	return r
}

// bars collects what the Listener says of standing for router 1; the function
// tells the last.
func (r *rig) bars() func() string {
	var mu sync.Mutex
	var last string
	r.Listener.mu.Lock()
	defer r.Listener.mu.Unlock()
	r.Listener.cfg.OnBarred = func(_ uint64, why string) {
		mu.Lock()
		defer mu.Unlock()
		last = why
	}
	return func() string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

// An owner falls silent with the packet that makes it yield, and a member may
// stand again when the peer is gone.
func TestListenerYieldsToAListedPeer(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		why := r.bars()
		r.set(peered())
		synctest.Wait()
		if !strings.Contains(why(), "waits 3.609s") {
			t.Errorf("new: barred for %q", why())
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if why() != "" {
			t.Errorf("nobody was heard: barred for %q", why())
		}
		tm := term(time.Minute)
		r.acquired(tm.Permit())
		r.expect("acquired", "4s prio 100")
		time.Sleep(500 * time.Millisecond)
		r.wire("eth0").in <- packet(t, netip.MustParseAddr("172.25.88.77"), vi1.Advert(200))
		time.Sleep(time.Second)
		r.expect("a stranger is not obeyed", "5s prio 100")
		r.wire("eth0").in <- packet(t, peer1, vi1.Advert(50))
		r.expect("a worse peer is answered", "5.5s prio 100")
		r.wire("eth0").in <- packet(t, peer1, vi1.Advert(150))
		time.Sleep(3 * time.Second)
		r.expect("a better peer silences", "")
		synctest.Wait()
		if want := "VRRP peer 172.25.88.9 is MASTER (priority 150, this router 100)"; why() != want {
			t.Errorf("barred for %q, want %q", why(), want)
		}
		if st := r.Status().Routers[0]; st.Stand != Backup || st.Barred != why() || !st.Peers[0].Listed || st.Peers[1].Listed {
			t.Errorf("status %+v", st)
		}
		if why, higher := r.Yields(1); why == "" || !higher || r.Speaks(1) {
			t.Errorf("yields %q %v", why, higher)
		}
		tm.End()
		r.Lost(1, true)
		r.expect("whoever yields says no goodbye", "")
		time.Sleep(time.Second)
		synctest.Wait()
		if why() != "" {
			t.Errorf("the peer is silent: barred for %q", why())
		}
	})
}

// What keepalived would not accept is not obeyed, and it is said why.
func TestListenerObeysOnlyWhatItAccepts(t *testing.T) {
	slow, other := vi1.Advert(200), vi1.Advert(200)
	slow.Interval, other.AuthPass = 2*time.Second, "2222"
	unicast := packet(t, peer1, vi1.Advert(200))
	unicast.Dst = self
	for what, p := range map[string]Packet{
		"advert interval 2s, ours is 1s": packet(t, peer1, slow), "another password": packet(t, peer1, other), "sent by unicast": unicast,
	} {
		bubble(t, func(t *testing.T, r *rig) {
			why := r.bars()
			r.set(peered())
			time.Sleep(4 * time.Second)
			r.wire("eth0").in <- p
			time.Sleep(time.Second)
			synctest.Wait()
			if st := r.Status().Routers[0]; why() != "" || len(st.Peers) != 1 || !strings.Contains(st.Peers[0].Reason, what) {
				t.Errorf("%s: barred for %q, %+v", what, why(), st.Peers)
			}
		})
	}
}

// A peer that was refused, and falls silent for it or because it is right now,
// is told of until then.
func TestSettingsThatChangeForgetWhoWasRefused(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set(peered())
		wrong := vi1.Advert(150)
		wrong.Interval = 2 * time.Second
		synctest.Wait()
		r.wire("eth0").in <- packet(t, peer1, wrong)
		r.wire("eth0").in <- packet(t, netip.MustParseAddr("172.25.88.77"), vi1.Advert(50))
		synctest.Wait()
		r.set(peered())
		if got := r.Status().Routers[0].Peers; len(got) != 2 {
			t.Errorf("nothing changed, and known are %+v", got)
		}
		for _, change := range []func(*Router){
			func(r *Router) { r.Interval = 2 * time.Second },
			func(r *Router) { r.Unicast = true },
			func(r *Router) { r.Interval = time.Second; r.Version, r.AuthPass, r.PlainChecksum = 3, "", true },
		} {
			r.wire("eth0").in <- packet(t, peer1, Advert{Version: 3, VRID: vi1.VRID, Priority: 150, Interval: 3 * time.Second, Addrs: vi1.Addresses[:1], PlainChecksum: true})
			synctest.Wait()
			next := peered()
			change(&next)
			r.set(next)
			for _, p := range r.Status().Routers[0].Peers {
				if p.Addr == peer1 {
					t.Errorf("the settings changed, and known is %+v", p)
				}
			}
		}
		if got := r.Status().Routers[0].Peers; len(got) != 1 {
			t.Errorf("who was accepted is forgotten: %+v", got)
		}
	})
}

// A unicast router obeys only what was sent to it alone, within the TTLs.
func TestUnicastPath(t *testing.T) {
	r := peered()
	r.Unicast, r.Peers[0].MinTTL, r.Peers[0].MaxTTL = true, 250, 254
	for _, c := range []struct {
		dst  netip.Addr
		ttl  int
		want string
	}{{Group, 255, RejectKind}, {self, 249, RejectTTL}, {self, 255, RejectTTL}, {self, 250, ""}, {self, 254, ""}} {
		got := ""
		if rej := r.checkPath(Packet{Src: peer1, Dst: c.dst, TTL: c.ttl}); rej != nil {
			got = rej.Key
		}
		if got != c.want {
			t.Errorf("to %s with TTL %d: %q, want %q", c.dst, c.ttl, got, c.want)
		}
	}
	if to := r.route().To; len(to) != 1 || to[0] != peer1 {
		t.Errorf("adverts go to %v", to)
	}
}

// The process before this one held the router: this one goes on.
func TestInheritedRouterStays(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.Listener.mu.Lock()
		r.Listener.cfg.Inherited = []netip.Addr{vip}
		r.Listener.mu.Unlock()
		why := r.bars()
		r.set(peered())
		synctest.Wait()
		if why() != "" {
			t.Errorf("barred for %q", why())
		}
	})
}

// A link that comes back has heard nothing meanwhile.
func TestDownLinkStartsOver(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		why := r.bars()
		r.set(peered())
		time.Sleep(5 * time.Second)
		down := peered()
		down.Down = true
		r.set(down)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if why() == "" {
			t.Error("without a link the member stands")
		}
		r.set(peered())
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if why() == "" {
			t.Error("it stands before a Master_Down_Interval")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if why() != "" {
			t.Errorf("barred for %q", why())
		}
	})
}

func TestChooseSource(t *testing.T) {
	parse := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	four := parse("10.0.0.1/24", "10.1.0.1/24", "10.2.0.1/24")
	six := parse("2001:db8::1/64", "fe80::1/64")
	for _, c := range []struct {
		own  []netip.Prefix
		to   string
		from string
		want string
	}{
		{four, "", "", "10.0.0.1"}, {four, "10.1.0.9", "", "10.1.0.1"}, {four, "10.9.0.9", "", "10.0.0.1"},
		{four, "10.1.0.9", "10.2.0.1", "10.2.0.1"}, {four, "10.1.0.9", "10.3.0.1", "10.1.0.1"},
		{six, "", "", "fe80::1"}, {six, "fe80::9", "", "fe80::1"}, {six, "2001:db8::9", "", "2001:db8::1"},
		{six[:1], "", "", "invalid IP"}, {nil, "", "", "invalid IP"},
	} {
		var r Route
		if c.to != "" {
			r.To = []netip.Addr{netip.MustParseAddr(c.to)}
		}
		if c.from != "" {
			r.From = netip.MustParseAddr(c.from)
		}
		if got, _ := chooseSource(c.own, r); got.String() != c.want {
			t.Errorf("of %v to %q, asked for %q: %s, want %s", c.own, c.to, c.from, got, c.want)
		}
	}
}
