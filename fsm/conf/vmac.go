package conf

import "lbcluster/fsm"

// use_vmac [NAME] [MAC] and vmac_xmit_base: the VIPs live on a macvlan with the
// MAC of the virtual router.
func init() {
	with(routerRules, map[string]rule{
		"use_vmac":       {max: -1, do: (*builder).readVMAC},
		"vmac_xmit_base": {do: func(b *builder, n *node) { b.say(n); b.router.xmitBase = true }},
	})
}

func (b *builder) readVMAC(n *node) {
	b.say(n)
	v := &fsm.VMAC{}
	switch len(n.args) {
	case 0:
	case 1:
		v.Name = n.args[0]
	default:
		b.problem(n.pos, n.word, "takes the name of the interface and nothing else: its MAC is that of the virtual router (RFC 9568, section 7.3)")
		return
	}
	b.router.VMAC = v
}

// settleVMAC joins the two words.
func (b *builder) settleVMAC(d *routerDraft) {
	if !d.xmitBase {
		return
	}
	if d.VMAC == nil {
		n := d.said["vmac_xmit_base"]
		b.notice(n.pos, n.word, "not kept: it has no meaning without use_vmac")
		return
	}
	d.VMAC.XmitBase = true
}

func (w *writer) vmac(r fsm.Router) {
	if r.VMAC == nil {
		return
	}
	if r.VMAC.Name == "" {
		w.line("use_vmac")
	} else {
		w.line("use_vmac", r.VMAC.Name)
	}
	w.unless(!r.VMAC.XmitBase, "vmac_xmit_base")
}

// yamlVMAC is use_vmac in YAML.
type yamlVMAC struct {
	Name     string `yaml:"name,omitempty"` // vrrp.VRID, vrrp6.VRID
	XmitBase bool   `yaml:"xmit_base,omitempty"`
}

func (y *yamlVMAC) vmac() *fsm.VMAC {
	if y == nil {
		return nil
	}
	return &fsm.VMAC{Name: y.Name, XmitBase: y.XmitBase}
}

func vmacToYAML(v *fsm.VMAC) *yamlVMAC {
	if v == nil {
		return nil
	}
	return &yamlVMAC{Name: v.Name, XmitBase: v.XmitBase}
}
