package conf

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"lbcluster/fsm"
)

// peeringFlags are the switches of a vrrp_instance; keepalived has each in
// global_defs too, with vrrp_ in front.
var peeringFlags = map[string]func(*fsm.Peering) *bool{
	"lower_prio_no_advert":    func(p *fsm.Peering) *bool { return &p.LowerPrioNoAdvert },
	"higher_prio_send_advert": func(p *fsm.Peering) *bool { return &p.HigherPrioSendAdvert },
	"v3_checksum_as_v2":       func(p *fsm.Peering) *bool { return &p.V3ChecksumAsV2 },
}

// garpTimers and garpCounts likewise. A count of 0 is one that says nothing.
var (
	garpTimers = map[string]func(*fsm.GARP) *fsm.Duration{
		"garp_master_delay":     func(g *fsm.GARP) *fsm.Duration { return &g.MasterDelay },
		"garp_master_refresh":   func(g *fsm.GARP) *fsm.Duration { return &g.Refresh },
		"garp_lower_prio_delay": func(g *fsm.GARP) *fsm.Duration { return &g.LowerPrioDelay },
	}
	garpCounts = map[string]func(*fsm.GARP) *int{
		"garp_master_repeat":         func(g *fsm.GARP) *int { return &g.MasterRepeat },
		"garp_master_refresh_repeat": func(g *fsm.GARP) *int { return &g.RefreshRepeat },
		"garp_lower_prio_repeat":     func(g *fsm.GARP) *int { return &g.LowerPrioRepeat },
	}
)

// keptOnly are keywords that need nothing here, and why.
var keptOnly = map[string]string{
	"check_unicast_src":     "not kept: adverts of others than the listed peers are never obeyed",
	"unicast_fault_no_peer": "not kept: unicast_peer without a peer is an error",
	"old_unicast_checksum":  "not kept: unicast adverts of version 3 carry the checksum of keepalived 1.3.7 and later",
	"dont_track_primary":    "not kept: a director whose link is down never holds the VIP",
	"accept":                "not kept: a VIP always accepts packets",
}

// refused are keywords that would change what the peers see, and why they are
// an error.
var refused = map[string]string{
	"use_vmac_addr":  "an address with a dev of its own stays on that interface: leave dev out, and it is on the one of use_vmac",
	"use_ipvlan":     "ipvlan interfaces are not supported: VIPs are added to the interface itself",
	"auth_hmac":      "the HMAC authentication of keepalived 2.4 is not supported: peers would drop the adverts; use auth_type PASS or none on all",
	"mcast_dst_ip":   "another multicast group than VRRP's own (224.0.0.18, ff02::12) is not supported",
	"no_accept":      "a VIP that drops the packets sent to it cannot serve: leave no_accept out",
	"virtual_routes": "routes that move with the VIP are not supported; a notify_master script can add them",
	"virtual_rules":  "rules that move with the VIP are not supported; a notify_master script can add them",
}

func init() {
	for word, why := range keptOnly {
		routerRules[word] = rule{max: -1, do: func(b *builder, n *node) { b.notice(n.pos, n.word, "%s", why) }}
	}
	for word, why := range refused {
		block := word == "auth_hmac" || word == "virtual_routes" || word == "virtual_rules"
		routerRules[word] = rule{max: -1, block: block, do: func(b *builder, n *node) { b.omit(n.pos, n.word, why) }}
	}
	for word, at := range peeringFlags {
		routerRules[word] = rule{max: 1, do: func(b *builder, n *node) { b.say(n); b.readBool(n, at(&b.router.Peering)) }}
		globalRules[globalWord(word)] = rule{max: 1, do: func(b *builder, n *node) { b.peers.note(n); b.readBool(n, at(&b.peers.defaults)) }}
	}
	for word, at := range garpTimers {
		routerRules[word] = rule{min: 1, max: 1, do: func(b *builder, n *node) { b.say(n); b.readTimer(n, n.args[0], 0, at(&b.router.Peering.GARP)) }}
		globalRules["vrrp_"+word] = rule{min: 1, max: 1, do: func(b *builder, n *node) { b.peers.note(n); b.readTimer(n, n.args[0], 0, at(&b.peers.defaults.GARP)) }}
	}
	for word, at := range garpCounts {
		routerRules[word] = rule{min: 1, max: 1, do: func(b *builder, n *node) { b.say(n); b.readCount(n, 1, 255, at(&b.router.Peering.GARP)) }}
		globalRules["vrrp_"+word] = rule{min: 1, max: 1, do: func(b *builder, n *node) { b.peers.note(n); b.readCount(n, 1, 255, at(&b.peers.defaults.GARP)) }}
	}
	with(routerRules, map[string]rule{
		"nopreempt":                  {do: func(b *builder, n *node) { b.say(n); b.router.Peering.NoPreempt = true }},
		"preempt":                    {do: func(b *builder, n *node) { b.say(n); b.router.Peering.NoPreempt = false }},
		"preempt_delay":              {min: 1, max: 1, do: func(b *builder, n *node) { b.say(n); b.readTimer(n, n.args[0], 0, &b.router.Peering.PreemptDelay) }},
		"unicast_peer":               {block: true, repeat: true, do: (*builder).readUnicastPeers},
		"unicast_src_ip":             {min: 1, max: 1, do: (*builder).readSource},
		"mcast_src_ip":               {min: 1, max: 1, do: (*builder).readSource},
		"unicast_ttl":                {min: 1, max: 1, do: (*builder).readUnicastTTL},
		"lbcluster_peers":            {min: 1, max: -1, repeat: true, do: (*builder).readPeers},
		"down_timer_adverts":         {min: 1, max: 1, do: func(b *builder, n *node) { b.say(n); b.readCount(n, 1, 100, &b.router.Peering.DownTimerAdverts) }},
		"skip_check_adv_addr":        {max: 1, do: func(b *builder, n *node) { b.say(n); b.readBool(n, &b.router.Peering.SkipCheckAdvAddr) }},
		"strict_mode":                {max: 1, do: func(b *builder, n *node) { b.say(n); b.readBool(n, &b.router.Peering.Strict) }},
		"virtual_ipaddress_excluded": {block: true, repeat: true, do: (*builder).readExcluded},
	})
	with(globalRules, map[string]rule{
		"vrrp_strict":             {do: func(b *builder, n *node) { b.peers.note(n); b.peers.defaults.Strict = true }},
		"vrrp_startup_delay":      {min: 1, max: 1, do: func(b *builder, n *node) { b.readTimer(n, n.args[0], 0, &b.peers.defaults.StartupDelay) }},
		"vrrp_down_timer_adverts": {min: 1, max: 1, do: func(b *builder, n *node) { b.peers.note(n); b.readCount(n, 1, 100, &b.peers.defaults.DownTimerAdverts) }},
		"vrrp_check_unicast_src":  {max: 1, do: func(b *builder, n *node) { b.notice(n.pos, n.word, "%s", keptOnly["check_unicast_src"]) }},
		"vrrp_min_garp": {max: 1, do: func(b *builder, n *node) {
			b.peers.note(n)
			b.peers.defaults.GARP.MasterRepeat = 1
			b.peers.none = true
		}},
		"vrrp_mcast_group4": {min: 1, max: 1, do: func(b *builder, n *node) { b.readOwnGroup(n, "224.0.0.18") }},
		"vrrp_mcast_group6": {min: 1, max: 1, do: func(b *builder, n *node) { b.readOwnGroup(n, "ff02::12") }},
	})
}

func globalWord(word string) string {
	if word == "v3_checksum_as_v2" {
		return word // the one without vrrp_
	}
	return "vrrp_" + word
}

// peerDefaults are what global_defs says for all routers.
type peerDefaults struct {
	defaults fsm.Peering
	said     map[string]bool
	none     bool // vrrp_min_garp: nothing follows the first announcement
}

func (p *peerDefaults) note(n *node) {
	if p.said == nil {
		p.said = map[string]bool{}
	}
	p.said[n.word] = true
}

func (b *builder) readOwnGroup(n *node, want string) {
	if n.args[0] != want {
		b.problem(n.pos, n.word, "another multicast group than VRRP's own, %s, is not supported", want)
	}
}

func (b *builder) readSource(n *node) {
	b.say(n)
	a, err := address(n.args[0])
	if err != nil {
		b.wrong(n, err)
		return
	}
	b.router.Peering.Source = a
	b.notice(n.pos, n.word, "used by the director that has %s; the others send from their own address on the interface", a)
}

func (b *builder) readUnicastTTL(n *node) {
	if n.args[0] != "255" {
		b.notice(n.pos, n.word, "not kept: adverts leave with TTL 255")
	}
}

// readUnicastPeers reads lines of ADDR [min_ttl N] [max_ttl N].
func (b *builder) readUnicastPeers(n *node) {
	b.say(n)
	b.router.Peering.Unicast = true
	for _, k := range n.kids {
		p, ok := b.readPeer(k)
		b.router.peerLines = append(b.router.peerLines, k)
		if b.router.badPeer = b.router.badPeer || !ok; ok {
			b.router.Peering.Peers = append(b.router.Peering.Peers, p)
		}
	}
}

func (b *builder) readPeer(n *node) (p fsm.Peer, ok bool) {
	a, err := address(n.word)
	if err != nil || n.block {
		b.doubt(n.pos, n.word, "a peer is an address, with min_ttl N and max_ttl N after it", "it is left out")
		return p, false
	}
	p.Addr = a
	for args := n.args; len(args) > 0; args = args[2:] {
		if len(args) < 2 || args[0] != "min_ttl" && args[0] != "max_ttl" {
			b.problem(n.pos, n.word, "after a peer's address come min_ttl N and max_ttl N, not %q", args[0])
			return p, false
		}
		v, err := number(args[1], 1, 255)
		if err != nil {
			b.problem(n.pos, n.word, "%s: %v", args[0], err)
			return p, false
		}
		if args[0] == "min_ttl" {
			p.MinTTL = uint8(v)
		} else {
			p.MaxTTL = uint8(v)
		}
	}
	return p, true
}

// readPeers reads our own keyword: which speakers of the multicast group are
// obeyed. keepalived has no such list, so the line stands behind @lbcluster,
// which keepalived leaves out.
func (b *builder) readPeers(n *node) {
	b.say(n)
	for _, s := range n.args {
		a, err := address(s)
		if err != nil {
			b.wrong(n, err)
			continue
		}
		b.router.Peering.Peers = append(b.router.Peering.Peers, fsm.Peer{Addr: a})
	}
}

func (b *builder) readExcluded(n *node) {
	from := len(b.router.Addresses)
	b.readAddresses(n)
	for i := range b.router.Addresses[from:] {
		b.router.Addresses[from+i].Excluded = true
	}
}

// excludedLast is the order in which a file is written: that of the two blocks.
func excludedLast(list []fsm.Address) {
	slices.SortStableFunc(list, func(a, b fsm.Address) int {
		switch {
		case a.Excluded == b.Excluded:
			return 0
		case b.Excluded:
			return -1
		}
		return 1
	})
}

// Sources are the addresses that the file's routers send their adverts from, as
// unicast_src_ip and mcast_src_ip say: they tell whose file it is.
func (r Result) Sources() []netip.Addr {
	var all []netip.Addr
	for _, v := range r.Config.Routers {
		if a := v.Peering.Source; a.IsValid() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// settlePeering gives a router what global_defs says and it does not, and
// applies keepalived's rules of what goes together.
func (b *builder) settlePeering(d *routerDraft) {
	excludedLast(d.Addresses)
	p, all := &d.Peering, &b.peers
	for word, at := range peeringFlags {
		if d.said[word] == nil && all.said[globalWord(word)] {
			*at(p) = *at(&all.defaults)
		}
	}
	if list := d.Advertised(); d.Version != 3 || len(list) > 0 && list[0].Is6() {
		if n := d.said["v3_checksum_as_v2"]; n != nil && p.V3ChecksumAsV2 {
			b.notice(n.pos, n.word, "not kept: it is for VRRP version 3 over IPv4")
		}
		p.V3ChecksumAsV2 = false
	}
	if d.said["skip_check_adv_addr"] == nil {
		p.SkipCheckAdvAddr = b.cfg.Globals.SkipCheckAdvAddr
	}
	if d.said["strict_mode"] == nil {
		p.Strict = all.defaults.Strict
	}
	if d.said["down_timer_adverts"] == nil {
		p.DownTimerAdverts = all.defaults.DownTimerAdverts
	}
	p.StartupDelay = all.defaults.StartupDelay
	p.Unicast = p.Unicast && !(d.badPeer && len(p.Peers) == 0) // that is reported
	b.settleVMAC(d)
	b.settlePreempt(d)
	b.settleGARP(d)
	if p.Strict {
		p.LowerPrioNoAdvert = true // as in keepalived
		b.notice(d.at.pos, d.at.word, "strict mode: what RFC 5798 does not know is refused; other than in keepalived the VIP goes on answering (there it drops all packets unless the priority is 255)")
	}
}

// settlePreempt: state MASTER knows no nopreempt and no preempt_delay.
func (b *builder) settlePreempt(d *routerDraft) {
	p := &d.Peering
	if d.Initial == "MASTER" && (p.NoPreempt || p.PreemptDelay != 0) {
		for _, word := range []string{"nopreempt", "preempt_delay"} {
			if n := d.said[word]; n != nil {
				b.notice(n.pos, n.word, "not kept: with state MASTER keepalived ignores it")
			}
		}
		p.NoPreempt, p.PreemptDelay = false, 0
	}
	if p.NoPreempt && p.PreemptDelay != 0 {
		n := d.said["preempt_delay"]
		b.notice(n.pos, n.word, "not kept: it has no meaning with nopreempt")
		p.PreemptDelay = 0
	}
	if n := d.said["nopreempt"]; n != nil && len(p.Peers) == 0 {
		b.notice(n.pos, n.word, "concerns VRRP peers outside the cluster, and none are listed; whether a router goes back to its home is lbcluster settings set fail-back=manual|auto")
	}
}

// settleGARP fills in keepalived's defaults where the file says anything about
// gratuitous ARP; where it says nothing, lbcluster's own timing stands.
func (b *builder) settleGARP(d *routerDraft) {
	g, all := &d.Peering.GARP, b.peers.defaults.GARP
	if *g == (fsm.GARP{}) && all == (fsm.GARP{}) {
		return
	}
	// What the file says nothing of comes from the global settings, with their
	// own defaults: of a router's garp_master_* nothing else follows.
	if !b.peers.said["vrrp_garp_master_delay"] && !b.peers.none {
		all.MasterDelay = fsm.Duration(5 * time.Second)
	}
	all.MasterRepeat, all.RefreshRepeat = orInt(all.MasterRepeat, 5), orInt(all.RefreshRepeat, 1)
	all.LowerPrioRepeat = orInt(all.LowerPrioRepeat, all.MasterRepeat)
	if !b.peers.said["vrrp_garp_lower_prio_delay"] {
		all.LowerPrioDelay = all.MasterDelay
	}
	for word, at := range garpTimers {
		if d.said[word] == nil {
			*at(g) = *at(&all)
		}
	}
	for _, at := range garpCounts {
		*at(g) = orInt(*at(g), *at(&all))
	}
}

func orInt(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

// placePeers notes where the peers stand.
func (b *builder) placePeers(path string, d *routerDraft) {
	for _, n := range d.peerLines {
		b.places.value(path, "unicast_peer "+n.word, place{n.pos, "unicast_peer"})
	}
	if n := d.said["lbcluster_peers"]; n != nil {
		b.places.value(path, "unicast_peer", place{n.pos, n.word})
	}
	if n := d.said["unicast_src_ip"]; n != nil {
		b.places.value(path, "mcast_src_ip", place{n.pos, n.word})
	}
}

// peering writes what a router says of its peers; what is not written is off.
func (w *writer) peering(r fsm.Router) {
	p := r.Peering
	w.unless(!p.NoPreempt, "nopreempt")
	w.unless(p.PreemptDelay == 0, "preempt_delay", seconds(p.PreemptDelay))
	w.unless(p.DownTimerAdverts == 0, "down_timer_adverts", strconv.Itoa(p.DownTimerAdverts))
	w.unless(!p.LowerPrioNoAdvert, "lower_prio_no_advert")
	w.unless(!p.HigherPrioSendAdvert, "higher_prio_send_advert")
	w.unless(!p.V3ChecksumAsV2, "v3_checksum_as_v2")
	switch {
	case p.SkipCheckAdvAddr:
		w.line("skip_check_adv_addr")
	case w.skipAdvAddr:
		w.line("skip_check_adv_addr", "off")
	}
	w.unless(!p.Strict, "strict_mode")
	w.garp(p.GARP)
	if p.Source.IsValid() {
		word := "mcast_src_ip"
		if p.Unicast {
			word = "unicast_src_ip"
		}
		w.line(word, p.Source.String())
	}
	switch {
	case p.Unicast:
		w.block(func() {
			for _, o := range p.Peers {
				words := []string{o.Addr.String()}
				if o.MinTTL != 0 {
					words = append(words, "min_ttl", strconv.Itoa(int(o.MinTTL)))
				}
				if o.MaxTTL != 0 {
					words = append(words, "max_ttl", strconv.Itoa(int(o.MaxTTL)))
				}
				w.line(words...)
			}
		}, "unicast_peer")
	case len(p.Peers) > 0:
		w.peerList(p.Peers)
	}
}

// peerList writes the line that keepalived leaves out.
func (w *writer) peerList(peers []fsm.Peer) {
	words := []string{"lbcluster_peers"}
	for _, o := range peers {
		words = append(words, o.Addr.String())
	}
	w.condition("@lbcluster", words...)
}

func (w *writer) garp(g fsm.GARP) {
	if g == (fsm.GARP{}) {
		return
	}
	w.line("garp_master_delay", seconds(g.MasterDelay))
	w.line("garp_master_repeat", strconv.Itoa(g.MasterRepeat))
	w.line("garp_master_refresh", seconds(g.Refresh))
	w.line("garp_master_refresh_repeat", strconv.Itoa(g.RefreshRepeat))
	w.line("garp_lower_prio_delay", seconds(g.LowerPrioDelay))
	w.line("garp_lower_prio_repeat", strconv.Itoa(g.LowerPrioRepeat))
}

// startupDelay is what the routers have of it: keepalived knows one for all.
func startupDelay(cfg fsm.Config) fsm.Duration {
	for _, r := range cfg.Routers {
		if r.Peering.StartupDelay != 0 {
			return r.Peering.StartupDelay
		}
	}
	return 0
}
