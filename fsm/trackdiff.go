package fsm

import (
	"strconv"
	"strings"
)

// tracks and notify put what a virtual router or sync group depends on, and
// whom it tells, into a difference.
func (l *list) tracks(all []Tracker) {
	texts := make([]string, len(all))
	for i, k := range all {
		texts[i] = k.text()
	}
	l.text("track", strings.Join(texts, "; "))
}

// text describes k completely: trackers of equal text are equal.
func (k Tracker) text() string {
	var l list
	l.text(quoted(string(k.Kind)), quoted(k.Name))
	l.whole("weight", k.Weight)
	l.flag("reverse", k.Reverse)
	l.text("command", quoted(k.Command))
	l.delay("interval", k.Interval)
	l.delay("timeout", k.Timeout)
	l.whole("rise", k.Rise)
	l.whole("fall", k.Fall)
	l.text("user", quoted(k.User))
	l.flag("init_fail", k.InitFail)
	l.text("path", quoted(k.Path))
	l.text("process", quoted(k.Process))
	l.flag("full_command", k.FullCommand)
	l.whole("quorum", k.Quorum)
	l.whole("quorum_max", k.QuorumMax)
	l.delay("delay", k.Delay)
	l.delay("terminate_delay", k.TerminDelay)
	l.delay("fork_delay", k.StartupDelay)
	words := make([]string, len(l))
	for i, f := range l {
		words[i] = strings.TrimSuffix(f.name+" "+f.value, " ")
	}
	return strings.Join(words, " ")
}

// whole adds a number that is not 0.
func (l *list) whole(name string, n int) {
	if n != 0 {
		l.text(name, strconv.Itoa(n))
	}
}

func (l *list) notify(n Notify) {
	for _, s := range n.scripts() {
		if s.script != nil {
			l.text(s.keyword, s.script.text())
		}
	}
}

// text is the command, quoted, and its user.
func (s Script) text() string {
	text := strconv.Quote(s.Command)
	if s.User != "" {
		text += " as " + quoted(s.User)
	}
	return text
}

// notifyScript is one script of a Notify under keepalived's word for it.
type notifyScript struct {
	keyword string
	script  *Script
}

func (n Notify) scripts() []notifyScript {
	return []notifyScript{
		{"notify_master", n.Master}, {"notify_backup", n.Backup}, {"notify_fault", n.Fault},
		{"notify_stop", n.Stop}, {"notify", n.Any},
	}
}

// clone is a deep copy.
func (n Notify) clone() Notify {
	for _, s := range []**Script{&n.Master, &n.Backup, &n.Fault, &n.Stop, &n.Any} {
		if *s != nil {
			script := **s
			*s = &script
		}
	}
	return n
}

func groupPath(name string) string { return "vrrp_sync_group " + name }

func groupFields(g SyncGroup) []field {
	var l list
	routers := make([]string, len(g.Routers))
	for i, name := range g.Routers {
		routers[i] = quoted(name)
	}
	l.text("group", strings.Join(routers, " "))
	l.tracks(g.Track)
	l.notify(g.Notify)
	l.flag("smtp_alert", g.Alert)
	if len(l) == 0 {
		l.text("group", "none") // an element without fields would be none
	}
	return l
}

func (d *differ) groups() {
	old, now, names := byKey(d.was.Groups, d.is.Groups, func(g SyncGroup) string { return g.Name })
	for _, name := range names {
		var was, is []field
		if g, ok := old[name]; ok {
			was = groupFields(g)
		}
		if g, ok := now[name]; ok {
			is = groupFields(g)
		}
		d.fields(groupPath(name), was, is, "")
	}
}
