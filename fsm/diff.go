package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// What a Change does.
const (
	OpAdd    = "add"
	OpChange = "change"
	OpDelete = "delete"
)

// Change is one difference between the table and a configuration, for people.
type Change struct {
	Op     string `json:"op"`               // "add", "change" or "delete"
	Path   string `json:"path"`             // as in Problem
	Before string `json:"before,omitempty"` // what differs, as it is; empty for add
	After  string `json:"after,omitempty"`  // what differs, as it will be; empty for delete
	Note   string `json:"note,omitempty"`   // what was set by hand and survives, or goes
}

// Diff says what applying cfg as a set would change: nothing (nil) exactly if
// the Apply would change nothing. It does not validate.
func (t *Table) Diff(set string, cfg Config) []Change {
	d := differ{was: t.Config(set), is: cfg.canonical(set), hands: handsOf(t.Overrides)}
	if len(t.Overrides) > 0 {
		others := slices.DeleteFunc(slices.Clone(t.Services), func(v VirtualServer) bool { return v.Set == set })
		d.left = allServers(append(others, d.is.Services...))
	}
	d.all()
	return d.changes
}

// DiffConfigs says what changes from one configuration to another, whatever any
// table has.
func DiffConfigs(was, is Config) []Change {
	d := differ{was: was.canonical(""), is: is.canonical("")}
	d.all()
	return d.changes
}

// all goes through the elements in the order in which people read them.
func (d *differ) all() {
	d.fields("global_defs", globalFields(d.was.Globals), globalFields(d.is.Globals), "")
	d.routers()
	d.groups()
	d.services()
}

type differ struct {
	// each, if set, is told both sides of each element that is not equal as a
	// whole; changes gets then only what fields cannot say.
	each func(path string, was, is []field)
	// sum, if set, counts the changes, and changes gets none.
	sum     *summary
	was, is Config
	hands   byHand
	left    map[overrideKey]bool // where there will be servers
	changes []Change
}

// field is one setting of an element. An empty value means that it is not set.
type field struct {
	name, value string
	secret      bool
}

// fields tells the difference of one element; no fields: it is not there.
func (d *differ) fields(path string, was, is []field, note string) {
	if d.each != nil {
		d.each(path, was, is)
		return
	}
	c := Change{Op: OpChange, Path: path, Note: note}
	switch {
	case len(was) == 0 && len(is) == 0:
		return
	case len(was) == 0:
		c.Op, c.After = OpAdd, show(is, "")
	case len(is) == 0:
		c.Op, c.Before = OpDelete, show(was, "")
	default:
		old := slices.DeleteFunc(slices.Clone(was), func(f field) bool { return slices.Contains(is, f) })
		now := slices.DeleteFunc(slices.Clone(is), func(f field) bool { return slices.Contains(was, f) })
		if len(old) == 0 && len(now) == 0 {
			return
		}
		c.Before, c.After = show(old, ""), show(now, " (new)")
	}
	d.tell(c)
}

func (d *differ) tell(c Change) {
	if d.sum != nil {
		d.sum.count(c.Op, func() string { return c.Path })
		return
	}
	d.changes = append(d.changes, c)
}

func show(fields []field, mark string) string {
	texts := make([]string, len(fields))
	for i, f := range fields {
		switch {
		case f.secret:
			texts[i] = f.name + " ***" + mark
		case f.value == "":
			texts[i] = f.name
		default:
			texts[i] = f.name + " " + f.value
		}
	}
	return strings.Join(texts, ", ")
}

// list builds fields; what is not set is left out.
type list []field

func (l *list) text(name, value string) {
	if value != "" {
		*l = append(*l, field{name: name, value: value})
	}
}

func (l *list) number(name string, n uint64) {
	if n != 0 {
		l.text(name, strconv.FormatUint(n, 10))
	}
}

func (l *list) delay(name string, d Duration) {
	if d != 0 {
		l.text(name, d.String())
	}
}

func (l *list) flag(name string, on bool) {
	if on {
		*l = append(*l, field{name: name})
	}
}

func quoted(s string) string {
	if s == "" || nameProblem(s) == "" {
		return s
	}
	return strconv.Quote(s)
}

func globalFields(g Globals) []field {
	var l list
	l.text("router_id", quoted(g.RouterID))
	emails := make([]string, len(g.NotificationEmail))
	for i, s := range g.NotificationEmail {
		emails[i] = quoted(s)
		if s == "" {
			emails[i] = `""`
		}
	}
	l.text("notification_email", strings.Join(emails, " "))
	l.text("notification_email_from", quoted(g.EmailFrom))
	l.text("smtp_server", quoted(g.SMTPServer))
	l.delay("smtp_connect_timeout", g.SMTPTimeout)
	l.text("smtp_helo_name", quoted(g.SMTPHelo))
	l.flag("no_email_faults", g.NoEmailFaults)
	l.fifos(g.FIFOs)
	l.flag("vrrp_skip_check_adv_addr", g.SkipCheckAdvAddr)
	l.delay("vrrp_garp_interval", g.GARPInterval)
	l.delay("vrrp_gna_interval", g.GNAInterval)
	l.ipvs(g.IPVS)
	return l
}

func routerFields(r Router) []field {
	var l list
	l.text("interface", quoted(r.Interface))
	l.text("virtual_router_id", strconv.Itoa(int(r.VRID)))
	l.number("priority", uint64(r.Priority))
	l.number("version", uint64(r.Version))
	l.text("state", quoted(r.Initial))
	l.delay("advert_int", r.AdvertInterval)
	if r.AuthPass != "" {
		l = append(l, field{name: "auth_pass", value: r.AuthPass, secret: true})
	}
	addresses := make([]string, len(r.Addresses))
	for i, a := range r.Addresses {
		addresses[i] = addressText(a)
	}
	l.text("virtual_ipaddress", strings.Join(addresses, "; "))
	if r.VMAC != nil {
		l.text("use_vmac", r.VMACName())
		l.flag("vmac_xmit_base", r.VMAC.XmitBase)
	}
	l.peering(r.Peering)
	l.tracks(r.Track)
	l.notify(r.Notify)
	l.flag("smtp_alert", r.Alert)
	return l
}

func addressText(a Address) string {
	s := a.Prefix.String()
	if a.Dev != "" {
		s += " dev " + quoted(a.Dev)
	}
	if a.Label != "" {
		s += " label " + quoted(a.Label)
	}
	if a.Excluded {
		s += " excluded"
	}
	return s
}

func serviceFields(v VirtualServer) []field {
	var l list
	l.text("scheduler", quoted(v.Scheduler))
	l.text("method", quoted(string(v.Method)))
	l.delay("persistence", v.Persistence)
	l.number("persistence_mask", uint64(v.PersistenceMask))
	l.text("persistence_engine", quoted(v.PersistenceEngine))
	l.flag("one_packet", v.OnePacket)
	l.flag("hash_port", v.HashPort)
	l.flag("hash_fallback", v.HashFallback)
	l.text("group", quoted(v.Group))
	l.number("quorum", uint64(v.Quorum))
	l.number("hysteresis", uint64(v.Hysteresis))
	l.number("panic_threshold", uint64(v.Panic))
	l.delay("slow_start", v.SlowStart)
	l.flag("smtp_alert", v.Alert)
	l.upDown("quorum", v.Notify)
	if s := v.Sorry; s != nil {
		l.text("sorry_server", s.AddrPort().String())
		l.text("sorry_server_lvs_method", quoted(string(s.Method)))
		l.flag("sorry_server_inhibit", s.Inhibit)
	}
	matches := make([]string, len(v.Matches))
	for i, m := range v.Matches {
		matches[i] = m.String()
	}
	l.text("match", strings.Join(matches, "; "))
	if len(l) == 0 {
		l.text("scheduler", "none") // an element without fields would be none
	}
	return l
}

func serverFields(r RealServer) []field {
	var l list
	l.text("weight", strconv.Itoa(r.Weight))
	l.text("method", quoted(string(r.Method)))
	l.number("upper_threshold", uint64(r.UpperThreshold))
	l.number("lower_threshold", uint64(r.LowerThreshold))
	l.flag("inhibit_on_failure", r.Inhibit)
	l.flag("backup", r.Backup)
	l.flag("smtp_alert no", r.NoAlert)
	l.upDown("notify", r.Notify)
	checks := make([]string, len(r.Checks))
	for i, c := range r.Checks {
		checks[i] = c.text(r.AddrPort())
	}
	l.text("check", strings.Join(checks, " + "))
	return l
}

// byKey are the elements of all by key, and the keys in order of appearance,
// those of was first.
func byKey[K comparable, V any](was, is []V, key func(V) K) (old, now map[K]V, keys []K) {
	old, now = map[K]V{}, map[K]V{}
	seen := map[K]bool{}
	collect := func(all []V, into map[K]V) {
		for _, v := range all {
			k := key(v)
			into[k] = v
			if !seen[k] {
				seen[k] = true
				keys = append(keys, k)
			}
		}
	}
	collect(was, old)
	collect(is, now)
	return old, now, keys
}

func (d *differ) routers() {
	old, now, names := byKey(d.was.Routers, d.is.Routers, func(r Router) string { return r.Name })
	for _, name := range names {
		var was, is []field
		if r, ok := old[name]; ok {
			was = routerFields(r)
		}
		if r, ok := now[name]; ok {
			is = routerFields(r)
		}
		d.fields("virtual_router "+name, was, is, "")
	}
}

func (d *differ) services() {
	old, now, keys := byKey(d.was.Services, d.is.Services, func(v VirtualServer) ServiceKey { return v.ServiceKey })
	slices.SortFunc(keys, func(a, b ServiceKey) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		var was, is []field
		v, had := old[key]
		w, has := now[key]
		if had && has && v.equal(w) {
			continue
		}
		if had {
			was = serviceFields(v)
		}
		if has {
			is = serviceFields(w)
		}
		d.fields(servicePath(key), was, is, "")
		d.servers(key, v.RealServers, w.RealServers)
	}
}

func (d *differ) servers(key ServiceKey, was, is []RealServer) {
	old, now, addrs := byKey(was, is, RealServer.AddrPort)
	for _, addr := range addrs {
		r, had := old[addr]
		s, stays := now[addr]
		switch {
		case had && stays && r.equal(s):
			continue
		case had != stays && d.sum != nil:
			d.sum.count(opOf(had), func() string { return serverPath(key, addr) })
			continue
		}
		var before, after []field
		if had {
			before = serverFields(r)
		}
		if stays {
			after = serverFields(s)
		}
		d.fields(serverPath(key, addr), before, after, d.note(key, addr, stays))
	}
	d.order(key, was, is)
}

// note says what becomes of an operator's word on a server.
func (d *differ) note(key ServiceKey, addr netip.AddrPort, stays bool) string {
	if stays {
		if o := d.hands.on(key, addr); o.String() != "" {
			return fmt.Sprintf("%s, set by hand (%s), stays in force", o, o.By)
		}
		return ""
	}
	for _, k := range []ServiceKey{key, {}} {
		if o, ok := d.hands[k][addr]; ok && !d.left[overrideKey{k, addr}] {
			return fmt.Sprintf("%s, set by hand (%s), ends with it", o, o.By)
		}
	}
	return ""
}

// order tells when the same servers come in another order.
func (d *differ) order(key ServiceKey, was, is []RealServer) {
	old, now := addrPorts(was), addrPorts(is)
	if len(old) != len(now) || old == nil || slices.Equal(old, now) {
		return
	}
	a, b := slices.Clone(old), slices.Clone(now)
	slices.SortFunc(a, netip.AddrPort.Compare)
	slices.SortFunc(b, netip.AddrPort.Compare)
	if !slices.Equal(a, b) {
		return
	}
	d.tell(Change{
		Op: OpChange, Path: servicePath(key), Before: "order " + orderText(old), After: "order " + orderText(now),
	})
}

func addrPorts(servers []RealServer) []netip.AddrPort {
	var all []netip.AddrPort
	for _, r := range servers {
		all = append(all, r.AddrPort())
	}
	return all
}

func orderText(addrs []netip.AddrPort) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return someOf(texts, 8)
}
