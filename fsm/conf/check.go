package conf

import (
	"net/netip"
	"strings"
	"time"

	"lbcluster/fsm"
)

// keepalived's defaults for checkers.
const (
	defaultDelayLoop      = 60 * time.Second
	defaultConnectTimeout = 5 * time.Second
	defaultRetry          = 1
	defaultBeforeRetry    = time.Second
	defaultHTTPRetryDelay = 3 * time.Second
	defaultDNSRetry       = 3
	defaultHelo           = "smtpchecker.keepalived.org"
)

// checkWords are keepalived's words for the kinds.
var checkWords = map[fsm.CheckKind]string{
	fsm.CheckTCP: "TCP_CHECK", fsm.CheckHTTP: "HTTP_GET", fsm.CheckHTTPS: "SSL_GET", fsm.CheckSMTP: "SMTP_CHECK",
	fsm.CheckDNS: "DNS_CHECK", fsm.CheckUDP: "UDP_CHECK", fsm.CheckPing: "PING_CHECK", fsm.CheckMisc: "MISC_CHECK", fsm.CheckFile: "FILE_CHECK",
}

// checkDraft is a checker with what was not said left nil or zero.
type checkDraft struct {
	fsm.Check // but for its timers and Dest
	timers
	at          *node
	ip          netip.Addr
	port        uint16
	virtualHost string       // of an HTTP check, for URLs that name none
	url         *fsm.HTTPURL // that is being read
	regexFlags  string
	miscTimeout *fsm.Duration
	file        *node        // the line that names its track_file
	fileWeight  *fsm.Tracker // its own weight; nil: that of the track_file
	alpha       *bool
}

var alphaRule = rule{max: 1, do: func(b *builder, n *node) { b.check.alpha = new(bool); b.readBool(n, b.check.alpha) }}

// checkRules are those of all checkers that connect to something.
var checkRules = with(timerRules(func(b *builder) *timers { return &b.check.timers }), map[string]rule{
	"connect_ip":   {min: 1, max: 1, do: func(b *builder, n *node) { b.readAddr(n, &b.check.ip) }},
	"connect_port": {min: 1, max: 1, do: func(b *builder, n *node) { b.readPort(n, &b.check.port) }},
	"bindto":       {min: 1, max: 1, do: func(b *builder, n *node) { b.readAddr(n, &b.check.Bind) }},
	"bind_port":    {min: 1, max: 1, do: func(b *builder, n *node) { b.readPort(n, &b.check.BindPort) }},
	"alpha":        alphaRule,
	"bind_if":      {min: 1, max: 1, do: func(b *builder, n *node) { b.check.BindIf = n.args[0] }},
	"fwmark":       {min: 1, max: 1, do: (*builder).readCheckMark},
	"lbcluster_dsr": {min: 2, max: 2, do: func(b *builder, n *node) {
		b.check.DSR = true
		b.readAddr(n, &b.check.ip)
		b.readPort(&node{word: n.word, args: n.args[1:], pos: n.pos}, &b.check.port)
	}},
})

// kindRules are the words of each kind.
var kindRules = map[fsm.CheckKind]map[string]rule{
	fsm.CheckTCP:  checkRules,
	fsm.CheckPing: checkRules,
	fsm.CheckSMTP: with(map[string]rule{
		"helo_name": {min: 1, max: 1, do: func(b *builder, n *node) { b.check.Helo = n.args[0] }},
	}, checkRules),
	fsm.CheckDNS: with(map[string]rule{
		"type": {min: 1, max: 1, do: func(b *builder, n *node) { b.check.DNS.Type = strings.ToUpper(n.args[0]) }},
		"name": {min: 1, max: 1, do: func(b *builder, n *node) { b.check.DNS.Name = n.args[0] }},
	}, checkRules),
	fsm.CheckUDP: with(map[string]rule{
		"payload":          {min: 1, max: -1, do: func(b *builder, n *node) { b.check.UDP.Payload = b.hex(n, false) }},
		"require_reply":    {max: -1, do: func(b *builder, n *node) { b.check.UDP.Reply, b.check.UDP.Expect = true, b.hex(n, true) }},
		"min_reply_length": {min: 1, max: 1, do: func(b *builder, n *node) { b.readLength(n, &b.check.UDP.MinLength) }},
		"max_reply_length": {min: 1, max: 1, do: func(b *builder, n *node) { b.readLength(n, &b.check.UDP.MaxLength) }},
	}, checkRules),
	fsm.CheckMisc: with(map[string]rule{
		"misc_path":    {min: 1, max: 1, do: func(b *builder, n *node) { b.check.Script.Command = n.args[0] }},
		"misc_timeout": {min: 1, max: 1, do: (*builder).readMiscTimeout},
		"misc_dynamic": {do: func(b *builder, _ *node) { b.check.Script.Dynamic = true }},
		"alpha":        alphaRule,
		"user":         {min: 1, max: 2, do: func(b *builder, n *node) { b.check.Script.User = strings.Join(n.args, ":") }},
	}, timerRules(func(b *builder) *timers { return &b.check.timers })),
}

func init() {
	web := with(webRules(), checkRules)
	kindRules[fsm.CheckHTTP], kindRules[fsm.CheckHTTPS] = web, web
	for kind, word := range checkWords {
		serverRules[word] = rule{block: true, repeat: true, do: func(b *builder, n *node) { b.readCheck(n, kind) }}
	}
}

func (b *builder) readCheck(n *node, kind fsm.CheckKind) {
	b.check = &checkDraft{at: n, Check: fsm.Check{Kind: kind}}
	switch kind {
	case fsm.CheckHTTP, fsm.CheckHTTPS:
		b.check.HTTP = &fsm.HTTPCheck{Protocol: fsm.HTTPProtocol10}
	case fsm.CheckSMTP:
		b.check.Helo = defaultHelo
	case fsm.CheckDNS:
		b.check.DNS = &fsm.DNSCheck{Type: "SOA", Name: "."}
	case fsm.CheckUDP:
		b.check.UDP = &fsm.UDPCheck{MaxLength: 255}
	case fsm.CheckMisc:
		b.check.Script = &fsm.ScriptCheck{}
	case fsm.CheckFile:
		b.check.File = &fsm.FileCheck{}
	}
	b.server.checks = append(b.server.checks, b.check)
	b.each(n.kids, n.word, kindRules[kind])
	if u := b.check.UDP; u != nil && !u.Reply {
		u.MinLength, u.MaxLength = 0, 0 // they mean nothing
	}
}

func (b *builder) readAddr(n *node, to *netip.Addr) {
	a, err := address(n.args[0])
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = a
}

func (b *builder) readPort(n *node, to *uint16) {
	v, err := number(n.args[0], 1, 65535)
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = uint16(v)
}

func (b *builder) readCheckMark(n *node) {
	v, err := number(n.args[0], 0, 1<<32-1)
	if err != nil {
		b.wrong(n, err)
		return
	}
	b.check.Mark = uint32(v)
}

func (b *builder) readLength(n *node, to *int) {
	v, err := number(n.args[0], 0, 65535)
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = int(v)
}

func (b *builder) readMiscTimeout(n *node) {
	v, err := number(n.args[0], 0, 86400)
	if err != nil {
		b.wrong(n, err)
		return
	}
	if v > 0 {
		b.check.miscTimeout = ptr(fsm.Duration(time.Duration(v) * time.Second))
	}
}

// hex reads octets as keepalived's read_hex_str does: with blanks anywhere between
// them, an octet of one digit before a blank, and x for half octets that do not
// matter, where masked.
func (b *builder) hex(n *node, masked bool) string {
	var out strings.Builder
	for _, word := range strings.Fields(strings.Join(n.args, " ")) {
		if len(word)%2 == 1 {
			word = word[:len(word)-1] + "0" + word[len(word)-1:]
		}
		out.WriteString(strings.ToLower(word))
	}
	digits := "0123456789abcdef"
	if masked {
		digits += "x"
	}
	if strings.Trim(out.String(), digits) != "" {
		b.doubt(n.pos, n.word, sprint("%q is not hex", strings.Join(n.args, " ")), "it is ignored")
		return ""
	}
	return out.String()
}

// addCheck resolves a checker's timers: its own, the real server's, the
// virtual server's, keepalived's default for this kind of checker. dest is the
// server as the file has it.
func (b *builder) addCheck(d *serviceDraft, s *serverDraft, draft *checkDraft, dest netip.AddrPort) fsm.Check {
	c := draft.Check
	if c.Dest = dest; !c.Ported() {
		c.Dest = netip.AddrPortFrom(s.Addr, 0)
	}
	if draft.ip.IsValid() {
		c.Dest = netip.AddrPortFrom(draft.ip, c.Dest.Port())
	}
	if draft.port != 0 && c.Ported() {
		c.Dest = netip.AddrPortFrom(c.Dest.Addr(), draft.port)
	}
	loop := first(draft.delayLoop, s.delayLoop, d.delayLoop)
	if loop == nil {
		loop = ptr(fsm.Duration(defaultDelayLoop))
		b.notice(d.at.pos, d.at.word, "no delay_loop: checked every 60 seconds, as in keepalived")
	}
	retry, before := defaultRetry, fsm.Duration(defaultBeforeRetry)
	switch c.Kind {
	case fsm.CheckHTTP, fsm.CheckHTTPS:
		before = fsm.Duration(defaultHTTPRetryDelay)
	case fsm.CheckDNS:
		retry, before = defaultDNSRetry, *loop
	case fsm.CheckMisc:
		retry = 0
	}
	c.DelayLoop = *loop
	c.ConnectTimeout = *first(draft.connect, s.connect, d.connect, ptr(fsm.Duration(defaultConnectTimeout)))
	c.Retry = *first(draft.retry, s.retry, d.retry, &retry)
	c.DelayBeforeRetry = *first(draft.beforeRetry, s.beforeRetry, d.beforeRetry, &before)
	c.Warmup = *first(draft.warmup, s.warmup, d.warmup, loop)
	c.Alpha = *first(draft.alpha, s.alpha, &d.alpha)
	b.finishCheck(d, s, draft, &c)
	return c
}

// finishCheck gives a check what only its surroundings know. What it points to may
// stand under several services, so it is copied.
func (b *builder) finishCheck(d *serviceDraft, s *serverDraft, draft *checkDraft, c *fsm.Check) {
	if c.HTTP != nil {
		h := *c.HTTP
		h.URLs = append([]fsm.HTTPURL(nil), h.URLs...)
		for i := range h.URLs {
			if u := &h.URLs[i]; u.VirtualHost == "" {
				u.VirtualHost = or(draft.virtualHost, s.virtualHost, d.virtualHost)
			}
		}
		c.HTTP = &h
	}
	if c.File != nil {
		b.finishFile(draft, c)
	}
	if c.Script == nil {
		return
	}
	script := *c.Script
	if script.User == "" {
		script.User = b.scriptUser
	}
	script.Timeout = *first(draft.miscTimeout, d.delayLoop, &c.DelayLoop)
	c.Script = &script
}

func or(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}
