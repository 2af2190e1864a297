package conf

import (
	"cmp"
	"time"

	"lbcluster/fsm"
)

// routerDraft is a vrrp_instance with what was not said left zero.
type routerDraft struct {
	fsm.Router
	at        *node
	said      map[string]*node // by keyword
	vips      []*node          // of Addresses, by index
	badVIP    *node            // an address that could not be read
	authType  string
	uses      []use   // of the track_* blocks
	peerLines []*node // of unicast_peer
	badPeer   bool    // one of them could not be read
	xmitBase  bool    // vmac_xmit_base
}

var routerRules = map[string]rule{
	"state":             {min: 1, max: 1, do: (*builder).readState},
	"interface":         {min: 1, max: 1, do: func(b *builder, n *node) { b.router.Interface = n.args[0]; b.say(n) }},
	"virtual_router_id": {min: 1, max: 1, do: func(b *builder, n *node) { b.readByte(n, &b.router.VRID) }},
	"priority":          {min: 1, max: 1, do: func(b *builder, n *node) { b.readByte(n, &b.router.Priority) }},
	"advert_int":        {min: 1, max: 1, do: (*builder).readAdvert},
	"version":           {min: 1, max: 1, do: func(b *builder, n *node) { b.readVersion(n, &b.router.Version) }},
	"virtual_ipaddress": {block: true, repeat: true, do: (*builder).readAddresses},
}

func init() {
	with(routerRules, trackRules(func(b *builder) *[]use { return &b.router.uses }))
	with(routerRules, notifyRules(func(b *builder) *fsm.Notify { return &b.router.Notify }))
	routerRules["native_ipv6"] = rule{do: func(b *builder, n *node) {}} // the addresses say it
	routerRules["authentication"] = rule{block: true, do: func(b *builder, n *node) { b.say(n); b.each(n.kids, n.word, authRules) }}
}

var authRules = map[string]rule{
	"auth_type": {min: 1, max: 1, do: (*builder).readAuthType},
	"auth_pass": {min: 1, max: 1, do: (*builder).readAuthPass},
}

func (b *builder) readRouter(n *node) {
	for _, d := range b.routers {
		if d.Name == n.args[0] {
			b.doubt(n.pos, n.word, sprint("%s is already in line %d of %s", n.args[0], d.at.pos.line, d.at.pos.file), "this one is left out")
			return
		}
	}
	b.router = &routerDraft{at: n, said: map[string]*node{}}
	b.router.Name = n.args[0]
	b.routers = append(b.routers, b.router)
	b.each(n.kids, n.word, routerRules)
}

// say remembers where a keyword of the current router stands.
func (b *builder) say(n *node) { b.router.said[n.word] = n }

func (b *builder) readState(n *node) {
	switch s := n.args[0]; s {
	case "MASTER", "BACKUP":
		b.router.Initial = s
		b.say(n)
		if s == "MASTER" {
			b.notice(n.pos, n.word, "MASTER means nothing in a cluster: the lease decides which director owns the VIP (kept for export)")
		}
	default:
		if b.doubt(n.pos, n.word, sprint("%q is neither MASTER nor BACKUP", s), "BACKUP is taken") {
			b.router.Initial = "BACKUP"
			b.say(n)
		}
	}
}

func (b *builder) readByte(n *node, to *uint8) {
	b.say(n)
	v, err := number(n.args[0], 1, 255)
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = uint8(v)
}

func (b *builder) readAdvert(n *node) {
	b.say(n)
	b.readTimer(n, n.args[0], 10*time.Millisecond, &b.router.AdvertInterval)
}

func (b *builder) readAuthType(n *node) {
	switch n.args[0] {
	case "PASS":
		b.router.authType = "PASS"
	case "AH":
		b.problem(n.pos, n.word, "AH is not supported: keepalived itself warns against it, and RFC 3768 dropped it; use PASS or none on all routers of the VRID")
	default:
		b.doubt(n.pos, n.word, sprint("%q is neither PASS nor AH", n.args[0]), "it is ignored")
	}
	b.say(n)
}

// readAuthPass cuts the password to the 8 bytes that VRRP version 2 carries
// (RFC 2338, section 5.3.6), as keepalived does.
func (b *builder) readAuthPass(n *node) {
	b.say(n)
	pass := n.args[0]
	if len(pass) > 8 {
		b.notice(n.pos, n.word, "only the first 8 bytes count, as in keepalived")
		pass = pass[:8]
	}
	if pass == "" {
		b.doubt(n.pos, n.word, "the password is empty", "it is none")
	}
	b.router.AuthPass = pass
}

// readAddresses reads the lines of virtual_ipaddress:
// IP[/LEN] [brd ADDR] [dev IF] [scope SCOPE] [label LABEL].
func (b *builder) readAddresses(n *node) {
	b.say(n)
	for _, k := range n.kids {
		if k.block {
			b.problem(k.pos, k.word, "an address takes no block")
			continue
		}
		a, ok := b.readAddress(k)
		if !ok {
			b.router.badVIP = k
			continue
		}
		b.router.Addresses = append(b.router.Addresses, a)
		b.router.vips = append(b.router.vips, k)
	}
}

func (b *builder) readAddress(n *node) (a fsm.Address, ok bool) {
	p, err := prefix(n.word)
	if err != nil {
		b.wrong(n, err)
		return a, false
	}
	a.Prefix, ok = p, true
	for args := n.args; len(args) > 0; args = args[min(2, len(args)):] {
		if !addressWord(args[0]) {
			b.problem(n.pos, args[0], "not supported yet for an address; dev, label, scope and brd are")
			return a, false
		}
		if len(args) == 1 {
			b.problem(n.pos, args[0], "needs one value after it")
			return a, false
		}
		ok = b.addressOption(n, &a, args[0], args[1]) && ok
	}
	return a, ok
}

func addressWord(s string) bool {
	return s == "dev" || s == "label" || s == "scope" || s == "brd" || s == "broadcast"
}

func (b *builder) addressOption(n *node, a *fsm.Address, option, value string) bool {
	switch option {
	case "dev":
		a.Dev = value
	case "label":
		a.Label = value
	case "scope":
		if value != "global" && value != "0" {
			b.problem(n.pos, option, "scope %s is not supported yet; global is", value)
			return false
		}
	default:
		b.notice(n.pos, option, "not kept: a VIP is added without a broadcast address")
	}
	return true
}

// addRouter fills in keepalived's defaults and hands the router over.
func (b *builder) addRouter(d *routerDraft) {
	b.placeRouter(d)
	if d.said["virtual_router_id"] == nil {
		b.problem(d.at.pos, d.at.word, "%s has no virtual_router_id", d.Name)
	}
	if d.said["virtual_ipaddress"] == nil {
		b.problem(d.at.pos, d.at.word, "%s has no virtual_ipaddress", d.Name)
	}
	if d.Interface == "" {
		d.Interface = b.defaultInterface
	}
	if d.Interface == "" {
		b.notice(d.at.pos, d.at.word, "%s names no interface: keepalived would take eth0; each director takes the interface whose network holds the VIP", d.Name)
	}
	b.settleVersion(d)
	b.defaultPriority(d)
	b.roundInterval(d)
	b.checkAuth(d)
	b.settlePeering(d)
	b.cfg.Routers = append(b.cfg.Routers, d.Router)
}

// placeRouter notes where the router says what.
func (b *builder) placeRouter(d *routerDraft) {
	path := routerPath(d.Name, len(b.cfg.Routers))
	b.places.element(path, place{d.at.pos, d.at.word})
	for keyword, n := range d.said {
		b.places.value(path, keyword, place{n.pos, n.word})
	}
	if n := d.said["version"]; n != nil {
		b.places.value(path, "VRRP", place{n.pos, n.word})
	}
	for i, n := range d.vips {
		at := place{n.pos, "virtual_ipaddress"}
		b.places.value(path, "virtual_ipaddress "+d.Addresses[i].Prefix.Addr().String(), at)
		b.places.value(path, "virtual_ipaddress "+d.Addresses[i].Prefix.String(), at)
		b.places.value(path, "virtual_ipaddress dev", at)
		b.places.value(path, "virtual_ipaddress label", at)
	}
	b.placePeers(path, d)
	if n := d.badVIP; n != nil { // "virtual_ipaddress is empty" is no news then
		b.places.value(path, "virtual_ipaddress is", place{n.pos, n.word})
	}
}

func (b *builder) defaultPriority(d *routerDraft) {
	if d.said["priority"] != nil {
		return
	}
	d.Priority = 100
	if d.Initial == "MASTER" {
		d.Priority = 255
		b.notice(d.at.pos, d.at.word, "%s has no priority: with state MASTER keepalived takes 255, the address owner's", d.Name)
	}
}

// settleVersion: an instance's own version, else the file's, else 2; and 3 for
// IPv6, as keepalived does.
func (b *builder) settleVersion(d *routerDraft) {
	list := d.Advertised()
	six := len(list) > 0 && list[0].Is6()
	said := cmp.Or(d.Version, b.version)
	d.Version = cmp.Or(said, 2)
	if six && d.Version == 2 {
		if d.Version = 3; said == 2 {
			b.notice(d.at.pos, d.at.word, "%s has IPv6 addresses: taken as VRRP version 3, as in keepalived", d.Name)
		}
	}
	if d.Version == 3 && d.AuthPass != "" {
		n := d.said["auth_pass"]
		b.notice(n.pos, n.word, "VRRP version 3 has no password (RFC 9568): not kept, as in keepalived")
		d.AuthPass = ""
	}
}

// roundInterval rounds the interval to what the version can say, as keepalived
// does: 1 to 255 whole seconds, or hundredths up to 40.95 s.
func (b *builder) roundInterval(d *routerDraft) {
	n := d.said["advert_int"]
	if n == nil || d.AdvertInterval == 0 { // it was wrong, and that is reported
		d.AdvertInterval = fsm.Duration(time.Second)
		return
	}
	step, most, what := time.Second, 255*time.Second, "whole seconds"
	if d.Version == 3 {
		step, most, what = 10*time.Millisecond, 40950*time.Millisecond, "hundredths of a second"
	}
	if d.AdvertInterval.D() > most {
		b.problem(n.pos, n.word, "must be at most %s seconds", seconds(fsm.Duration(most)))
		return
	}
	whole := max(d.AdvertInterval.D().Round(step), step)
	if whole != d.AdvertInterval.D() {
		b.notice(n.pos, n.word, "VRRP version %d knows %s only: taken as %s, as in keepalived", d.Version, what, seconds(fsm.Duration(whole)))
		d.AdvertInterval = fsm.Duration(whole)
	}
}

func (b *builder) checkAuth(d *routerDraft) {
	n := d.said["authentication"]
	switch {
	case n == nil:
	case d.said["auth_type"] == nil:
		b.doubt(n.pos, n.word, "auth_type is missing", "there is no authentication")
	case d.authType == "PASS" && d.said["auth_pass"] == nil:
		b.doubt(n.pos, n.word, "auth_pass is missing", "there is no authentication")
	}
	if d.authType == "" {
		d.AuthPass = ""
	}
}
