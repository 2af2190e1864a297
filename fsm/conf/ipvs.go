package conf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// lvs_sync_daemon and lvs_timeouts.
func init() {
	with(globalRules, map[string]rule{
		"lvs_sync_daemon": {min: 1, max: -1, repeat: true, do: (*builder).readSync},
		"lvs_timeouts":    {min: 1, max: -1, repeat: true, do: (*builder).readIPVSTimeouts},
	})
}

// readSync reads INTERFACE [[inst] INSTANCE] [[id] SYNCID] [maxlen N] [port N]
// [ttl N] [group ADDRESS]. The first one counts, as in keepalived.
func (b *builder) readSync(n *node) {
	if b.sync != nil {
		b.doubt(n.pos, n.word, sprint("said before in line %d", b.sync.pos.line), "the first one counts")
		return
	}
	b.sync, b.syncID = n, -1
	s := &fsm.ConnSync{Interface: n.args[0]}
	b.cfg.Globals.IPVS.Sync = s
	for i := 1; i < len(n.args); i++ {
		word, value := n.args[i], ""
		if read, ok := syncOptions[word]; ok {
			if i++; i == len(n.args) {
				b.doubt(n.arg(i-1), n.word, sprint("%s needs a value", word), "it is ignored")
				return
			}
			value = n.args[i]
			if err := read(b, s, value); err != nil {
				b.wrong(n, err)
			}
			continue
		}
		switch id, err := number(word, 0, 255); {
		case i == 1:
			s.Instance = word
		case i == 2 && err == nil: // keepalived's old way
			b.syncID = int(id)
		default:
			b.doubt(n.arg(i), n.word, sprint("unknown option %q", word), "it is ignored")
		}
	}
}

// syncOptions are the words of lvs_sync_daemon that have a value.
var syncOptions = map[string]func(b *builder, s *fsm.ConnSync, value string) error{
	"inst": func(_ *builder, s *fsm.ConnSync, value string) error { s.Instance = value; return nil },
	"id": func(b *builder, _ *fsm.ConnSync, value string) error {
		n, err := number(value, 0, 255)
		if err == nil {
			b.syncID = int(n)
		}
		return err
	},
	"maxlen": func(_ *builder, s *fsm.ConnSync, value string) error {
		n, err := number(value, 1, 65507)
		s.MaxLen = uint16(n)
		return err
	},
	"port": func(_ *builder, s *fsm.ConnSync, value string) error {
		n, err := number(value, 1, 65535)
		s.Port = uint16(n)
		return err
	},
	"ttl": func(_ *builder, s *fsm.ConnSync, value string) error {
		n, err := number(value, 1, 255)
		s.TTL = uint8(n)
		return err
	},
	"group": func(_ *builder, s *fsm.ConnSync, value string) error {
		group, err := address(value)
		if err == nil && !group.IsMulticast() {
			return fmt.Errorf("%q is not a multicast address", value)
		}
		s.Group = group
		return err
	},
}

// settleSync finds the instance of lvs_sync_daemon: without an id of its own the
// daemons have its VRID; without an instance, 0.
func (b *builder) settleSync() {
	s := b.cfg.Globals.IPVS.Sync
	if s == nil {
		return
	}
	if s.Instance != "" {
		i := slices.IndexFunc(b.cfg.Routers, func(r fsm.Router) bool { return r.Name == s.Instance })
		if i < 0 {
			b.doubt(b.sync.pos, b.sync.word, sprint("there is no vrrp_instance %q", s.Instance), "connections are not synchronised")
			b.cfg.Globals.IPVS.Sync = nil
			return
		}
		s.ID = b.cfg.Routers[i].VRID
	}
	if b.syncID >= 0 {
		s.ID = uint8(b.syncID)
	}
}

func (b *builder) readIPVSTimeouts(n *node) {
	v := &b.cfg.Globals.IPVS
	fields := map[string]*fsm.Duration{"tcp": &v.TCPTimeout, "tcpfin": &v.TCPFINTimeout, "udp": &v.UDPTimeout}
	for i := 0; i < len(n.args); i++ {
		to, ok := fields[n.args[i]]
		if !ok {
			b.doubt(n.arg(i), n.word, sprint("unknown option %q: tcp, tcpfin or udp, each with seconds", n.args[i]), "it is ignored")
			continue
		}
		if i++; i == len(n.args) {
			b.doubt(n.arg(i-1), n.word, sprint("%s needs a number of seconds", n.args[i-1]), "it is ignored")
			return
		}
		s, err := number(n.args[i], 0, 31*24*3600)
		if err != nil {
			b.wrong(n, err)
			continue
		}
		*to = fsm.Duration(s) * fsm.Duration(time.Second)
	}
}

func (w *writer) ipvs(cfg fsm.Config) {
	v := cfg.Globals.IPVS
	if s := v.Sync; s != nil {
		w.line(append([]string{"lvs_sync_daemon"}, strings.Fields(s.String())...)...)
	}
	var words []string
	for _, t := range []struct {
		name string
		d    fsm.Duration
	}{{"tcp", v.TCPTimeout}, {"tcpfin", v.TCPFINTimeout}, {"udp", v.UDPTimeout}} {
		if t.d != 0 {
			words = append(words, t.name, seconds(t.d))
		}
	}
	w.unless(len(words) == 0, append([]string{"lvs_timeouts"}, words...)...)
}

// lostIPVS says which settings of IPVS keepalived has no words for.
func lostIPVS(v fsm.IPVS) []string {
	var out []string
	if v.Sync != nil && v.Sync.Interface == "" {
		out = append(out, "ipvs.sync names no interface: keepalived's lvs_sync_daemon needs one")
	}
	for _, name := range slices.Sorted(maps.Keys(v.Sysctls)) {
		out = append(out, fmt.Sprintf("net.ipv4.vs.%s = %s: keepalived sets no sysctls: put it into /etc/sysctl.d", name, v.Sysctls[name]))
	}
	return out
}

// sayableIPVS is v without what lostIPVS tells of.
func sayableIPVS(v fsm.IPVS) fsm.IPVS {
	v.Sysctls = nil
	if v.Sync != nil && v.Sync.Interface == "" {
		v.Sync = nil
	}
	return v
}

type (
	yamlIPVS struct {
		Sync          *yamlSync         `yaml:"sync,omitempty"` // {}: all as usual
		TCPTimeout    string            `yaml:"tcp_timeout,omitempty"`
		TCPFINTimeout string            `yaml:"tcpfin_timeout,omitempty"`
		UDPTimeout    string            `yaml:"udp_timeout,omitempty"`
		Sysctls       map[string]string `yaml:"sysctls,omitempty"`
	}
	yamlSync struct {
		Interface string `yaml:"interface,omitempty"` // that of the member's own address
		Instance  string `yaml:"instance,omitempty"`
		ID        *int   `yaml:"id,omitempty"` // 1
		Group     string `yaml:"group,omitempty"`
		Port      int    `yaml:"port,omitempty"`
		TTL       int    `yaml:"ttl,omitempty"`
		MaxLen    int    `yaml:"max_len,omitempty"`
	}
)

func (y *yamlReader) ipvs(path string, v *yamlIPVS) fsm.IPVS {
	if v == nil {
		return fsm.IPVS{}
	}
	out := fsm.IPVS{
		TCPTimeout:    y.duration(path+".tcp_timeout", v.TCPTimeout, 0),
		TCPFINTimeout: y.duration(path+".tcpfin_timeout", v.TCPFINTimeout, 0),
		UDPTimeout:    y.duration(path+".udp_timeout", v.UDPTimeout, 0),
		Sysctls:       v.Sysctls,
	}
	if v.Sync == nil {
		return out
	}
	path += ".sync"
	s := &fsm.ConnSync{
		Interface: v.Sync.Interface, Instance: v.Sync.Instance,
		ID:     uint8(y.bounded(path+".id", v.Sync.ID, 1, 0, 255)),
		Port:   uint16(y.bounded(path+".port", &v.Sync.Port, 0, 0, 65535)),
		TTL:    uint8(y.bounded(path+".ttl", &v.Sync.TTL, 0, 0, 255)),
		MaxLen: uint16(y.bounded(path+".max_len", &v.Sync.MaxLen, 0, 0, 65507)),
	}
	if v.Sync.Group != "" {
		group, err := netip.ParseAddr(v.Sync.Group)
		if err != nil {
			y.wrong(path+".group", "%q is not an IP address", v.Sync.Group)
		}
		s.Group = group
	}
	out.Sync = s
	return out
}

// placeIPVS notes where it says what, under package fsm's words.
func (y *yamlReader) placeIPVS(v *yamlIPVS) {
	if v == nil {
		return
	}
	const element, path = "global_defs", "globals.ipvs"
	y.places.element(element, y.key(path))
	for word, key := range map[string]string{
		"lvs_sync_daemon": "sync", "lvs_sync_daemon interface": "sync.interface", "lvs_sync_daemon group": "sync.group",
		"lvs_timeouts tcp": "tcp_timeout", "lvs_timeouts tcpfin": "tcpfin_timeout", "lvs_timeouts udp": "udp_timeout",
	} {
		y.places.value(element, word, y.key(path+"."+key))
	}
	for name := range v.Sysctls {
		y.places.value(element, "net.ipv4.vs."+name, y.key(path+".sysctls."+name))
	}
}

func ipvsToYAML(v fsm.IPVS) *yamlIPVS {
	if v.IsZero() {
		return nil
	}
	out := &yamlIPVS{
		TCPTimeout: optional(v.TCPTimeout), TCPFINTimeout: optional(v.TCPFINTimeout), UDPTimeout: optional(v.UDPTimeout),
		Sysctls: v.Sysctls,
	}
	if s := v.Sync; s != nil {
		out.Sync = &yamlSync{
			Interface: s.Interface, Instance: s.Instance, ID: ptr(int(s.ID)), Port: int(s.Port), TTL: int(s.TTL), MaxLen: int(s.MaxLen),
		}
		if s.Group.IsValid() {
			out.Sync.Group = s.Group.String()
		}
	}
	return out
}
