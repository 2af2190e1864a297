package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// timers are what a virtual server, a real server and a checker can each say;
// nil: not said at this level.
type timers struct {
	delayLoop, connect, beforeRetry, warmup *fsm.Duration
	retry                                   *int
}

// serviceDraft is a virtual_server with what was not said left nil. Its key is
// empty if it is for a group, and without a family if it is for a mark.
type serviceDraft struct {
	fsm.VirtualServer
	timers
	at          *node
	said        map[string]*node
	weight      *int
	inhibit     bool
	family      *bool  // ip_family, true: inet6
	virtualHost string // for HTTP checks
	alpha       bool
	flags       map[string]bool // "sh-port", "flag-1", ...
	servers     []*serverDraft
}

// serverDraft is a real_server.
type serverDraft struct {
	fsm.RealServer // Port as the file has it; 0: it does not
	timers
	at          *node
	said        map[string]*node
	backup      *int // the weight that it has as a backup
	weight      *int
	inhibit     *bool
	checks      []*checkDraft
	virtualHost string
	alpha       *bool
}

var serviceRules = with(timerRules(func(b *builder) *timers { return &b.service.timers }), map[string]rule{
	"lb_algo":                 {min: 1, max: 1, do: (*builder).readScheduler},
	"lvs_sched":               {min: 1, max: 1, do: (*builder).readScheduler},
	"lb_kind":                 {min: 1, max: 1, do: (*builder).readMethod},
	"lvs_method":              {min: 1, max: 1, do: (*builder).readMethod},
	"protocol":                {min: 1, max: 1, do: (*builder).readProtocol},
	"persistence_timeout":     {max: 1, do: (*builder).readPersistence},
	"persistence_granularity": {min: 1, max: 1, do: (*builder).readGranularity},
	"persistence_engine": {min: 1, max: 1, do: func(b *builder, n *node) {
		b.service.PersistenceEngine = n.args[0]
		b.service.said["persistence engine"] = n
	}},
	"ip_family":          {min: 1, max: 1, do: (*builder).readFamily},
	"ops":                {do: func(b *builder, n *node) { b.service.OnePacket = true; b.service.said["one-packet"] = n }},
	"inhibit_on_failure": {max: 1, do: func(b *builder, n *node) { b.readBool(n, &b.service.inhibit) }},
	"weight":             {min: 1, max: 1, do: func(b *builder, n *node) { b.readWeight(n, &b.service.weight) }},
	"virtualhost":        {min: 1, max: 1, do: func(b *builder, n *node) { b.service.virtualHost = n.args[0] }},
	"quorum":             {min: 1, max: 1, do: func(b *builder, n *node) { b.readPoolWeight(n, 1, &b.service.Quorum) }},
	"hysteresis":         {min: 1, max: 1, do: func(b *builder, n *node) { b.readPoolWeight(n, 0, &b.service.Hysteresis) }},
	"alpha":              {do: func(b *builder, _ *node) { b.service.alpha = true }},
	"sorry_server":       {min: 1, max: 2, do: (*builder).readSorry},
	"sorry_server_inhibit": {do: func(b *builder, n *node) {
		if b.hasSorry(n) {
			b.service.Sorry.Inhibit = true
		}
	}},
	"sorry_server_lvs_method": {min: 1, max: 1, do: func(b *builder, n *node) {
		if b.hasSorry(n) {
			b.method(n, &b.service.Sorry.Method)
		}
	}},
})

func init() {
	for _, word := range hashFlags {
		serviceRules[word] = rule{do: (*builder).readHashFlag}
	}
	serviceRules["flag-3"] = rule{do: func(b *builder, n *node) {
		b.doubt(n.pos, n.word, "no scheduler of the kernel knows it", "it is ignored")
	}}
	serviceRules["real_server"] = rule{min: 1, max: 2, block: true, repeat: true, do: (*builder).readServer}
}

var serverRules = with(timerRules(func(b *builder) *timers { return &b.server.timers }), map[string]rule{
	"weight":             {min: 1, max: 1, do: func(b *builder, n *node) { b.readWeight(n, &b.server.weight); b.server.said[n.word] = n }},
	"lbcluster_backup":   {min: 1, max: 1, do: func(b *builder, n *node) { b.readWeight(n, &b.server.backup) }},
	"lb_kind":            {min: 1, max: 1, do: (*builder).readServerMethod},
	"lvs_method":         {min: 1, max: 1, do: (*builder).readServerMethod},
	"uthreshold":         {min: 1, max: 1, do: func(b *builder, n *node) { b.readThreshold(n, &b.server.UpperThreshold) }},
	"lthreshold":         {min: 1, max: 1, do: func(b *builder, n *node) { b.readThreshold(n, &b.server.LowerThreshold) }},
	"inhibit_on_failure": {max: 1, do: func(b *builder, n *node) { b.server.inhibit = new(bool); b.readBool(n, b.server.inhibit) }},
	"virtualhost":        {min: 1, max: 1, do: func(b *builder, n *node) { b.server.virtualHost = n.args[0] }},
	"alpha":              {max: 1, do: func(b *builder, n *node) { b.server.alpha = new(bool); b.readBool(n, b.server.alpha) }},
})

// timerRules are the rules for the timers of whichever level get returns.
func timerRules(get func(*builder) *timers) map[string]rule {
	one := func(low time.Duration, to func(*timers) **fsm.Duration) rule {
		return rule{min: 1, max: 1, do: func(b *builder, n *node) {
			d := new(fsm.Duration)
			if b.readTimer(n, n.args[0], low, d) {
				*to(get(b)) = d
			}
		}}
	}
	return map[string]rule{
		"delay_loop":         one(time.Millisecond, func(t *timers) **fsm.Duration { return &t.delayLoop }),
		"connect_timeout":    one(time.Millisecond, func(t *timers) **fsm.Duration { return &t.connect }),
		"delay_before_retry": one(0, func(t *timers) **fsm.Duration { return &t.beforeRetry }),
		"warmup":             one(0, func(t *timers) **fsm.Duration { return &t.warmup }),
		"retry": {min: 1, max: 1, do: func(b *builder, n *node) {
			v, err := number(n.args[0], 0, 1000)
			if err != nil {
				b.wrong(n, err)
				return
			}
			r := int(v)
			get(b).retry = &r
		}},
	}
}

// with adds the rules of more to m.
func with(m, more map[string]rule) map[string]rule {
	for k, r := range more {
		m[k] = r
	}
	return m
}

func (b *builder) readService(n *node) {
	d := &serviceDraft{at: n, said: map[string]*node{}, flags: map[string]bool{}}
	if err := d.readKey(n.args); err != nil {
		b.wrong(n, err)
		return
	}
	b.service = d
	b.services = append(b.services, d)
	b.each(n.kids, n.word, serviceRules)
}

// readKey reads "IP [PORT]", "fwmark N" and "group NAME".
func (d *serviceDraft) readKey(args []string) error {
	switch {
	case args[0] == "group" && len(args) == 2:
		d.Group = args[1]
		return nil
	case args[0] == "fwmark" && len(args) == 2:
		mark, err := number(args[1], 1, 1<<32-1)
		d.Mark = uint32(mark)
		return err
	case args[0] == "group", args[0] == "fwmark":
		return fmt.Errorf("needs one value after %s", args[0])
	}
	addr, err := address(args[0])
	if err != nil {
		return err
	}
	port := uint64(0)
	if len(args) == 2 {
		if port, err = number(args[1], 0, 65535); err != nil {
			return err
		}
	}
	d.Addr, d.Port = addr, uint16(port)
	return nil
}

func (b *builder) readScheduler(n *node) {
	if s := n.args[0]; b.lenient && !slices.Contains(fsm.Schedulers, s) {
		b.doubt(n.pos, n.word, sprint("%q is not a scheduler", s), "it is ignored")
		return
	}
	b.service.Scheduler = n.args[0]
	b.service.said["scheduler"] = n // package fsm knows which there are
}

func (b *builder) readMethod(n *node) {
	if b.method(n, &b.service.Method) {
		b.service.said["forwarding"] = n
	}
}

func (b *builder) readServerMethod(n *node) {
	if b.method(n, &b.server.Method) {
		b.server.said["forwarding"] = n
	}
}

// method reads a forwarding method, and says whether it counts: a wrong one does
// too, unless the reading is lenient, so that it is no missing one.
func (b *builder) method(n *node, to *fsm.Method) bool {
	m, ok := map[string]fsm.Method{"DR": fsm.DirectRouting, "TUN": fsm.Tunnel, "NAT": fsm.Masquerade}[n.args[0]]
	if !ok && b.doubt(n.pos, n.word, sprint("%q is not a forwarding method: DR, TUN or NAT", n.args[0]), "it is ignored") {
		return false
	}
	*to = m
	return true
}

func (b *builder) readFamily(n *node) {
	v6, err := inet6(n.args[0])
	if err != nil {
		b.wrong(n, err)
		return
	}
	b.service.family = &v6
	b.service.said["v6"] = n
}

// hashFlags are the schedulers' flags; flag-1 and flag-2 are other words for them.
var hashFlags = []string{"sh-port", "sh-fallback", "mh-port", "mh-fallback", "flag-1", "flag-2"}

func (b *builder) readHashFlag(n *node) {
	b.service.flags[n.word] = true
	b.service.said["hash"] = n
}

// readProtocol, unlike most keywords but like keepalived, does not mind case.
func (b *builder) readProtocol(n *node) {
	b.service.said["protocol"] = n
	switch strings.ToUpper(n.args[0]) {
	case "TCP":
		b.service.Protocol = fsm.TCP
	case "UDP":
		b.service.Protocol = fsm.UDP
	case "SCTP":
		b.service.Protocol = fsm.SCTP
	default:
		if b.doubt(n.pos, n.word, sprint("%q is not a protocol: TCP, UDP or SCTP", n.args[0]), "it is ignored") && b.service.Protocol == "" {
			delete(b.service.said, "protocol")
		}
	}
}

// defaultPersistence is keepalived's for the bare keyword.
const defaultPersistence = 360 * time.Second

func (b *builder) readPersistence(n *node) {
	b.service.said["persistence"] = n
	if len(n.args) == 0 {
		b.service.Persistence = fsm.Duration(defaultPersistence)
		return
	}
	v, err := number(n.args[0], 1, 86400*31)
	if err != nil {
		b.wrong(n, err)
		return
	}
	b.service.Persistence = fsm.Duration(time.Duration(v) * time.Second)
}

func (b *builder) readGranularity(n *node) {
	b.service.said["mask"] = n
	length, err := granularityOf(n.args[0], b.service.VirtualServer)
	if err != nil {
		b.wrong(n, err)
		return
	}
	b.service.PersistenceMask = length
}

func (b *builder) readWeight(n *node, to **int) {
	v, err := number(n.args[0], 0, 65535)
	if err != nil {
		b.wrong(n, err)
		return
	}
	w := int(v)
	*to = &w
}

func (b *builder) readThreshold(n *node, to *uint32) {
	b.server.said[map[string]string{"uthreshold": "upper", "lthreshold": "lower"}[n.word]] = n
	v, err := number(n.args[0], 0, 1<<32-1)
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = uint32(v)
}

func (b *builder) readServer(n *node) {
	addr, port, ok := b.serverAddr(n)
	if !ok {
		return
	}
	b.server = &serverDraft{at: n, said: map[string]*node{}}
	b.server.Addr, b.server.Port = addr, port
	b.service.servers = append(b.service.servers, b.server)
	b.each(n.kids, n.word, serverRules)
}

// serverAddr reads "IP [PORT]"; false: something is wrong, which has been told.
func (b *builder) serverAddr(n *node) (addr netip.Addr, port uint16, ok bool) {
	addr, err := address(n.args[0])
	if err == nil && len(n.args) == 2 {
		var v uint64
		v, err = number(n.args[1], 0, 65535)
		port = uint16(v)
	}
	if err != nil {
		b.wrong(n, err)
	}
	return addr, port, err == nil
}

// addService fills in keepalived's defaults, from the virtual server to the
// checker, and hands the service over: one, or one for each entry of its group.
func (b *builder) addService(d *serviceDraft) {
	keys := b.keys(d)
	if keys == nil {
		return
	}
	if b.expanded += len(keys) * (1 + len(d.servers)); len(keys) > 1 && b.expanded > maxExpanded {
		b.problem(d.at.pos, d.at.word, "with its groups the file stands for more than %d servers", maxExpanded)
		return
	}
	b.defaults(d, keys)
	for i, key := range keys {
		b.addKey(*d, key, i == 0)
	}
}

// keys are the services that d stands for; nil: none, which has been told.
func (b *builder) keys(d *serviceDraft) []fsm.ServiceKey {
	entries := []groupEntry{{key: d.ServiceKey}}
	if d.Group != "" {
		g := b.serverGroups[d.Group]
		if g == nil {
			b.problem(d.at.pos, d.at.word, "there is no virtual_server_group %s", d.Group)
			return nil
		}
		g.used = true
		entries = g.entries
	}
	var keys []fsm.ServiceKey
	for _, e := range entries {
		k := e.key
		switch {
		case k.Mark == 0 && d.family != nil && k.Addr.Is6() != *d.family:
			b.doubt(d.said["v6"].pos, "ip_family", sprint("is not that of %s", k.Addr), "it is ignored")
			k.Protocol = d.Protocol
		case k.Mark == 0:
			k.Protocol = d.Protocol
		default:
			k.Protocol = ""
			if !e.family {
				k.V6 = d.is6()
			}
		}
		keys = append(keys, k)
	}
	return keys
}

// is6 is the family of a mark: as it is said, or that of the first real server,
// unless that is behind a tunnel, which may lead to the other family.
func (d *serviceDraft) is6() bool {
	if d.family != nil {
		return *d.family
	}
	for _, s := range d.servers {
		if d.MethodOf(s.RealServer) != fsm.Tunnel {
			return s.Addr.Is6()
		}
	}
	return len(d.servers) > 0 && d.servers[0].Addr.Is6()
}

// defaults fills in what keepalived does, and tells of it.
func (b *builder) defaults(d *serviceDraft, keys []fsm.ServiceKey) {
	if d.said["scheduler"] == nil {
		d.Scheduler = "wlc"
		b.notice(d.at.pos, d.at.word, "no lb_algo: wlc, as in keepalived")
	}
	if d.said["forwarding"] == nil {
		d.Method = fsm.Masquerade
		for _, s := range d.servers {
			if s.Method == "" {
				b.notice(d.at.pos, d.at.word, "no lb_kind: NAT, as in keepalived (say lb_kind DR if that is meant)")
				break
			}
		}
	}
	b.defaultProtocol(d, keys)
	if d.Persistence == 0 && d.said["persistence"] == nil && slices.ContainsFunc(keys, func(k fsm.ServiceKey) bool { return k.Mark == 0 && k.Port == 0 }) {
		d.Persistence = fsm.Duration(defaultPersistence)
		b.notice(d.at.pos, d.at.word, "all ports, which works only with persistence: persistence_timeout %d, as in keepalived", int(defaultPersistence.Seconds()))
	}
	for word, n := range map[string]*node{"persistence_granularity": d.said["mask"], "persistence_engine": d.said["persistence engine"]} {
		if n != nil && d.Persistence == 0 && d.said["persistence"] == nil {
			b.problem(n.pos, word, "has no meaning without persistence_timeout")
			d.PersistenceEngine = ""
		}
	}
	b.hashFlags(d)
	b.pool(d)
}

func (b *builder) defaultProtocol(d *serviceDraft, keys []fsm.ServiceKey) {
	addressed, marked := false, false
	for _, k := range keys {
		addressed, marked = addressed || k.Mark == 0, marked || k.Mark != 0
	}
	switch n := d.said["protocol"]; {
	case n != nil && !addressed:
		b.notice(n.pos, n.word, "a firewall mark has no protocol: ignored, as in keepalived")
	case n == nil && addressed:
		for i := range keys {
			if keys[i].Mark == 0 {
				keys[i].Protocol = fsm.UDP
			}
		}
		b.notice(d.at.pos, d.at.word, "no protocol: UDP, as in keepalived; most services want \"protocol TCP\"")
	}
	if marked {
		b.notice(d.at.pos, d.at.word, "lbcluster sets no rule for this firewall mark: have one on every director, or say in YAML which packets it matches")
	}
}

// hashFlags reads the schedulers' flags, now that the scheduler is known.
func (b *builder) hashFlags(d *serviceDraft) {
	for _, word := range hashFlags {
		if !d.flags[word] {
			continue
		}
		scheduler, what, _ := strings.Cut(word, "-")
		if scheduler != "flag" && scheduler != d.Scheduler {
			b.doubt(d.said["hash"].pos, word, sprint("is for the scheduler %s, not for %s", scheduler, d.Scheduler), "it is ignored")
			continue
		}
		d.HashPort = d.HashPort || what == "port" || what == "2"
		d.HashFallback = d.HashFallback || what == "fallback" || what == "1"
	}
}

// addKey hands over the service of one key. The first of a group speaks for all.
func (b *builder) addKey(d serviceDraft, key fsm.ServiceKey, first bool) {
	d.ServiceKey = key
	if d.Persistence > 0 && d.PersistenceMask == 0 {
		d.PersistenceMask = uint8(key.BitLen())
	}
	path := servicePath(d.ServiceKey)
	b.places.element(path, place{d.at.pos, d.at.word})
	for word, n := range d.said {
		b.places.value(path, word, place{n.pos, n.word})
	}
	d.RealServers = nil
	d.Sorry = d.sorry(key)
	for _, s := range d.servers {
		r := b.addServer(&d, *s, first)
		twice := b.lenient && slices.ContainsFunc(d.RealServers, func(o fsm.RealServer) bool { return o.AddrPort() == r.AddrPort() })
		switch {
		case !twice:
			d.RealServers = append(d.RealServers, r)
		case first:
			b.doubt(s.at.pos, s.at.word, sprint("%s is there twice", r.AddrPort()), "the second one is left out")
		}
	}
	b.cfg.Services = append(b.cfg.Services, d.VirtualServer)
}

func (b *builder) addServer(d *serviceDraft, s serverDraft, tell bool) fsm.RealServer {
	said := s.AddrPort()
	if s.Port == 0 {
		said = netip.AddrPortFrom(s.Addr, d.Port)
	}
	b.serverPort(d, &s, tell)
	path := serverPath(d.ServiceKey, s.AddrPort())
	b.places.element(path, place{s.at.pos, s.at.word})
	for word, n := range s.said {
		b.places.value(path, word, place{n.pos, n.word})
	}
	if s.Method == d.Method {
		s.Method = ""
	}
	s.Weight = *first(s.weight, d.weight, ptr(1))
	if s.backup != nil {
		s.Weight, s.Backup = *s.backup, true
	}
	s.Inhibit = *first(s.inhibit, &d.inhibit)
	if len(s.checks) == 0 && tell {
		b.notice(s.at.pos, s.at.word, "no check: always taken as up")
	}
	for i, c := range s.checks {
		b.places.element(checkPath(path, i), place{c.at.pos, c.at.word})
		s.Checks = append(s.Checks, b.addCheck(d, &s, c, said))
	}
	return s.RealServer
}

// serverPort gives the server the port that its method leaves it. Checks go to
// the one that the file says.
func (b *builder) serverPort(d *serviceDraft, s *serverDraft, tell bool) {
	said := s.Port
	switch {
	case d.MethodOf(s.RealServer) != fsm.Masquerade:
		s.Port = d.Port
	case said == 0:
		s.Port = d.Port
	}
	switch {
	case !tell || said == 0 || said == s.Port:
	case d.Mark != 0:
		b.notice(s.at.pos, s.at.word, "with a firewall mark only NAT changes the port: %d is for the checks alone, as in keepalived", said)
	default:
		b.notice(s.at.pos, s.at.word, "direct routing and tunnels cannot change the port: %d is taken as the virtual server's %d, as in keepalived", said, d.Port)
	}
}

func ptr[T any](v T) *T { return &v }

// first returns the first pointer that is not nil.
func first[T any](ps ...*T) *T {
	for _, p := range ps {
		if p != nil {
			return p
		}
	}
	return nil
}
