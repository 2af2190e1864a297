package bench

import (
	"strings"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// system is a load balancer in one setting.
type system string

// The systems, as the table names them.
const (
	lbcDefault  system = "lbcluster, default profile"
	lbcFast     system = "lbcluster, fast profile"
	lbcDisks    system = "lbcluster, default, own disks" // each director's data folder on a disk that can hang
	lbcRest     system = "lbcluster, default, 64 routers"
	lbcRestFast system = "lbcluster, fast, 64 routers"
	ka2         system = "keepalived v2, advert 1 s"
	ka3         system = "keepalived v3, advert 100 ms"
	ka3fast     system = "keepalived v3, advert 30 ms"
	ka2Rest     system = "keepalived v2, 1 s, 64 routers"
	ka3Rest     system = "keepalived v3, 100 ms, 64 r."
	lbcHeld     system = "lbcluster, mh and sync" // what docs/connections.md recommends
	lbcRRSync   system = "lbcluster, rr and sync"
	lbcMH       system = "lbcluster, mh alone"
	lbcRR       system = "lbcluster, rr alone"
	kaHeld      system = "keepalived, rr and sync"
)

// slug names the folder that a system's logs are kept in.
func (s system) slug() string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == ',' || r == '.' {
			return '-'
		}
		return r
	}, string(s))
}

func (s system) ours() bool { return s[0] == 'l' }
func (s system) fast() bool { return s == lbcFast || s == lbcRestFast }

// compared says that the setting is there to compare the recommended one with:
// clients are promised nothing.
func (s system) compared() bool { return s == lbcRRSync || s == lbcMH || s == lbcRR }

// stage is a system that is brought up once for several events.
type stage struct {
	system system
	start  func(lab.T) *contestant
}

// stages in the order in which they are run.
var stages = []stage{
	{lbcDefault, func(t lab.T) *contestant { return lbcluster(site.Up(t, 3)) }},
	{lbcFast, func(t lab.T) *contestant { return lbcluster(site.Up(t, 3, "--profile", "fast")) }},
	{lbcDisks, func(t lab.T) *contestant { return lbclusterOnDisks(t) }},
	{ka2, func(t lab.T) *contestant { return keepalived(t, "vrrp_version 2", "1") }},
	{ka3, func(t lab.T) *contestant { return keepalived(t, "vrrp_version 3", "0.1") }},
	{ka3fast, func(t lab.T) *contestant { return keepalived(t, "vrrp_version 3", "0.03") }},
	{lbcRest, func(t lab.T) *contestant { return manyLbcluster(t) }},
	{lbcRestFast, func(t lab.T) *contestant { return manyLbcluster(t, "--profile", "fast") }},
	{ka2Rest, func(t lab.T) *contestant { return manyKeepalived(t, "vrrp_version 2", "1") }},
	{ka3Rest, func(t lab.T) *contestant { return manyKeepalived(t, "vrrp_version 3", "0.1") }},
	{lbcHeld, func(t lab.T) *contestant { return heldLbcluster(t, true, recommended) }},
	{lbcRRSync, func(t lab.T) *contestant { return heldLbcluster(t, true, "rr") }},
	{lbcMH, func(t lab.T) *contestant { return heldLbcluster(t, false, recommended) }},
	{lbcRR, func(t lab.T) *contestant { return heldLbcluster(t, false, "rr") }},
	{kaHeld, heldKeepalived},
}

// contestant is a running system: what events do to it.
type contestant struct {
	site *site.Site
	// calm waits until the next event can begin, and returns the owner. Between
	// begin and end nothing is asked of the system.
	calm func() *lab.Host

	freeze func(*lab.Host) error
	thaw   func(*lab.Host) error
	kill   func(*lab.Host) error // nothing runs after it
	fence  func(*lab.Host) error // kill, and what the unit runs after it; nil: nothing does
	revive func(*lab.Host)       // after kill or fence
	// hand moves the VIP away from its owner as an operator would, and returns
	// when it has moved; back undoes what that leaves behind.
	hand  func(*lab.Host) error
	back  func(*lab.Host)
	stop  func(*lab.Host) error // ends the daemon as systemd would
	start func(*lab.Host)       // starts it, whatever was before, and does not wait
	// weigh drains or enables ("drain", "enable") the first real server.
	weigh func(how string) error
	// leader is Raft's leader, and not the owner; nil where there is none.
	leader func() *lab.Host
	disks  map[*lab.Host]*lab.Disk
	pids   func(*lab.Host) []int // the daemon's processes
	why    func() string         // what the system itself says of the last change; nil: nothing
}
