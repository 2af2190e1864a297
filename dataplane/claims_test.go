package dataplane

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/dataplane/vip"
)

// fakeNeighbours answer for addresses.
type fakeNeighbours struct {
	mu    sync.Mutex
	by    map[netip.Addr][]vip.Claim
	asked []string
	err   error
}

func (f *fakeNeighbours) Claims(_ context.Context, l vip.Link, addr netip.Addr, wait time.Duration) ([]vip.Claim, error) {
	time.Sleep(wait)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, addr.String()+" dev "+l.Name)
	return f.by[addr], f.err
}

func (f *fakeNeighbours) set(err error, addr netip.Addr, by ...vip.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.asked, f.by = err, nil, map[netip.Addr][]vip.Claim{addr: by}
}

func (f *fakeNeighbours) questions() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.asked, ", ")
}

// Only the owner asks; what it hears is told once and forgotten when it is over, or
// when another owns the address.
func TestWhoElseAnswersForAVIP(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		web := vip.Claim{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Addrs: []netip.Addr{netip.MustParseAddr("172.25.88.2")}}
		near, theVIP := &fakeNeighbours{}, netip.MustParseAddr(vipAddr)
		near.set(nil, theVIP, web)
		w.cfg.Claims = near
		owning(w)
		round := func() {
			time.Sleep(2 * (askEvery + askWait))
			synctest.Wait()
		}
		claimed := func(want int) {
			t.Helper()
			if got := w.plane.Status().Claimed; len(got) != want {
				t.Errorf("claimed: %+v, want %d", got, want)
			}
		}
		round()
		if q := near.questions(); q != "" {
			t.Errorf("asked without owning anything: %s", q)
		}
		w.plane.Acquired(term(1, vipAddr).Permit())
		round()
		round()
		claimed(1)
		if c := w.plane.Status().Claimed[0]; c.Router != 1 || c.Addr != theVIP || c.Interface != "eth0" || c.By[0].String() != "02:00:00:00:00:02 (172.25.88.2)" {
			t.Errorf("%+v", c)
		}
		if n := strings.Count(w.logs.String(), "others answer for an address"); n != 1 {
			t.Errorf("told %d times:\n%s", n, w.logs)
		}
		if q := near.questions(); !strings.HasPrefix(q, "172.25.88.100 dev eth0, 172.25.88.100 dev eth0") {
			t.Errorf("asked: %s", q)
		}

		near.set(nil, theVIP)
		round()
		claimed(0)
		if !strings.Contains(w.logs.String(), "nobody else answers any more") {
			t.Errorf("not told:\n%s", w.logs)
		}

		near.set(errors.New("no such device"), theVIP)
		before := w.plane.Status().Errors
		round()
		if s := w.plane.Status(); s.Errors == before || !strings.Contains(s.LastError, "no such device") || s.Failing != "" {
			t.Errorf("after a failed question: %+v", s)
		}

		near.set(nil, theVIP, web)
		round()
		claimed(1)
		<-w.plane.Lost(1, "no quorum")
		settle()
		claimed(0)
	})
}
