package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// IPVS is what a set says of IPVS as a whole; it holds on every director.
type IPVS struct {
	// Sync has directors tell each other of their connections. nil: they do not.
	Sync *ConnSync `json:"sync,omitempty"`
	// Timeouts of connections without a packet, in whole seconds (ipvsadm --set,
	// keepalived: lvs_timeouts); 0: the kernel's are left as they are.
	TCPTimeout    Duration `json:"tcp_timeout,omitempty"`
	TCPFINTimeout Duration `json:"tcpfin_timeout,omitempty"`
	UDPTimeout    Duration `json:"udp_timeout,omitempty"`
	// Sysctls are those below net.ipv4.vs that shall not be as [IPVSSysctls] has
	// them: a value, or [LeaveSysctl].
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

// ConnSync is how IPVS connections are synchronised (keepalived:
// lvs_sync_daemon). Every director both sends and receives, with one id.
type ConnSync struct {
	// Interface to the other directors, as the operator calls it; empty: the one
	// with the member's own address.
	Interface string `json:"interface,omitempty"`
	// Instance is the vrrp_instance that keepalived's daemons follow; for export.
	Instance string `json:"instance,omitempty"`
	// ID (syncid) tells groups of directors on one network apart, those of
	// keepalived included; with 0 what everybody sends is taken.
	ID     uint8      `json:"id"`
	Group  netip.Addr `json:"group,omitzero"`    // none: the kernel's, 224.0.0.81
	Port   uint16     `json:"port,omitempty"`    // 0: the kernel's, 8848
	TTL    uint8      `json:"ttl,omitempty"`     // 0: the kernel's, 1
	MaxLen uint16     `json:"max_len,omitempty"` // of a message, bytes; 0: what fits the interface's MTU
}

// LeaveSysctl as a value means: as the host has it.
const LeaveSysctl = "leave"

// maxSyncLen is the longest UDP payload over IPv4.
const maxSyncLen = 65535 - 20 - 8

// maxIPVSTimeout is keepalived's LVS_MAX_TIMEOUT.
const maxIPVSTimeout = 31 * 24 * time.Hour

// IPVSSysctl is a setting of the kernel's IPVS, below net.ipv4.vs
// (Documentation/networking/ipvs-sysctl.rst).
type IPVSSysctl struct {
	Name string
	// Ours is its value unless a set says otherwise; empty: as the host has it.
	Ours string
	// Sync: Ours counts only where connections are synchronised.
	Sync bool
	Why  string // Ours is better than what the kernel begins with

	words int // of a value, numbers from 0 to max
	max   uint64
}

// IPVSSysctls are the settings that a set may have, and what lbcluster makes of
// them, by name.
var IPVSSysctls = []IPVSSysctl{
	{Name: "conn_reuse_mode", Ours: "3", words: 1, max: 3,
		Why: "a client's port that comes back while its old connection is still closing gets a server that lives; with 1 that is missed in direct routing, where only half of the closing is seen"},
	{Name: "expire_nodest_conn", Ours: "1", words: 1, max: 1,
		Why: "a client of a server that was removed is told at its next packet and can connect anew; with 0 its packets are dropped in silence"},
	{Name: "expire_quiescent_template", Ours: "1", words: 1, max: 1,
		Why: "a persistent client of a server with weight 0 gets another; with 0 it comes back for ever, and the server is never drained"},
	{Name: "sloppy_tcp", Ours: "1", words: 1, max: 1,
		Why: "a director that takes over goes on with connections it has not heard of, if its scheduler finds the same server (mh or sh); with 0 it resets them"},
	{Name: "sync_persist_mode", words: 1, max: 1},
	{Name: "sync_refresh_period", Ours: "10", Sync: true, words: 1, max: 1 << 31 / 1000,
		Why: "each living connection is told again every 10 seconds, so that a director that starts knows it soon"},
	{Name: "sync_retries", words: 1, max: 3},
	{Name: "sync_threshold", Ours: "0 0", Sync: true, words: 2, max: 1<<31 - 1,
		Why: "a connection is told when it is established and not at its third packet"},
}

// check says what is wrong with a value; "" if nothing is.
func (s IPVSSysctl) check(v string) string {
	if v == LeaveSysctl {
		return ""
	}
	words := strings.Split(v, " ")
	bad := len(words) != s.words
	for _, w := range words {
		n, err := strconv.ParseUint(w, 10, 64)
		bad = bad || err != nil || n > s.max || w != strconv.FormatUint(n, 10)
	}
	switch {
	case !bad:
		return ""
	case s.words == 2:
		return fmt.Sprintf("%q is not two whole numbers from 0 to %d, with a space between them", v, s.max)
	}
	return fmt.Sprintf("%q is neither a whole number from 0 to %d nor %s", v, s.max, LeaveSysctl)
}

// IsZero reports whether nothing is said.
func (v IPVS) IsZero() bool {
	return v.Sync == nil && v.TCPTimeout == 0 && v.TCPFINTimeout == 0 && v.UDPTimeout == 0 && len(v.Sysctls) == 0
}

// clone is a deep copy.
func (v IPVS) clone() IPVS {
	if v.Sync != nil {
		s := *v.Sync
		v.Sync = &s
	}
	if v.Sysctls = maps.Clone(v.Sysctls); len(v.Sysctls) == 0 {
		v.Sysctls = nil
	}
	return v
}

// IPVS is what holds for IPVS on every director: what the one set says that says
// anything, with the sysctls that lbcluster sets by itself and without those that
// are left as they are.
func (t *Table) IPVS() IPVS {
	var out IPVS
	for _, s := range t.Sets {
		if !s.Globals.IPVS.IsZero() {
			out = s.Globals.IPVS.clone()
			break
		}
	}
	if out.Sysctls == nil {
		out.Sysctls = map[string]string{}
	}
	for _, s := range IPVSSysctls {
		if _, said := out.Sysctls[s.Name]; !said && s.Ours != "" && (!s.Sync || out.Sync != nil) {
			out.Sysctls[s.Name] = s.Ours
		}
	}
	maps.DeleteFunc(out.Sysctls, func(_, v string) bool { return v == LeaveSysctl })
	return out
}

// SaysIPVSSysctl reports whether a set itself has a word on that sysctl.
func (t *Table) SaysIPVSSysctl(name string) bool {
	return slices.ContainsFunc(t.Sets, func(s Set) bool { return s.Globals.IPVS.Sysctls[name] != "" })
}

// String is s as keepalived's lvs_sync_daemon says it.
func (s ConnSync) String() string {
	words := []string{s.Interface}
	add := func(left bool, word string, v any) {
		if !left {
			words = append(words, word, fmt.Sprint(v))
		}
	}
	add(s.Instance == "", "inst", s.Instance)
	add(false, "id", s.ID)
	add(s.MaxLen == 0, "maxlen", s.MaxLen)
	add(s.Port == 0, "port", s.Port)
	add(s.TTL == 0, "ttl", s.TTL)
	add(!s.Group.IsValid(), "group", s.Group)
	return strings.TrimSpace(strings.Join(words, " "))
}

func (p *problems) ipvs(cfg Config) {
	const path = "global_defs"
	v := cfg.Globals.IPVS
	if s := v.Sync; s != nil {
		p.device(path, "lvs_sync_daemon interface", s.Interface)
		if s.Instance != "" && !slices.ContainsFunc(cfg.Routers, func(r Router) bool { return r.Name == s.Instance }) {
			p.add(path, "lvs_sync_daemon: there is no virtual router %q", s.Instance)
		}
		if s.Group.IsValid() && (!s.Group.IsMulticast() || s.Group.Is4In6() || s.Group.Zone() != "") {
			p.add(path, "lvs_sync_daemon group %s is not a multicast address", s.Group)
		}
		if s.MaxLen > maxSyncLen {
			p.add(path, "lvs_sync_daemon maxlen %d is more than %d", s.MaxLen, maxSyncLen)
		}
	}
	for _, t := range v.timeouts() {
		if t.D() < 0 || t.D() > maxIPVSTimeout || t.D()%time.Second != 0 {
			p.add(path, "lvs_timeouts %s %v: want whole seconds, up to %v", t.name, t.Duration, maxIPVSTimeout)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Sysctls)) {
		s, ok := find(IPVSSysctls, func(s IPVSSysctl) bool { return s.Name == name })
		if !ok {
			p.add(path, "net.ipv4.vs.%s is not among the sysctls of IPVS that can be set here", name)
		} else if bad := s.check(v.Sysctls[name]); bad != "" {
			p.add(path, "net.ipv4.vs.%s: %s", name, bad)
		}
	}
}

type namedDelay struct {
	name string
	Duration
}

func (v IPVS) timeouts() []namedDelay {
	return []namedDelay{{"tcp", v.TCPTimeout}, {"tcpfin", v.TCPFINTimeout}, {"udp", v.UDPTimeout}}
}

// ipvsOnce refuses what two sets say.
func (p *problems) ipvsOnce(t *Table, set string, cfg Config) {
	if cfg.Globals.IPVS.IsZero() {
		return
	}
	for _, s := range t.Sets {
		if s.Name != set && !s.Globals.IPVS.IsZero() {
			p.add("global_defs", "the settings of IPVS belong to set %s already: they hold for all", s.Name)
		}
	}
}

func (l *list) ipvs(v IPVS) {
	if v.Sync != nil {
		l.text("lvs_sync_daemon", v.Sync.String())
	}
	var words []string
	for _, t := range v.timeouts() {
		if t.Duration != 0 {
			words = append(words, t.name, t.String())
		}
	}
	l.text("lvs_timeouts", strings.Join(words, " "))
	for _, name := range slices.Sorted(maps.Keys(v.Sysctls)) {
		l.text("net.ipv4.vs."+name, v.Sysctls[name])
	}
}
