package conf

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"lbcluster/fsm"
)

// yamlReader turns the raw YAML into a configuration.
type yamlReader struct {
	*report
	keys    map[string]place // by path in the file
	places  places           // by path in the configuration
	cfg     fsm.Config
	sources []string // the file's lines
}

// Defaults of the YAML format: a dead server is out within 10 seconds.
const (
	yamlConnectTimeout = 3 * time.Second
	yamlRetry          = 2
	yamlBeforeRetry    = time.Second
	yamlDelayLoop      = 5 * time.Second
)

// wrong reports a problem with the value at path.
func (y *yamlReader) wrong(path, format string, args ...any) {
	at := y.key(path)
	y.problem(at.pos, at.keyword, format, args...)
}

func (y *yamlReader) convert(f yamlFile) {
	if g := f.Globals; g != nil {
		y.cfg.Globals = fsm.Globals{
			RouterID: g.RouterID, NotificationEmail: g.NotificationEmail, EmailFrom: g.EmailFrom,
			FIFOs:    fsm.FIFOs{All: g.NotifyFIFO.read(), VRRP: g.VRRPFIFO.read(), LVS: g.LVSFIFO.read()},
			SMTPHelo: g.SMTPHelo, NoEmailFaults: g.NoEmailFaults,
			SMTPServer: g.SMTPServer, SMTPTimeout: y.duration("globals.smtp_connect_timeout", g.SMTPTimeout, 0),
			SkipCheckAdvAddr: g.SkipCheckAdvAddr,
			GARPInterval:     y.duration("globals.vrrp_garp_interval", g.GARPInterval, 0),
			GNAInterval:      y.duration("globals.vrrp_gna_interval", g.GNAInterval, 0),
			IPVS:             y.ipvs("globals.ipvs", g.IPVS),
		}
		y.placeIPVS(g.IPVS)
	}
	for i, r := range f.Routers {
		path := fmt.Sprintf("routers[%d]", i)
		y.cfg.Routers = append(y.cfg.Routers, y.router(path, r))
		y.placeRouter(path, y.cfg.Routers[i], i)
	}
	for i, g := range f.Groups {
		path := fmt.Sprintf("groups[%d]", i)
		if g.Name == "" {
			y.wrong(path, "name is missing")
		}
		y.cfg.Groups = append(y.cfg.Groups, fsm.SyncGroup{
			Name: g.Name, Routers: g.Routers, Track: y.tracks(path, g.Track), Notify: g.Notify.read(),
		})
		y.places.element(groupPath(g.Name), y.key(path))
	}
	for i, s := range f.Services {
		path := fmt.Sprintf("services[%d]", i)
		y.cfg.Services = append(y.cfg.Services, y.service(path, s))
		y.placeService(path, y.cfg.Services[i])
	}
	y.settleAlerts(f)
}

// placeRouter notes where the router says what, under package fsm's words.
func (y *yamlReader) placeRouter(path string, r fsm.Router, i int) {
	element := routerPath(r.Name, i)
	y.places.element(element, y.key(path))
	for word, key := range map[string]string{
		"interface": "interface", "virtual_router_id": "vrid", "priority": "priority", "state": "initial",
		"VRRP": "version", "advert_int": "advert_interval", "auth_pass": "auth_pass", "the": "name",
		"virtual_ipaddress": "addresses", "a VRRP": "advert_interval",
		"unicast_peer": "peering.peers", "mcast_src_ip": "peering.source", "strict_mode": "peering.strict_mode",
		"preempt_delay": "peering.preempt_delay", "down_timer_adverts": "peering.down_timer_adverts",
		"vrrp_startup_delay": "peering.startup_delay", "v3_checksum_as_v2": "peering.v3_checksum_as_v2",
		"garp": "peering.garp", "garp_master_delay": "peering.garp.master_delay", "garp_master_refresh": "peering.garp.refresh",
		"garp_lower_prio_delay": "peering.garp.lower_prio_delay",
	} {
		y.places.value(element, word, y.key(path+"."+key))
	}
	for i, a := range r.Addresses {
		at := y.key(fmt.Sprintf("%s.addresses[%d]", path, i))
		for _, word := range []string{a.Prefix.String(), a.Prefix.Addr().String(), "dev", "label", "an"} {
			y.places.value(element, "virtual_ipaddress "+word, at)
		}
	}
}

func (y *yamlReader) router(path string, r yamlRouter) fsm.Router {
	if r.Name == "" {
		y.wrong(path, "name is missing")
	}
	vrid := &r.VRID
	if r.VRID == 0 {
		vrid = nil
		y.wrong(path, "vrid is missing")
	}
	out := fsm.Router{
		Name: r.Name, Interface: r.Interface, Initial: r.Initial, AuthPass: r.AuthPass, VMAC: r.VMAC.vmac(),
		VRID:           uint8(y.bounded(path+".vrid", vrid, 0, 1, 255)),
		Priority:       uint8(y.bounded(path+".priority", r.Priority, 100, 1, 255)),
		Version:        uint8(y.bounded(path+".version", r.Version, 2, 2, 3)),
		AdvertInterval: y.duration(path+".advert_interval", r.AdvertInterval, time.Second),
	}
	if r.Version == nil && len(r.Addresses) > 0 && strings.Contains(r.Addresses[0].Prefix, ":") {
		out.Version = 3 // version 2 carries no IPv6
	}
	for i, a := range r.Addresses {
		at := fmt.Sprintf("%s.addresses[%d]", path, i)
		p, err := prefix(a.Prefix)
		if err != nil {
			y.wrong(at, "%v", err)
		}
		out.Addresses = append(out.Addresses, fsm.Address{Prefix: p, Dev: a.Dev, Label: a.Label, Excluded: a.Excluded})
	}
	excludedLast(out.Addresses)
	out.Peering = y.peering(path+".peering", r.Peering)
	out.Track, out.Notify = y.tracks(path, r.Track), r.Notify.read()
	return out
}

// required reports a missing key, or a value that is not among those allowed.
func (y *yamlReader) required(path, key, value string, allowed ...string) {
	if value == "" {
		y.wrong(path, "%s is missing", key)
		return
	}
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	if len(allowed) > 0 {
		text := strings.Join(allowed, ", ")
		if i := strings.LastIndex(text, ", "); i >= 0 {
			text = text[:i] + " or" + text[i+1:]
		}
		y.wrong(path+"."+key, "%q is not supported; %s is", value, text)
	}
}

func (y *yamlReader) check(path string, c yamlCheck, server, vip netip.AddrPort) fsm.Check {
	y.required(path, "kind", c.Kind, textsOf(fsm.CheckKinds)...)
	usual := fsm.Check{
		ConnectTimeout: fsm.Duration(yamlConnectTimeout), Retry: yamlRetry,
		DelayBeforeRetry: fsm.Duration(yamlBeforeRetry), DelayLoop: fsm.Duration(yamlDelayLoop),
	}
	if c.Kind == string(fsm.CheckFile) {
		fileTimers(&usual)
	}
	out := fsm.Check{
		Kind: fsm.CheckKind(c.Kind), Dest: server,
		ConnectTimeout:   y.duration(path+".connect_timeout", c.ConnectTimeout, usual.ConnectTimeout.D()),
		Retry:            y.bounded(path+".retry", c.Retry, usual.Retry, 0, 1000),
		DelayBeforeRetry: y.duration(path+".delay_before_retry", c.DelayBeforeRetry, usual.DelayBeforeRetry.D()),
		DelayLoop:        y.duration(path+".delay_loop", c.DelayLoop, usual.DelayLoop.D()),
	}
	if usual.Warmup = out.DelayLoop; c.Kind == string(fsm.CheckFile) {
		usual.Warmup = 0
	}
	out.Warmup = y.duration(path+".warmup", c.Warmup, usual.Warmup.D())
	if out.DSR = c.DSR; c.DSR {
		out.Dest = vip
	}
	if c.Dest != "" {
		out.Dest = y.addrPort(path+".dest", c.Dest, int(server.Port()))
	}
	if c.Bind != "" {
		a, err := address(c.Bind)
		if err != nil {
			y.wrong(path+".bind", "%v", err)
		}
		out.Bind = a
	}
	if !out.Ported() {
		out.Dest = netip.AddrPortFrom(out.Dest.Addr(), 0)
	}
	out.Alpha = c.Alpha
	out.BindPort, out.BindIf, out.Mark = c.BindPort, c.BindIf, c.Mark
	y.question(path, c, &out)
	return out
}

// addrPort reads "1.2.3.4:80" or "[2001:db8::1]:80", and the address alone if there is a port to fall back
// to (-1: none). It returns the zero AddrPort for what it has complained about.
func (y *yamlReader) addrPort(path, s string, port int) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{} // reported as missing
	}
	host, p, found := strings.Cut(s, ":")
	if inner, rest, ok := strings.Cut(strings.TrimPrefix(s, "["), "]"); ok && s[0] == '[' {
		host, p, found = inner, strings.TrimPrefix(rest, ":"), rest != ""
	} else if strings.Contains(p, ":") { // a bare IPv6 address
		host, p, found = s, "", false
	}
	a, err := address(host)
	if err != nil {
		y.wrong(path, "%v", err)
		return netip.AddrPort{}
	}
	if !found && port >= 0 {
		return netip.AddrPortFrom(a, uint16(port))
	}
	v, err := number(p, 0, 65535)
	if err != nil {
		y.wrong(path, "%q needs a port from 1 to 65535 after a colon", s)
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, uint16(v))
}

// bounded reads a number; nil: the default.
func (y *yamlReader) bounded(path string, v *int, otherwise, low, high int) int {
	if v == nil {
		return otherwise
	}
	if *v < low || *v > high {
		y.wrong(path, "%d is not from %d to %d", *v, low, high)
		return otherwise
	}
	return *v
}

// duration reads "1.5s"; empty: the default.
func (y *yamlReader) duration(path, s string, otherwise time.Duration) fsm.Duration {
	if s == "" {
		return fsm.Duration(otherwise)
	}
	if s == "0" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxTimer {
		y.wrong(path, "%q is not a duration such as 500ms, 3s or 1m", s)
		return fsm.Duration(otherwise)
	}
	return fsm.Duration(d)
}
