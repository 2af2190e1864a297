package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// Node is what one machine's keepalived.conf says otherwise than the others': of
// each router, by its name. What is missing stays as the configuration has it.
type Node struct {
	Name       string // its router_id
	Priorities map[string]uint8
	States     map[string]string // MASTER or BACKUP
	Interfaces map[string]string
	// Sources are where the machine sends adverts from, an invalid address where
	// nobody knows: keepalived then takes the interface's. They are written where
	// the router names a source, or speaks by unicast.
	Sources map[string]netip.Addr
	// Others are where the other machines send from: with unicast_peer each has
	// to list them all.
	Others map[string][]netip.Addr
}

// WriteKeepalivedFor writes the keepalived.conf of one node, which keepalived
// itself accepts there. It reads back the same but for what is the node's own.
func WriteKeepalivedFor(cfg fsm.Config, n Node) ([]byte, error) {
	if n.Name != "" {
		cfg.Globals.RouterID = n.Name
	}
	cfg = clone(cfg)
	for i := range cfg.Routers {
		r := &cfg.Routers[i]
		if p, ok := n.Priorities[r.Name]; ok {
			r.Priority = p
		}
		if s, ok := n.States[r.Name]; ok {
			r.Initial = s
		}
		if dev, ok := n.Interfaces[r.Name]; ok {
			if s := cfg.Globals.IPVS.Sync; s != nil && s.Interface == r.Interface {
				own := *s
				own.Interface = dev
				cfg.Globals.IPVS.Sync = &own
			}
			r.Interface = dev
		}
		n.speak(r)
		if r.Peering.NoPreempt || r.Peering.PreemptDelay != 0 {
			r.Initial = "BACKUP" // else keepalived ignores both
		}
	}
	if problems := fsm.ValidateConfig(cfg); len(problems) > 0 {
		return nil, fmt.Errorf("the file of node %s would not be valid: %s", n.Name, problems[0])
	}
	var marks []string
	if n.Name != "" {
		marks = append(unmatched(&cfg), lostIPVS(cfg.Globals.IPVS)...)
		cfg.Globals.IPVS = sayableIPVS(cfg.Globals.IPVS)
	}
	text, err := WriteKeepalived(cfg)
	for _, line := range slices.Backward(marks) {
		text = append([]byte("# "+line+"\n"), text...)
	}
	if err == nil && runsScripts(cfg) {
		// Without it keepalived -t refuses a file that has scripts run as root.
		text = append([]byte("global_defs {\n    enable_script_security\n}\n\n"), text...)
	}
	return text, err
}

// unmatched takes the packets of firewall marks out of cfg, whose services are
// its own, and says so: without a rule of the host's the services serve nobody.
func unmatched(cfg *fsm.Config) []string {
	var lines []string
	for i := range cfg.Services {
		v := &cfg.Services[i]
		if len(v.Matches) > 0 {
			lines = append(lines, lostMatch(*v))
			v.Matches = nil
		}
	}
	return lines
}

func lostMatch(v fsm.VirtualServer) string {
	var all []string
	for _, m := range v.Matches {
		all = append(all, m.String())
	}
	return fmt.Sprintf("%s: lbcluster marks its packets (%s), keepalived does not: have a firewall rule set mark %d", servicePath(v.ServiceKey), strings.Join(all, ", "), v.Mark)
}

// speak gives the router the machine's own address to send from, and its unicast
// peers: those that the cluster lists and the other machines, but not itself.
func (n Node) speak(r *fsm.Router) {
	p := &r.Peering
	own, known := n.Sources[r.Name]
	if known && (p.Source.IsValid() || p.Unicast) {
		p.Source = own
	}
	if !p.Unicast {
		return
	}
	var peers []fsm.Peer
	for _, o := range p.Peers {
		if o.Addr != own {
			peers = append(peers, o)
		}
	}
	for _, a := range n.Others[r.Name] {
		if a != own && !lists(peers, a) {
			peers = append(peers, fsm.Peer{Addr: a})
		}
	}
	if len(peers) > 0 {
		p.Peers = peers
	}
}

func lists(peers []fsm.Peer, a netip.Addr) bool {
	return slices.ContainsFunc(peers, func(o fsm.Peer) bool { return o.Addr == a })
}

// runsScripts reports whether anything in cfg runs a program.
func runsScripts(cfg fsm.Config) bool {
	for _, list := range trackLists(cfg) {
		for _, t := range list {
			if t.Kind == fsm.TrackScript {
				return true
			}
		}
	}
	for _, g := range cfg.Groups {
		if g.Notify != (fsm.Notify{}) {
			return true
		}
	}
	for _, r := range cfg.Routers {
		if r.Notify != (fsm.Notify{}) {
			return true
		}
	}
	return false
}

// KeepalivedLimits says what of cfg keepalived does not take as it stands, though
// its format can say it.
func KeepalivedLimits(cfg fsm.Config) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if cfg.Globals.SMTPTimeout.D()%time.Second != 0 {
		say("smtp_connect_timeout %v: keepalived knows whole seconds only", cfg.Globals.SMTPTimeout)
	}
	all = append(all, lostIPVS(cfg.Globals.IPVS)...)
	devices := map[string]string{}
	for _, r := range cfg.Routers {
		devices[r.Name] = r.Interface
		if r.Interface == "" {
			say("%s names no interface: keepalived takes eth0", r.Name)
		}
		for _, k := range r.Track {
			if k.Kind == fsm.TrackInterface && k.Name == r.Interface {
				say("%s tracks its own interface %s: keepalived ignores that, for it always does", r.Name, k.Name)
			}
		}
	}
	for _, g := range cfg.Groups {
		for _, name := range g.Routers {
			if slices.ContainsFunc(g.Track, func(k fsm.Tracker) bool { return k.Kind == fsm.TrackInterface && k.Name == devices[name] }) {
				say("sync group %s tracks %s, the interface of %s: keepalived -t refuses it twice", g.Name, devices[name], name)
			}
		}
	}
	said := map[string]bool{}
	for _, list := range trackLists(cfg) {
		for _, k := range list {
			if whole := k.Interval.D()%time.Second == 0 && k.Timeout.D()%time.Second == 0; k.Kind == fsm.TrackScript && !whole && !said[k.Name] {
				said[k.Name] = true
				say("script %s: keepalived knows whole seconds only for interval and timeout", k.Name)
			}
		}
	}
	for _, v := range cfg.Services {
		if len(v.Matches) > 0 {
			all = append(all, lostMatch(v))
		}
		if len(v.RealServers) == 0 {
			say("%s has no real servers: keepalived ignores it", servicePath(v.ServiceKey))
		}
	}
	return all
}
