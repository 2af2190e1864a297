package conf

import (
	"net/netip"
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

// serviceDraft is a virtual_server with what was not said left nil.
type serviceDraft struct {
	fsm.VirtualServer
	timers
	at      *node
	said    map[string]*node
	weight  *int
	inhibit bool
	servers []*serverDraft
}

// serverDraft is a real_server.
type serverDraft struct {
	fsm.RealServer
	timers
	at      *node
	said    map[string]*node
	weight  *int
	inhibit *bool
	checks  []*checkDraft
}

// checkDraft is a TCP_CHECK.
type checkDraft struct {
	timers
	at       *node
	ip, bind netip.Addr
	port     uint16
}

var serviceRules = with(timerRules(func(b *builder) *timers { return &b.service.timers }), map[string]rule{
	"lb_algo":                 {min: 1, max: 1, do: (*builder).readScheduler},
	"lvs_sched":               {min: 1, max: 1, do: (*builder).readScheduler},
	"lb_kind":                 {min: 1, max: 1, do: (*builder).readMethod},
	"lvs_method":              {min: 1, max: 1, do: (*builder).readMethod},
	"protocol":                {min: 1, max: 1, do: (*builder).readProtocol},
	"persistence_timeout":     {max: 1, do: (*builder).readPersistence},
	"persistence_granularity": {min: 1, max: 1, do: (*builder).readGranularity},
	"inhibit_on_failure":      {max: 1, do: func(b *builder, n *node) { b.readBool(n, &b.service.inhibit) }},
	"weight":                  {min: 1, max: 1, do: func(b *builder, n *node) { b.readWeight(n, &b.service.weight) }},
})

func init() {
	serverRules["TCP_CHECK"] = rule{block: true, repeat: true, do: (*builder).readTCP}
	serviceRules["real_server"] = rule{min: 1, max: 2, block: true, repeat: true, do: (*builder).readServer}
}

var serverRules = with(timerRules(func(b *builder) *timers { return &b.server.timers }), map[string]rule{
	"weight":             {min: 1, max: 1, do: func(b *builder, n *node) { b.readWeight(n, &b.server.weight); b.server.said[n.word] = n }},
	"lb_kind":            {min: 1, max: 1, do: (*builder).readServerMethod},
	"lvs_method":         {min: 1, max: 1, do: (*builder).readServerMethod},
	"uthreshold":         {min: 1, max: 1, do: func(b *builder, n *node) { b.readThreshold(n, &b.server.UpperThreshold) }},
	"lthreshold":         {min: 1, max: 1, do: func(b *builder, n *node) { b.readThreshold(n, &b.server.LowerThreshold) }},
	"inhibit_on_failure": {max: 1, do: func(b *builder, n *node) { b.server.inhibit = new(bool); b.readBool(n, b.server.inhibit) }},
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
	switch n.args[0] {
	case "fwmark", "group":
		b.problem(n.pos, n.word, "%s is not supported yet: name an address and a port", n.args[0])
		return
	}
	addr, err := address(n.args[0])
	if err != nil {
		b.wrong(n, err)
		return
	}
	if len(n.args) < 2 || n.args[1] == "0" {
		b.problem(n.pos, n.word, "a virtual server of all ports is not supported yet: name a port")
		return
	}
	port, err := number(n.args[1], 1, 65535)
	if err != nil {
		b.wrong(n, err)
		return
	}
	b.service = &serviceDraft{at: n, said: map[string]*node{}}
	b.service.Addr, b.service.Port = addr, uint16(port)
	b.services = append(b.services, b.service)
	b.each(n.kids, n.word, serviceRules)
}

func (b *builder) readScheduler(n *node) {
	b.service.Scheduler = n.args[0]
	b.service.said["scheduler"] = n // package fsm knows which there are
}

func (b *builder) readMethod(n *node) {
	b.service.said["forwarding"] = n
	if b.method(n) {
		b.service.Method = fsm.DirectRouting
	}
}

// method accepts DR, the one forwarding method so far.
func (b *builder) method(n *node) bool {
	switch s := n.args[0]; s {
	case "DR":
		return true
	case "NAT", "TUN":
		b.problem(n.pos, n.word, "%s is not supported yet; DR is", s)
	default:
		b.problem(n.pos, n.word, "%q is not a forwarding method: DR (NAT and TUN are not supported yet)", s)
	}
	return false
}

func (b *builder) readServerMethod(n *node) { b.method(n) }

// readProtocol, unlike most keywords but like keepalived, does not mind case.
func (b *builder) readProtocol(n *node) {
	b.service.said["protocol"] = n
	switch strings.ToUpper(n.args[0]) {
	case "TCP":
		b.service.Protocol = fsm.TCP
	case "UDP":
		b.service.Protocol = fsm.UDP
	case "SCTP":
		b.problem(n.pos, n.word, "SCTP is not supported yet; TCP and UDP are")
	default:
		b.problem(n.pos, n.word, "%q is not a protocol: TCP or UDP", n.args[0])
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
	length, err := granularityOf(n.args[0], b.service.Addr)
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
	addr, err := address(n.args[0])
	if err != nil {
		b.wrong(n, err)
		return
	}
	port := uint64(b.service.Port)
	if len(n.args) == 2 {
		if port, err = number(n.args[1], 0, 65535); err != nil {
			b.wrong(n, err)
			return
		}
	}
	if port != uint64(b.service.Port) {
		b.notice(n.pos, n.word, "direct routing cannot change the port: %d is taken as the virtual server's %d, as in keepalived", port, b.service.Port)
	}
	b.server = &serverDraft{at: n, said: map[string]*node{}}
	b.server.Addr, b.server.Port = addr, b.service.Port
	b.service.servers = append(b.service.servers, b.server)
	b.each(n.kids, n.word, serverRules)
}

// addService fills in keepalived's defaults, from the virtual server to the
// checker, and hands the service over.
func (b *builder) addService(d *serviceDraft) {
	if d.said["scheduler"] == nil {
		d.Scheduler = "wlc"
		b.notice(d.at.pos, d.at.word, "no lb_algo: wlc, as in keepalived")
	}
	if d.said["forwarding"] == nil {
		b.problem(d.at.pos, d.at.word, "no lb_kind: keepalived takes NAT, which is not supported yet (say lb_kind DR if that is meant)")
	}
	if d.said["protocol"] == nil {
		d.Protocol = fsm.UDP
		b.notice(d.at.pos, d.at.word, "no protocol: UDP, as in keepalived; most services want \"protocol TCP\"")
	}
	if d.Persistence > 0 && d.PersistenceMask == 0 {
		d.PersistenceMask = 32
	}
	if n := d.said["mask"]; n != nil && d.Persistence == 0 && d.said["persistence"] == nil {
		b.problem(n.pos, n.word, "has no meaning without persistence_timeout")
	}
	path := servicePath(d.ServiceKey)
	b.places.element(path, place{d.at.pos, d.at.word})
	for word, n := range d.said {
		b.places.value(path, word, place{n.pos, n.word})
	}
	for _, s := range d.servers {
		d.RealServers = append(d.RealServers, b.addServer(d, s))
	}
	b.cfg.Services = append(b.cfg.Services, d.VirtualServer)
}

func (b *builder) addServer(d *serviceDraft, s *serverDraft) fsm.RealServer {
	path := serverPath(d.ServiceKey, s.AddrPort())
	b.places.element(path, place{s.at.pos, s.at.word})
	for word, n := range s.said {
		b.places.value(path, word, place{n.pos, n.word})
	}
	s.Weight = *first(s.weight, d.weight, ptr(1))
	s.Inhibit = *first(s.inhibit, &d.inhibit)
	if len(s.checks) == 0 {
		b.notice(s.at.pos, s.at.word, "no check: always taken as up")
	}
	for i, c := range s.checks {
		b.places.element(checkPath(path, i), place{c.at.pos, c.at.word})
		s.Checks = append(s.Checks, b.addCheck(d, s, c))
	}
	return s.RealServer
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
