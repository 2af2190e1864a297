package conf

import (
	"strings"

	"lbcluster/fsm"
)

// What runs, and where lines are written, when something changes.

func init() {
	with(serviceRules, map[string]rule{
		"quorum_up":   scriptRule(func(b *builder) **fsm.Script { return &b.service.Notify.Up }),
		"quorum_down": scriptRule(func(b *builder) **fsm.Script { return &b.service.Notify.Down }),
	})
	with(serverRules, map[string]rule{
		"notify_up":   scriptRule(func(b *builder) **fsm.Script { return &b.server.Notify.Up }),
		"notify_down": scriptRule(func(b *builder) **fsm.Script { return &b.server.Notify.Down }),
	})
	for word, to := range map[string]func(*builder) *fsm.FIFO{
		"notify_fifo":      func(b *builder) *fsm.FIFO { return b.fifo(&b.cfg.Globals.FIFOs.All) },
		"vrrp_notify_fifo": func(b *builder) *fsm.FIFO { return b.fifo(&b.cfg.Globals.FIFOs.VRRP) },
		"lvs_notify_fifo":  func(b *builder) *fsm.FIFO { return b.fifo(&b.cfg.Globals.FIFOs.LVS) },
	} {
		globalRules[word] = rule{min: 1, max: 3, do: func(b *builder, n *node) {
			to(b).Path, to(b).User = n.args[0], strings.Join(n.args[1:], ":")
		}}
		globalRules[word+"_script"] = scriptRule(func(b *builder) **fsm.Script { return &to(b).Script })
	}
}

// fifo is a pipe of which something was said, in whatever order.
func (b *builder) fifo(at **fsm.FIFO) *fsm.FIFO {
	if *at == nil {
		*at = &fsm.FIFO{}
	}
	return *at
}

// upDownUsers gives what names no user the file's script_user.
func (b *builder) upDownUsers() {
	set := func(scripts ...*fsm.Script) {
		for _, s := range scripts {
			if s != nil && s.User == "" {
				s.User = b.scriptUser
			}
		}
	}
	for _, d := range b.services {
		set(d.Notify.Up, d.Notify.Down)
		for _, s := range d.servers {
			set(s.Notify.Up, s.Notify.Down)
		}
	}
	f := b.cfg.Globals.FIFOs
	for _, p := range []*fsm.FIFO{f.All, f.VRRP, f.LVS} {
		if p == nil {
			continue
		}
		set(p.Script)
		if p.User == "" {
			p.User = b.scriptUser
		}
	}
}

func (w *writer) fifos(f fsm.FIFOs) {
	for _, n := range []struct {
		word string
		fifo *fsm.FIFO
	}{{"notify_fifo", f.All}, {"vrrp_notify_fifo", f.VRRP}, {"lvs_notify_fifo", f.LVS}} {
		if n.fifo == nil {
			continue
		}
		w.script(n.word, &fsm.Script{Command: n.fifo.Path, User: n.fifo.User})
		w.script(n.word+"_script", n.fifo.Script)
	}
}

type yamlFIFO struct {
	Path   string      `yaml:"path"`
	User   string      `yaml:"user,omitempty"`
	Script *yamlScript `yaml:"script,omitempty"`
}

func (f *yamlFIFO) read() *fsm.FIFO {
	if f == nil {
		return nil
	}
	return &fsm.FIFO{Path: f.Path, User: f.User, Script: f.Script.read()}
}

func fifoToYAML(f *fsm.FIFO) *yamlFIFO {
	if f == nil {
		return nil
	}
	return &yamlFIFO{f.Path, f.User, scriptToYAML(f.Script)}
}

func (s *yamlScript) read() *fsm.Script {
	if s == nil {
		return nil
	}
	return &fsm.Script{Command: s.Command, User: s.User}
}

func scriptToYAML(s *fsm.Script) *yamlScript {
	if s == nil {
		return nil
	}
	return &yamlScript{s.Command, s.User}
}
