package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// routerMAC is the MAC address of virtual router 51 (RFC 9568, section 7.3).
const routerMAC = "00:00:5e:00:01:33"

// A router with a MAC of its own: neighbours see that MAC and no other, before
// and after a failover, and nothing is left of it when it goes.
func TestVirtualMAC(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	e := open(s)
	old := s.AwaitOwner()
	plain := s.Dirs[0].MustRun("cat", site.Example)
	apply := func(h *lab.Host, conf string) {
		h.WriteFile("/etc/vmac.conf", conf)
		h.MustRun("lbcluster", "apply", "-f", "/etc/vmac.conf", "--yes")
	}
	changed := probe.Now()
	apply(old, strings.Replace(plain, "virtual_router_id 51\n", "virtual_router_id 51\n    use_vmac\n", 1))
	s.Eventually(20*time.Second, "the VIP is on an interface of its own", func() error { return onVMAC(old, true) })
	to := pause(2 * time.Second)
	sum := probe.Summarise(e.http.Records(), changed, to)
	t.Logf("the VIP moved to an interface of its own; the client was without an answer for %v", sum.Outage.Length().Round(time.Millisecond))
	if sum.OK == 0 || dark(sum.Outage) {
		t.Errorf("while the VIP moved from one interface to another the client got %d answers: %v", sum.OK, sum.ByResult)
	}
	e.wantRouterMAC(t)
	adverts := s.Capture(nil, "adverts", "vrrp")
	pause(2500 * time.Millisecond)
	if seen := adverts(); !strings.Contains(seen, routerMAC) || strings.Contains(seen, old.MAC.String()) {
		t.Errorf("adverts leave with another MAC than the router's:\n%s", seen)
	}
	died := probe.Now()
	s.Daemons[old].PowerOff()
	delete(s.Daemons, old)
	next := s.AwaitSuccessor(old)
	to = pause(2 * time.Second)
	sum = probe.Summarise(e.http.Records(), died, to)
	t.Logf("%s took over; the client was without an answer for %v", next.Name, sum.Outage.Length().Round(time.Millisecond))
	if dark(sum.Outage) {
		t.Error("the client is not served")
	}
	e.wantRouterMAC(t)
	list := next.MustRun("lbcluster", "status")
	if !strings.Contains(list, "OWNS IT on vrrp.51") {
		t.Errorf("status does not name the interface:\n%s", list)
	}
	apply(next, plain)
	s.Eventually(20*time.Second, "the VIP is on eth0 again", func() error { return onVMAC(next, false) })
	from := pause(time.Second)
	e.wantOnly(t, next, from, pause(2*time.Second))
}

// wantRouterMAC fails the test unless the VIP is with the router's MAC alone.
func (e *eyes) wantRouterMAC(t *testing.T) {
	t.Helper()
	mac, _ := net.ParseMAC(routerMAC)
	from := probe.Now()
	to := pause(2 * time.Second)
	if m := e.macs(from, to); len(m) != 1 || m[probe.ToMAC(mac)] == 0 {
		t.Errorf("answers and announcements by MAC: %v, want %s alone", m, routerMAC)
	}
}

// onVMAC reports whether the VIP is on vrrp.51, or on eth0 and vrrp.51 is gone.
func onVMAC(h *lab.Host, wanted bool) error {
	links, addrs := h.MustRun("ip", "-br", "link"), h.MustRun("ip", "-o", "-4", "addr")
	there, on := strings.Contains(links, "vrrp.51@"), false
	for line := range strings.Lines(addrs) {
		on = on || strings.Contains(line, " vrrp.51 ") && strings.Contains(line, site.VIP+"/")
	}
	if there != wanted || on != wanted {
		return fmt.Errorf("%s:\n%s%s", h.Name, links, addrs)
	}
	return nil
}
