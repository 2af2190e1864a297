package oracle

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"lbcluster/fsm"
	"lbcluster/script"
)

// FromConfig makes facts, in keepalived's words, of a configuration as fsm/conf
// read it.
func FromConfig(c fsm.Config) Facts {
	f := Facts{}
	fromGlobals(f, c.Globals)
	for _, r := range c.Routers {
		fromRouter(f, r)
	}
	for _, g := range c.Groups {
		fromGroup(f, g)
	}
	for _, s := range c.Services {
		fromService(f, s)
	}
	for fact, v := range f {
		if v == fact.standard() && v != "" {
			delete(f, fact)
		}
	}
	return f
}

// defaultSMTPTimeout is keepalived's, in seconds.
const defaultSMTPTimeout = "30"

func fromGlobals(f Facts, g fsm.Globals) {
	put := func(field, value string) {
		if value != "" {
			f[Fact{globals, field}] = value
		}
	}
	put("router_id", g.RouterID)
	put("notification_email_from", g.EmailFrom)
	for i, to := range g.NotificationEmail {
		put(fmt.Sprintf("notification_email %d", i+1), to)
	}
	if g.SMTPServer != "" {
		host, port, ok := strings.Cut(g.SMTPServer, ":")
		if !ok {
			port = "25"
		}
		put("smtp_server", host)
		put("smtp_port", port)
		put("smtp_connect_timeout", defaultSMTPTimeout)
	}
	if g.SMTPTimeout > 0 {
		put("smtp_connect_timeout", fmt.Sprint(int(g.SMTPTimeout.D().Seconds())))
	}
	put("vrrp_skip_check_adv_addr", strconv.FormatBool(g.SkipCheckAdvAddr))
	put("vrrp_garp_interval", decimal(g.GARPInterval))
	put("vrrp_gna_interval", decimal(g.GNAInterval))
	fromIPVS(put, g.IPVS)
}

func fromIPVS(put func(field, value string), v fsm.IPVS) {
	number := func(field string, n uint64) {
		if n != 0 {
			put(field, fmt.Sprint(n))
		}
	}
	number("lvs_timeouts tcpfin", uint64(v.TCPFINTimeout.D().Seconds()))
	number(lastTimeout, uint64(cmp.Or(v.UDPTimeout, v.TCPTimeout).D().Seconds()))
	s := v.Sync
	if s == nil {
		return
	}
	put("lvs_sync_daemon", s.Interface)
	put("lvs_sync_daemon inst", s.Instance)
	put("lvs_sync_daemon id", fmt.Sprint(s.ID))
	number("lvs_sync_daemon maxlen", uint64(s.MaxLen))
	number("lvs_sync_daemon port", uint64(s.Port))
	number("lvs_sync_daemon ttl", uint64(s.TTL))
}

// decimal writes a time as keepalived does: "1.500000".
func decimal(d fsm.Duration) string { return seconds(fmt.Sprint(d.D().Microseconds())) }

func fromRouter(f Facts, r fsm.Router) {
	element := "vrrp_instance " + r.Name
	put := func(field, value string) { f[Fact{element, field}] = value }
	put("version", fmt.Sprint(r.Version))
	put("state", initial(r))
	put("vrid", fmt.Sprint(r.VRID))
	put("priority", fmt.Sprint(r.Priority))
	dev := fromVMAC(put, r)
	put("advert_int", interval(r))
	if r.AuthPass != "" {
		put("auth_type", "PASS")
		put("auth_pass", r.AuthPass)
	}
	for _, a := range r.Addresses {
		list := "virtual_ipaddress"
		if a.Excluded {
			list = "virtual_ipaddress_excluded"
		}
		addTo(f, element, list, address(a, dev))
	}
	fromPeering(f, element, r.Peering)
	fromTrackers(f, element, r.Interface, r.Track)
	fromNotify(f, element, r.Notify)
}

// fromVMAC tells of the router's interface, and returns where addresses are that
// name none.
func fromVMAC(put func(field, value string), r fsm.Router) (dev string) {
	name := r.VMACName()
	if name == "" {
		put("interface", r.Interface)
		return r.Interface
	}
	on, xmit := name+", vmac on "+r.Interface, ""
	if r.VMAC.XmitBase {
		on, xmit = on+", xmit base i/f", ", xmit_base = true"
	}
	put("interface", on)
	put("Use VMAC, i/f name "+name+", is_up", "true"+xmit)
	return name + "@" + r.Interface
}

// initial is the state to begin with; the address owner begins as MASTER.
func initial(r fsm.Router) string {
	switch {
	case r.Initial != "":
		return r.Initial
	case r.Priority == 255:
		return "MASTER"
	}
	return "BACKUP"
}

func interval(r fsm.Router) string { return fmt.Sprintf("%dms", r.AdvertInterval.D().Milliseconds()) }

// address writes an address as keepalived's dump does: without the length that
// means "this address alone", with the interface it gets by default. An IPv6
// address of that length is deprecated, so that nobody takes it as a source.
func address(a fsm.Address, dev string) string {
	s := a.Prefix.String()
	single := a.Prefix.IsSingleIP()
	if single {
		s = a.Prefix.Addr().String()
	}
	if a.Dev != "" {
		dev = a.Dev
	}
	s += " dev " + dev
	if a.Label != "" {
		s += " label " + a.Label
	}
	if single && a.Prefix.Addr().Is6() {
		s += " deprecated"
	}
	return s
}

func fromGroup(f Facts, g fsm.SyncGroup) {
	element := "vrrp_sync_group " + g.Name
	for i, r := range g.Routers {
		f[Fact{element, fmt.Sprintf("group %d", i+1)}] = r
	}
	fromTrackers(f, element, "", g.Track)
	fromNotify(f, element, g.Notify)
}

// fromTrackers adds what is tracked and the definitions of it, once for each
// that uses them.
func fromTrackers(f Facts, element, own string, trackers []fsm.Tracker) {
	for _, t := range trackers {
		if t.Kind == fsm.TrackInterface && t.Name == own {
			continue // what keepalived tracks anyway
		}
		comma := map[fsm.TrackKind]string{fsm.TrackFile: ",", fsm.TrackProcess: ","}[t.Kind]
		text := fmt.Sprintf("%s%s weight %d", t.Name, comma, t.Weight)
		if t.Reverse {
			text += " reverse"
		}
		addTo(f, element, "track_"+string(t.Kind), text)
		fromDefinition(f, t)
	}
}

func fromDefinition(f Facts, t fsm.Tracker) {
	switch t.Kind {
	case fsm.TrackScript:
		put := func(field, value string) { f[Fact{"vrrp_script " + t.Name, field}] = value }
		put("script", command(t.Command))
		put("interval", number(t.Interval))
		put("timeout", number(t.Timeout))
		put("rise", fmt.Sprint(t.Rise))
		put("fall", fmt.Sprint(t.Fall))
		put("user", ids(t.User))
	case fsm.TrackFile:
		f[Fact{"track_file " + t.Name, "file"}] = t.Path
	case fsm.TrackProcess:
		put := func(field, value string) { f[Fact{"vrrp_track_process " + t.Name, field}] = value }
		put("process", t.Process)
		put("quorum", fmt.Sprint(t.Quorum))
		put("full_command", strconv.FormatBool(t.FullCommand))
		put("terminate_delay", decimal(t.TerminDelay)+"s")
		put("fork_delay", decimal(t.StartupDelay)+"s")
		if t.QuorumMax > 0 {
			put("quorum_max", fmt.Sprint(t.QuorumMax))
		}
	}
}

// number writes seconds without the zeros that say nothing.
func number(d fsm.Duration) string { return strconv.FormatFloat(d.D().Seconds(), 'g', -1, 64) }

// command splits a command into words, each in quotes.
func command(s string) string {
	words, err := script.Words(s)
	if err != nil {
		return s
	}
	return "'" + strings.Join(words, "' '") + "'"
}

// ids are a user's and a group's numbers on the host that keepalived runs on,
// which has no user keepalived_script.
func ids(user string) string {
	switch name, _, _ := strings.Cut(user, ":"); name {
	case "", "root":
		return "0:0"
	case "nobody":
		return "65534:65534"
	}
	return user
}

func fromNotify(f Facts, element string, n fsm.Notify) {
	for _, s := range []struct {
		field string
		*fsm.Script
	}{{"notify_master", n.Master}, {"notify_backup", n.Backup}, {"notify_fault", n.Fault}, {"notify_stop", n.Stop}, {"notify", n.Any}} {
		if s.Script != nil {
			f[Fact{element, s.field}] = command(s.Command) + ", uid:gid " + ids(s.User)
		}
	}
}

func fromService(f Facts, v fsm.VirtualServer) {
	element := fmt.Sprintf("virtual_server %s %s %d", v.Protocol, v.Addr, v.Port)
	if v.Mark != 0 {
		element = fmt.Sprintf("virtual_server fwmark %d", v.Mark)
	}
	for field, on := range map[string]bool{"ops": v.OnePacket, v.Scheduler + "-port": v.HashPort, v.Scheduler + "-fallback": v.HashFallback} {
		if on {
			f[Fact{element, field}] = "enabled"
		}
	}
	if v.PersistenceEngine != "" {
		f[Fact{element, "persistence_engine"}] = v.PersistenceEngine
	}
	f[Fact{element, "lb_algo"}] = v.Scheduler
	if v.Persistence > 0 {
		f[Fact{element, "persistence_timeout"}] = number(v.Persistence)
		if int(v.PersistenceMask) != v.BitLen() && v.PersistenceMask != 0 {
			f[Fact{element, "persistence_granularity"}] = mask(v.Addr, v.PersistenceMask)
		}
	}
	if v.Quorum > 1 {
		f[Fact{element, "quorum"}] = fmt.Sprintf("%d, hysteresis = %d", v.Quorum, v.Hysteresis)
	}
	if s := v.Sorry; s != nil {
		f[Fact{element, "sorry_server"}] = fmt.Sprintf("[%s]:%s:%d", s.Addr, v.Protocol, s.Port)
	}
	fromUpDown(f, element, "quorum", v.Notify)
	for _, r := range v.RealServers {
		fromServer(f, element, v.Method, r)
	}
}

func fromUpDown(f Facts, element, word string, u fsm.UpDown) {
	for field, s := range map[string]*fsm.Script{word + "_up": u.Up, word + "_down": u.Down} {
		if s != nil {
			f[Fact{element, field}] = command(s.Command) + ", uid:gid " + ids(s.User)
		}
	}
}

// mask writes a netmask: dotted for IPv4, a length for IPv6.
func mask(family netip.Addr, bits uint8) string {
	if family.Is6() {
		return fmt.Sprint(bits)
	}
	m := ^uint32(0) << (32 - bits)
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()
}

func fromServer(f Facts, service string, method fsm.Method, r fsm.RealServer) {
	element := fmt.Sprintf("%s > real_server %s %d", service, r.Addr, r.Port)
	fromUpDown(f, element, "notify", r.Notify)
	f[Fact{element, "weight"}] = fmt.Sprint(r.Weight)
	f[Fact{element, "lb_kind"}] = methodText(cmp.Or(r.Method, method))
	f[Fact{element, "connections"}] = fmt.Sprintf("%d -> %d", r.LowerThreshold, r.UpperThreshold)
	f[Fact{element, "inhibit_on_failure"}] = map[bool]string{true: "ON", false: "OFF"}[r.Inhibit]
	for i, c := range r.Checks {
		fromCheck(f, fmt.Sprintf("%s > check %d", element, i+1), c)
	}
}

// methodText is keepalived's word; its tunnels are of the type IPIP unless the
// file says otherwise.
func methodText(m fsm.Method) string {
	switch m {
	case fsm.Masquerade:
		return "NAT"
	case fsm.Tunnel:
		return "TUN, type = IPIP"
	}
	return strings.ToUpper(string(m))
}

// bracketed writes an address as keepalived does, whatever its family.
func bracketed(a netip.AddrPort) string { return fmt.Sprintf("[%s]:%d", a.Addr(), a.Port()) }
