package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Peering is how a router behaves toward VRRP speakers outside the cluster. The
// zero Peering has no peers: the cluster obeys nobody and adverts by multicast.
// The names are keepalived's, whose meaning they have.
type Peering struct {
	// Peers are the only speakers to which the cluster yields.
	Peers []Peer `json:"peers,omitempty"`
	// Unicast sends adverts to the peers alone, and obeys only what was sent to
	// this host alone (keepalived: unicast_peer).
	Unicast bool `json:"unicast,omitempty"`
	// Source is where a director that has this address sends adverts from
	// (unicast_src_ip, mcast_src_ip); the others use an address of their own.
	Source netip.Addr `json:"source,omitzero"`

	NoPreempt    bool     `json:"nopreempt,omitempty"`
	PreemptDelay Duration `json:"preempt_delay,omitempty"` // 0 to 1000s
	// DownTimerAdverts is how many adverts of a MASTER may be missing; 0: three.
	DownTimerAdverts int `json:"down_timer_adverts,omitempty"`
	// StartupDelay (vrrp_startup_delay) is how long a director that starts waits
	// before it takes part.
	StartupDelay         Duration `json:"startup_delay,omitempty"`
	LowerPrioNoAdvert    bool     `json:"lower_prio_no_advert,omitempty"`
	HigherPrioSendAdvert bool     `json:"higher_prio_send_advert,omitempty"`
	SkipCheckAdvAddr     bool     `json:"skip_check_adv_addr,omitempty"`
	V3ChecksumAsV2       bool     `json:"v3_checksum_as_v2,omitempty"`
	GARP                 GARP     `json:"garp,omitzero"`
	// Strict is keepalived's strict_mode: what RFC 5798 does not know is an error.
	Strict bool `json:"strict_mode,omitempty"`
}

// Peer is a VRRP speaker outside the cluster.
type Peer struct {
	Addr netip.Addr `json:"addr"`
	// MinTTL and MaxTTL bound the TTL of its unicast adverts; 0: not at all.
	MinTTL uint8 `json:"min_ttl,omitempty"`
	MaxTTL uint8 `json:"max_ttl,omitempty"`
}

const (
	maxPeers         = 32
	maxPreemptDelay  = 1000 * time.Second // keepalived's
	maxDownAdverts   = 100                // keepalived's
	defaultDownCount = 3
)

// Advertised are the addresses that r's adverts list, in order.
func (r Router) Advertised() []netip.Addr {
	var out []netip.Addr
	for _, a := range r.Addresses {
		if !a.Excluded {
			out = append(out, a.Prefix.Addr())
		}
	}
	return out
}

func (p *problems) peering(r Router, path string) {
	v := r.Peering
	v.listed(p, r, path)
	if v.PreemptDelay < 0 || v.PreemptDelay.D() > maxPreemptDelay {
		p.add(path, "preempt_delay %v is not within 0s to %v", v.PreemptDelay, maxPreemptDelay)
	}
	if v.NoPreempt && v.PreemptDelay != 0 {
		p.add(path, "preempt_delay %v has no meaning with nopreempt", v.PreemptDelay)
	}
	if v.DownTimerAdverts < 0 || v.DownTimerAdverts > maxDownAdverts {
		p.add(path, "down_timer_adverts %d is not within 1 to %d", v.DownTimerAdverts, maxDownAdverts)
	}
	if d := v.StartupDelay.D(); d < 0 || d > time.Hour {
		p.add(path, "vrrp_startup_delay %v is not within 0s to 1h", d)
	}
	if v.V3ChecksumAsV2 && (r.Version != 3 || r.family() != familyIPv4) {
		p.add(path, "v3_checksum_as_v2 is for VRRP version 3 over IPv4")
	}
	if v.Source.IsValid() {
		if bad := hostProblem(v.Source); bad != "" {
			p.add(path, "mcast_src_ip %s: %s", v.Source, bad)
		} else if v.Source.Is4() != (r.family() == familyIPv4) {
			p.add(path, "mcast_src_ip %s: the adverts are %s", v.Source, r.family())
		}
	}
	v.strict(p, r, path)
	v.GARP.check(p, path)
}

func (g GARP) check(p *problems, path string) {
	if g == (GARP{}) {
		return
	}
	for _, n := range []int{g.MasterRepeat, g.RefreshRepeat, g.LowerPrioRepeat} {
		if n < 1 || n > 255 {
			p.add(path, "garp: %d announcements at once are not within 1 to 255", n)
		}
	}
	p.delay(path, "garp_master_delay", g.MasterDelay, 0)
	p.delay(path, "garp_master_refresh", g.Refresh, 0)
	p.delay(path, "garp_lower_prio_delay", g.LowerPrioDelay, 0)
}

// listed checks the peers.
func (v Peering) listed(p *problems, r Router, path string) {
	if len(v.Peers) > maxPeers {
		p.add(path, "unicast_peer: %d peers, at most %d", len(v.Peers), maxPeers)
	}
	if v.Unicast && len(v.Peers) == 0 {
		p.add(path, "unicast_peer is empty: nobody would hear the adverts (keepalived would fall back to multicast)")
	}
	seen := map[netip.Addr]bool{}
	for _, o := range v.Peers {
		switch bad := hostProblem(o.Addr); {
		case bad != "":
			p.add(path, "unicast_peer %s: %s", o.Addr, bad)
		case o.Addr.Is4() != (r.family() == familyIPv4):
			p.add(path, "unicast_peer %s: the adverts are %s", o.Addr, r.family())
		case seen[o.Addr]:
			p.add(path, "unicast_peer %s is there twice", o.Addr)
		case r.holds(o.Addr):
			p.add(path, "unicast_peer %s is a VIP of this router", o.Addr)
		}
		seen[o.Addr] = true
		if o.MaxTTL != 0 && o.MinTTL > o.MaxTTL {
			p.add(path, "unicast_peer %s: min_ttl %d is above max_ttl %d", o.Addr, o.MinTTL, o.MaxTTL)
		}
		if (o.MinTTL != 0 || o.MaxTTL != 0) && !v.Unicast {
			p.add(path, "unicast_peer %s: a TTL is checked for unicast alone; multicast always wants 255", o.Addr)
		}
	}
}

// holds reports whether a is one of r's addresses.
func (r Router) holds(a netip.Addr) bool {
	return slices.ContainsFunc(r.Addresses, func(o Address) bool { return o.Prefix.IsValid() && o.Prefix.Addr() == a })
}

// strict checks what RFC 5798 has no place for, as keepalived's strict_mode does.
func (v Peering) strict(p *problems, r Router, path string) {
	if !v.Strict {
		return
	}
	switch {
	case v.Unicast:
		p.add(path, "strict_mode knows no unicast_peer")
	case r.AuthPass != "":
		p.add(path, "strict_mode knows no authentication")
	case v.PreemptDelay != 0:
		p.add(path, "strict_mode knows no preempt_delay")
	case r.family() == familyIPv6 && len(r.Advertised()) > 0 && !r.Advertised()[0].IsLinkLocalUnicast():
		p.add(path, "strict_mode: the first VIP of an IPv6 router must be link-local (RFC 9568 section 5.2.9)")
	}
}

// leaseTTLs are how long a lease lasts in each profile, with the stagger of one
// candidate; package lease has them, and a test there compares.
var leaseTTLs = map[string][2]time.Duration{
	"default": {800 * time.Millisecond, 25 * time.Millisecond},
	"fast":    {240 * time.Millisecond, 8 * time.Millisecond},
	"robust":  {3 * time.Second, 100 * time.Millisecond},
}

// activation is generous for what follows the lease: a round, the address, the
// first advert.
const activation = 100 * time.Millisecond

// LeaseTimes are the TTL and stagger that this package takes a profile to have.
func LeaseTimes(profile string) (ttl, stagger time.Duration) {
	t := leaseTTLs[profile]
	return t[0], t[1]
}

// Failover is how long r may at worst go unadvertised while it moves from a dead
// director to the next one: an advert interval, the lease, and its taking.
func (s Settings) Failover(r Router) time.Duration {
	ttl, stagger := LeaseTimes(s.Profile)
	return r.AdvertInterval.D() + ttl + s.Guard.D() + stagger + activation
}

// PeerPatience is the shortest time after which a peer of r that has the same
// settings takes over: Master_Down_Interval with priority 254.
func (r Router) PeerPatience() time.Duration {
	n := r.Peering.DownTimerAdverts
	if n == 0 {
		n = defaultDownCount
	}
	skew := time.Second
	if r.Version == 3 {
		skew = r.AdvertInterval.D()
	}
	return time.Duration(n)*r.AdvertInterval.D() + 2*skew/256
}

// timing says that a peer would take over while r moves within the cluster; "":
// it would not, or r has no peers.
func (s Settings) timing(r Router) string {
	if len(r.Peering.Peers) == 0 || r.AdvertInterval <= 0 {
		return ""
	}
	gap, patience := s.Failover(r), r.PeerPatience()
	if gap < patience {
		return ""
	}
	ttl, stagger := LeaseTimes(s.Profile)
	return fmt.Sprintf("a VRRP peer takes over after %v without an advert, but a failover inside the cluster may take %v"+
		" (advert_int %v + lease %v + guard %v + stagger %v + activation %v): use a quicker profile or a longer advert_int",
		patience.Round(time.Millisecond), gap, r.AdvertInterval, ttl, s.Guard, stagger, activation)
}

func (l *list) garp(g GARP) {
	if g == (GARP{}) {
		return
	}
	l.text("garp", fmt.Sprintf("%d, %d after %v, %d every %v; lower priority: %d, after %v", g.MasterRepeat, g.MasterRepeat, g.MasterDelay,
		g.RefreshRepeat, g.Refresh, g.LowerPrioRepeat, g.LowerPrioDelay))
}

// peeringFields are those of r alone.
func (r Router) peeringFields() []field {
	var l list
	l.peering(r.Peering)
	return l
}

// peering lists what a peering says that is not the default.
func (l *list) peering(v Peering) {
	peers := make([]string, len(v.Peers))
	for i, p := range v.Peers {
		peers[i] = p.Addr.String()
		if p.MinTTL != 0 || p.MaxTTL != 0 {
			peers[i] += fmt.Sprintf(" ttl %d-%d", p.MinTTL, p.MaxTTL)
		}
	}
	name := "peers"
	if v.Unicast {
		name = "unicast_peer"
		l.flag("unicast", true)
	}
	l.text(name, strings.Join(peers, "; "))
	if v.Source.IsValid() {
		l.text("mcast_src_ip", v.Source.String())
	}
	l.delay("preempt_delay", v.PreemptDelay)
	l.delay("vrrp_startup_delay", v.StartupDelay)
	l.number("down_timer_adverts", uint64(max(0, v.DownTimerAdverts)))
	l.garp(v.GARP)
	l.flag("nopreempt", v.NoPreempt)
	l.flag("lower_prio_no_advert", v.LowerPrioNoAdvert)
	l.flag("higher_prio_send_advert", v.HigherPrioSendAdvert)
	l.flag("skip_check_adv_addr", v.SkipCheckAdvAddr)
	l.flag("v3_checksum_as_v2", v.V3ChecksumAsV2)
	l.flag("strict_mode", v.Strict)
}
