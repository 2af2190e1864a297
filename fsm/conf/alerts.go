package conf

import (
	"cmp"
	"slices"

	"lbcluster/fsm"
)

// alerts is what a file says of mail: each nil where it says nothing.
type alerts struct {
	all, vrrp, checker *bool            // global_defs
	routers            map[string]*bool // smtp_alert of what has it
	groups             map[string]*bool
	services           map[*serviceDraft]*bool
	servers            map[*serverDraft]*bool
}

func init() {
	flag := func(to func(*builder) **bool) rule {
		return rule{max: 1, do: func(b *builder, n *node) {
			v := true
			b.readBool(n, &v)
			*to(b) = &v
		}}
	}
	with(globalRules, map[string]rule{
		"smtp_alert":         flag(func(b *builder) **bool { return &b.alerts.all }),
		"smtp_alert_vrrp":    flag(func(b *builder) **bool { return &b.alerts.vrrp }),
		"smtp_alert_checker": flag(func(b *builder) **bool { return &b.alerts.checker }),
		"no_email_faults":    {do: func(b *builder, _ *node) { b.cfg.Globals.NoEmailFaults = true }},
		"smtp_helo_name":     {min: 1, max: 1, do: func(b *builder, n *node) { b.cfg.Globals.SMTPHelo = n.args[0] }},
	})
	routerRules["smtp_alert"] = rule{max: 1, do: func(b *builder, n *node) { said(b, n, &b.alerts.routers, b.router.Name) }}
	groupRules["smtp_alert"] = rule{max: 1, do: func(b *builder, n *node) { said(b, n, &b.alerts.groups, b.group.Name) }}
	serviceRules["smtp_alert"] = rule{max: 1, do: func(b *builder, n *node) { said(b, n, &b.alerts.services, b.service) }}
	serverRules["smtp_alert"] = rule{max: 1, do: func(b *builder, n *node) { said(b, n, &b.alerts.servers, b.server) }}
}

// said notes what one element's smtp_alert says.
func said[K comparable](b *builder, n *node, to *map[K]*bool, key K) {
	if *to == nil {
		*to = map[K]*bool{}
	}
	v := true
	b.readBool(n, &v)
	(*to)[key] = &v
}

// settleAlerts fills in keepalived's defaults (check_data.c, vrrp.c: smtp_alert): a
// real server's changes are told, the others are not.
func (b *builder) settleAlerts() {
	a := b.alerts
	told := func(own, kind *bool, otherwise bool) bool { return *cmp.Or(own, kind, a.all, &otherwise) }
	for _, d := range b.routers {
		d.Alert = told(a.routers[d.Name], a.vrrp, false)
	}
	for _, g := range b.groups {
		g.Alert = told(a.groups[g.Name], a.vrrp, false)
	}
	for _, d := range b.services {
		d.Alert = told(a.services[d], a.checker, false)
		for _, s := range d.servers {
			s.NoAlert = !told(a.servers[s], a.checker, true)
		}
	}
	b.aboutAlerts()
}

// aboutAlerts says what mail is not sent of, where that may surprise.
func (b *builder) aboutAlerts() {
	g, n := b.cfg.Globals, b.mail
	switch {
	case n == nil:
	case len(g.NotificationEmail) == 0 || g.SMTPServer == "":
		b.notice(n.pos, n.word, "no mail is sent: it takes notification_email and smtp_server, as in keepalived")
	case len(b.routers) > 0 && !slices.ContainsFunc(b.routers, func(d *routerDraft) bool { return d.Alert }) &&
		!slices.ContainsFunc(b.groups, func(d *groupDraft) bool { return d.Alert }):
		b.notice(n.pos, n.word, "mail tells of real servers and members; of a change of owner only where smtp_alert is said, as in keepalived")
	}
}

// The same in YAML: told unless it says otherwise, where there are mail settings.

func yamlMails(g *yamlGlobals) bool {
	return g != nil && len(g.NotificationEmail) > 0 && g.SMTPServer != ""
}

func (y *yamlReader) settleAlerts(f yamlFile) {
	otherwise, yes := yamlMails(f.Globals), true
	for i, r := range f.Routers {
		y.cfg.Routers[i].Alert = *cmp.Or(r.Alert, &otherwise)
	}
	for i, g := range f.Groups {
		y.cfg.Groups[i].Alert = *cmp.Or(g.Alert, &otherwise)
	}
	for i, s := range f.Services {
		y.cfg.Services[i].Alert = *cmp.Or(s.Alert, &otherwise)
		for j, r := range s.RealServers {
			y.cfg.Services[i].RealServers[j].NoAlert = !*cmp.Or(r.Alert, &yes)
		}
	}
	g := f.Globals
	if g != nil && !otherwise && (len(g.NotificationEmail) > 0 || g.SMTPServer != "" || g.EmailFrom != "") {
		at := y.key("globals")
		y.notice(at.pos, at.keyword, "no mail is sent: it takes notification_email and smtp_server")
	}
}

// alertsToYAML writes what differs from the defaults.
func alertsToYAML(f *yamlFile, cfg fsm.Config) {
	mails := yamlMails(f.Globals)
	unlike := func(v, otherwise bool) *bool {
		if v == otherwise {
			return nil
		}
		return &v
	}
	for i, r := range cfg.Routers {
		f.Routers[i].Alert = unlike(r.Alert, mails)
	}
	for i, g := range cfg.Groups {
		f.Groups[i].Alert = unlike(g.Alert, mails)
	}
	for i, s := range cfg.Services {
		f.Services[i].Alert = unlike(s.Alert, mails)
		for j, r := range s.RealServers {
			f.Services[i].RealServers[j].Alert = unlike(!r.NoAlert, true)
		}
	}
}
