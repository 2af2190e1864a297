package conf

import (
	"net/netip"
	"time"

	"lbcluster/fsm"
)

// keepalived's defaults for TCP_CHECK.
const (
	defaultDelayLoop      = 60 * time.Second
	defaultConnectTimeout = 5 * time.Second
	defaultRetry          = 1
	defaultBeforeRetry    = time.Second
)

var tcpRules = with(timerRules(func(b *builder) *timers { return &b.check.timers }), map[string]rule{
	"connect_ip":   {min: 1, max: 1, do: func(b *builder, n *node) { b.readAddr(n, &b.check.ip) }},
	"connect_port": {min: 1, max: 1, do: (*builder).readConnectPort},
	"bindto":       {min: 1, max: 1, do: func(b *builder, n *node) { b.readAddr(n, &b.check.bind) }},
})

func (b *builder) readTCP(n *node) {
	b.check = &checkDraft{at: n}
	b.server.checks = append(b.server.checks, b.check)
	b.each(n.kids, n.word, tcpRules)
}

func (b *builder) readAddr(n *node, to *netip.Addr) {
	a, err := address(n.args[0])
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = a
}

func (b *builder) readConnectPort(n *node) {
	v, err := number(n.args[0], 1, 65535)
	if err != nil {
		b.wrong(n, err)
		return
	}
	b.check.port = uint16(v)
}

// addCheck resolves a checker's timers: its own, the real server's, the
// virtual server's, keepalived's default for this kind of checker. dest is the
// server as the file has it.
func (b *builder) addCheck(d *serviceDraft, s *serverDraft, c *checkDraft, dest netip.AddrPort) fsm.Check {
	if c.ip.IsValid() {
		dest = netip.AddrPortFrom(c.ip, dest.Port())
	}
	if c.port != 0 {
		dest = netip.AddrPortFrom(dest.Addr(), c.port)
	}
	loop := first(c.delayLoop, s.delayLoop, d.delayLoop)
	if loop == nil {
		loop = ptr(fsm.Duration(defaultDelayLoop))
		b.notice(d.at.pos, d.at.word, "no delay_loop: checked every 60 seconds, as in keepalived")
	}
	return fsm.Check{
		Kind: fsm.CheckTCP, Dest: dest, Bind: c.bind,
		ConnectTimeout:   *first(c.connect, s.connect, d.connect, ptr(fsm.Duration(defaultConnectTimeout))),
		Retry:            *first(c.retry, s.retry, d.retry, ptr(defaultRetry)),
		DelayBeforeRetry: *first(c.beforeRetry, s.beforeRetry, d.beforeRetry, ptr(fsm.Duration(defaultBeforeRetry))),
		DelayLoop:        *loop,
		Warmup:           *first(c.warmup, s.warmup, d.warmup, loop),
	}
}
