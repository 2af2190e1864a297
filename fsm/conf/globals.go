package conf

import (
	"net"
	"strings"
	"time"

	"lbcluster/fsm"
)

var globalRules = map[string]rule{
	"notification_email":       {block: true, repeat: true, do: (*builder).readEmail},
	"notification_email_from":  {min: 1, max: 1, do: func(b *builder, n *node) { b.cfg.Globals.EmailFrom = n.args[0]; b.aboutMail(n) }},
	"smtp_server":              {min: 1, max: 2, do: (*builder).readSMTPServer},
	"smtp_connect_timeout":     {min: 1, max: 1, do: (*builder).readSMTPTimeout},
	"router_id":                {min: 1, max: 1, do: func(b *builder, n *node) { b.cfg.Globals.RouterID = n.args[0] }},
	"vrrp_skip_check_adv_addr": {max: 1, do: (*builder).readSkipCheck},
	"vrrp_garp_interval":       {min: 1, max: 1, do: func(b *builder, n *node) { b.pause(n, &b.cfg.Globals.GARPInterval) }},
	"vrrp_gna_interval":        {min: 1, max: 1, do: func(b *builder, n *node) { b.pause(n, &b.cfg.Globals.GNAInterval) }},
	"vrrp_version":             {min: 1, max: 1, do: func(b *builder, n *node) { b.readVersion(n, &b.version) }},
	"default_interface":        {min: 1, max: 1, do: func(b *builder, n *node) { b.defaultInterface = n.args[0] }},
	"script_user":              {min: 1, max: 2, do: func(b *builder, n *node) { b.scriptUser = strings.Join(n.args, ":") }},
	"enable_script_security": {do: func(b *builder, n *node) {
		b.notice(n.pos, n.word, "not kept: scripts run as the user that the file names, as keepalived_script if there is one, or as root")
	}},
}

func (b *builder) readGlobals(n *node) {
	b.places.element("global_defs", place{n.pos, n.word})
	for _, k := range n.kids {
		b.places.value("global_defs", k.word, place{k.pos, k.word})
	}
	b.each(n.kids, n.word, globalRules)
}

func (b *builder) aboutMail(n *node) {
	if b.mail == nil {
		b.mail = n
	}
}

func (b *builder) readEmail(n *node) {
	b.aboutMail(n)
	for _, k := range n.kids {
		if k.block {
			b.problem(k.pos, k.word, "a mail address takes no block")
			continue
		}
		b.cfg.Globals.NotificationEmail = append(b.cfg.Globals.NotificationEmail, k.word)
		b.cfg.Globals.NotificationEmail = append(b.cfg.Globals.NotificationEmail, k.args...)
	}
}

func (b *builder) readSMTPServer(n *node) {
	b.aboutMail(n)
	b.cfg.Globals.SMTPServer = n.args[0]
	if len(n.args) == 1 {
		return
	}
	if _, err := number(n.args[1], 1, 65535); err != nil {
		b.wrong(n, err)
		return
	}
	b.cfg.Globals.SMTPServer = net.JoinHostPort(n.args[0], n.args[1])
}

func (b *builder) readSMTPTimeout(n *node) {
	b.aboutMail(n)
	b.readTimer(n, n.args[0], time.Millisecond, &b.cfg.Globals.SMTPTimeout)
}

func (b *builder) readSkipCheck(n *node) {
	b.readBool(n, &b.cfg.Globals.SkipCheckAdvAddr)
}

// pause reads vrrp_garp_interval and vrrp_gna_interval. Distributions ship
// them as 0, which some versions of keepalived itself refuse: no pause.
func (b *builder) pause(n *node, to *fsm.Duration) {
	b.readTimer(n, n.args[0], 0, to)
}

// readVersion reads vrrp_version and an instance's version.
func (b *builder) readVersion(n *node, to *uint8) {
	switch n.args[0] {
	case "2":
		*to = 2
	case "3":
		*to = 3
	default:
		b.doubt(n.pos, n.word, sprint("%q is not a VRRP version: 2 or 3", n.args[0]), "it is ignored")
	}
}

// readTimer reads a timer of at least low into to, and says whether it could.
func (b *builder) readTimer(n *node, s string, low time.Duration, to *fsm.Duration) bool {
	d, err := timer(s)
	if err != nil {
		b.wrong(n, err)
		return false
	}
	if d < low {
		b.doubt(n.pos, n.word, sprint("must be at least %v", low), "it is ignored")
		return false
	}
	*to = fsm.Duration(d)
	return true
}

// readBool reads an optional BOOL: the bare keyword means on.
func (b *builder) readBool(n *node, to *bool) {
	*to = true
	if len(n.args) == 0 {
		return
	}
	v, err := boolean(n.args[0])
	if err != nil {
		b.wrong(n, err)
	}
	*to = v
}
