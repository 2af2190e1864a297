package fsm

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The language of the transcripts: "verb word word key=value...". Every
// changing command takes by=WHO, at=DURATION after epoch and if=REVISION.

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type args struct {
	t     *testing.T
	verb  string
	words []string
	keys  map[string]string
}

func parseArgs(t *testing.T, line string) args {
	fields := strings.Fields(line)
	a := args{t: t, verb: fields[0], keys: map[string]string{}}
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			a.keys[k] = v
		} else {
			a.words = append(a.words, f)
		}
	}
	return a
}

func (a args) word(i int) string {
	if i >= len(a.words) {
		return ""
	}
	return a.words[i]
}

func (a args) number(key string, otherwise int) int {
	if a.keys[key] == "" {
		return otherwise
	}
	n, err := strconv.Atoi(a.keys[key])
	if err != nil {
		a.t.Fatalf("%s: %v", key, err)
	}
	return n
}

func (a args) delay(key string, otherwise time.Duration) Duration {
	if a.keys[key] == "" {
		return Duration(otherwise)
	}
	d, err := time.ParseDuration(a.keys[key])
	if err != nil {
		a.t.Fatalf("%s: %v", key, err)
	}
	return Duration(d)
}

func parseAddrPort(s string) netip.AddrPort { a, _ := netip.ParseAddrPort(s); return a }

func parseKey(t *testing.T, s string) ServiceKey {
	var mark uint32
	if n, _ := fmt.Sscanf(s, "fwmark6/%d", &mark); n == 1 {
		return ServiceKey{Mark: mark, V6: true}
	}
	if n, _ := fmt.Sscanf(s, "fwmark/%d", &mark); n == 1 {
		return ServiceKey{Mark: mark}
	}
	proto, addr, ok := strings.Cut(s, "/")
	a, err := netip.ParseAddrPort(addr)
	if !ok || err != nil {
		t.Fatalf("service key %q: %v", s, err)
	}
	return ServiceKey{Addr: a.Addr(), Port: a.Port(), Protocol: Protocol(proto)}
}

// id is a member's id for a name or an id.
func (s *story) id(word string) MemberID {
	if m, ok := s.table.MemberByName(word); ok {
		return m.ID
	}
	return MemberID(word)
}

// hash is a token's hash for a hex digit.
func hash(digit string) string { return strings.Repeat(digit, 64) }

// command makes the command of a line and its config lines.
func (s *story) command(a args, lines []string) Command {
	c := Command{Version: a.number("v", 0), By: a.keys["by"], At: epoch.Add(a.delay("at", 0).D()), IfRevision: Revision(a.number("if", 0))}
	if c.By == "" {
		c.By = "root@dir1"
	}
	switch a.verb {
	case "found":
		c.Found = &Found{Cluster: a.word(0), Name: a.word(1), Addr: parseAddrPort(a.word(2)), Profile: a.word(3)}
	case "token":
		c.AddToken = &Token{Hash: hash(a.word(0)), Role: Role(a.keys["role"]), Uses: a.number("uses", 1),
			Expires: epoch.Add(a.delay("expires", time.Hour).D())}
	case "enrol":
		c.Enrol = &Enrol{Name: a.word(0), Role: Role(a.word(1)), Addr: parseAddrPort(a.word(2)),
			TokenHash: hash(a.keys["token"]), Request: a.keys["request"], Reads: a.number("reads", 0)}
	case "member":
		c.Member = &SetMember{ID: s.id(a.word(0)), Reads: a.number("reads", 0)}
		if v, ok := a.keys["state"]; ok {
			state := MemberState(v)
			c.Member.State = &state
		}
		if v, ok := a.keys["silent"]; ok {
			silent := v == "true"
			c.Member.Silent = &silent
		}
		if v, ok := a.keys["drained"]; ok {
			drained := v == "true"
			c.Member.Drained = &drained
		}
		if v, ok := a.keys["networks"]; ok {
			c.Member.Networks = a.networks(v)
		}
	case "remove":
		c.Remove = &Remove{ID: s.id(a.word(0))}
	case "apply":
		c.Apply = &ApplySet{
			Set: a.word(0), Config: parseConfig(s.t, lines), Why: strings.ReplaceAll(a.keys["why"], "_", " "),
			ConfirmWithin: a.delay("within", 0), Homes: s.homesOf(a.keys["homes"]),
		}
	case "rollback": // rollback REVISION
		old, ok := s.table.Applied(Revision(a.atoi(0)))
		if !ok {
			s.t.Fatalf("no revision %s", a.word(0))
		}
		c.Apply = &ApplySet{Set: old.Set, Config: old.Config, Why: "rollback to revision " + a.word(0)}
	case "ramp": // ramp STEP SINCE ADDR:PORT...
		c.Ramp = &Ramp{}
		for _, word := range a.words[2:] {
			for _, info := range s.table.Targets() {
				if info.Server == parseAddrPort(word) {
					c.Ramp.Steps = append(c.Ramp.Steps, RampStep{info.Target, Revision(a.atoi(1)), a.atoi(0)})
				}
			}
		}
	case "confirm":
		c.Confirm = &Confirm{Revision: Revision(a.atoi(0))}
	case "undo":
		c.Undo = &Undo{Revision: Revision(a.atoi(0)), Late: a.word(1) == "late"}
	case "vote":
		c.Votes = s.votes(a)
	case "override":
		c.Override = &SetOverride{Server: parseAddrPort(a.word(0)), State: AdminState(a.keys["state"]), Over: a.keys["over"] != ""}
		c.Override.Within = a.delay("within", 0)
		if c.Override.Over {
			c.Override.Since = epoch.Add(a.delay("over", 0).D())
		}
		if a.keys["of"] != "" {
			c.Override.Service = parseKey(s.t, a.keys["of"])
		}
		if a.keys["weight"] != "" {
			weight := a.number("weight", 0)
			c.Override.Weight = &weight
		}
	case "settings":
		c.Settings = a.settings()
	case "move":
		u, _ := s.table.UnitByName(a.word(0))
		c.Move = &Move{Unit: u.ID, To: s.id(a.word(1)), Pin: a.keys["pin"] == "yes", Unpin: a.keys["unpin"] == "yes"}
	case "owner":
		u, _ := s.table.UnitByName(a.word(0))
		c.Ownership = &Ownership{Router: u.ID, Member: s.id(a.word(1)), Owns: a.word(2) == "took", Why: strings.Join(a.words[3:], " ")}
	case "nothing":
	default:
		s.t.Fatalf("unknown verb %q", a.verb)
	}
	return c
}

// homesOf: "VI_1@dir2,VI_2@dir1".
func (s *story) homesOf(text string) map[string]MemberID {
	if text == "" {
		return nil
	}
	homes := map[string]MemberID{}
	for _, pair := range strings.Split(text, ",") {
		unit, name, _ := strings.Cut(pair, "@")
		homes[unit] = s.id(name)
	}
	return homes
}

// settings: "settings [PROFILE] [guard=] [spares=] [fail-back=] [fail-back-after=]".
func (a args) settings() *SetSettings {
	c := &SetSettings{Profile: a.word(0), FailBack: FailBack(a.keys["fail-back"]), Health: HealthPolicy(a.keys["health"]), FlapDamping: Damping(a.keys["flap-damping"])}
	if a.keys["guard"] != "" {
		d := a.delay("guard", 0)
		c.Guard = &d
	}
	if a.keys["fail-back-after"] != "" {
		d := a.delay("fail-back-after", 0)
		c.FailBackAfter = &d
	}
	if a.keys["spares"] != "" {
		n := a.number("spares", 0)
		c.Spares = &n
	}
	return c
}

// networks: "PREFIX@MAC,PREFIX", or "none".
func (a args) networks(text string) *[]Network {
	all := []Network{}
	for _, s := range strings.Split(text, ",") {
		if s == "none" {
			continue
		}
		prefix, mac, _ := strings.Cut(s, "@")
		p, _ := netip.ParsePrefix(prefix)
		all = append(all, Network{Prefix: p, MAC: mac})
	}
	return &all
}

// votes: "vote dir1 SERVER=up SERVER=down:detail" on all targets of the server,
// or on an unknown target.
func (s *story) votes(a args) *CastVotes {
	v := &CastVotes{Member: s.id(a.word(0))}
	for _, server := range sortedKeys(a.keys) {
		addr := parseAddrPort(server)
		if !addr.IsValid() && !strings.HasPrefix(server, "unknown") {
			continue
		}
		word, detail, _ := strings.Cut(a.keys[server], ":")
		word, weight, weighs := strings.Cut(word, "@")
		vote := Vote{Up: word == "up", Detail: strings.ReplaceAll(detail, "_", " ")}
		if weighs {
			n, err := strconv.Atoi(weight)
			if err != nil {
				s.t.Fatal(err)
			}
			if vote.Weighs = (Weighing{1, n}); weight[0] == '+' || weight[0] == '-' {
				vote.Weighs.Times = 0 // a file's, which is added
			}
		}
		if !addr.IsValid() {
			v.Opinions = append(v.Opinions, Opinion{Target(server), vote})
		}
		for _, info := range s.table.Targets() {
			if info.Server == addr {
				v.Opinions = append(v.Opinions, Opinion{info.Target, vote})
			}
		}
	}
	return v
}

// parseConfig reads lines "globals", "router", "service" and, below a service,
// "server".
func parseConfig(t *testing.T, lines []string) Config {
	var cfg Config
	for _, line := range lines {
		a := parseArgs(t, line)
		switch a.verb {
		case "globals":
			cfg.Globals.RouterID = a.keys["router_id"]
			if a.keys["mail"] != "" {
				cfg.Globals.NotificationEmail = strings.Split(a.keys["mail"], ",")
			}
		case "ipvs":
			cfg.Globals.IPVS = a.ipvs()
		case "router":
			cfg.Routers = append(cfg.Routers, a.router())
		case "group":
			cfg.Groups = append(cfg.Groups, SyncGroup{Name: a.word(0), Routers: a.words[min(1, len(a.words)):]})
		case "routers": // routers VI 1 9: VI_1 to VI_9
			for i := a.atoi(1); i <= a.atoi(2); i++ {
				line := fmt.Sprintf("router %s_%d eth0 %d 10.1.0.%d", a.word(0), i, i, i)
				cfg.Routers = append(cfg.Routers, parseArgs(t, line).router())
			}
		case "track":
			r := &cfg.Routers[len(cfg.Routers)-1]
			r.Track = append(r.Track, a.tracker())
		case "notify":
			cfg.Routers[len(cfg.Routers)-1].Notify.Any = &Script{strings.ReplaceAll(a.word(0), "~", " "), a.keys["user"]}
		case "service":
			cfg.Services = append(cfg.Services, a.service())
		case "server":
			v := &cfg.Services[len(cfg.Services)-1]
			v.RealServers = append(v.RealServers, a.server())
		default:
			t.Fatalf("unknown config line %q", line)
		}
	}
	return cfg
}

// ipvs: "ipvs [sync=IFACE] [id=] [inst=] [group=] [maxlen=] [tcp=] [tcpfin=] [udp=] [SYSCTL=VALUE]".
func (a args) ipvs() IPVS {
	v := IPVS{TCPTimeout: a.delay("tcp", 0), TCPFINTimeout: a.delay("tcpfin", 0), UDPTimeout: a.delay("udp", 0)}
	if dev, ok := a.keys["sync"]; ok {
		v.Sync = &ConnSync{Interface: dev, Instance: a.keys["inst"], ID: uint8(a.number("id", 0)), MaxLen: uint16(a.number("maxlen", 0))}
		v.Sync.Group, _ = netip.ParseAddr(a.keys["group"])
	}
	known := map[string]bool{"sync": true, "inst": true, "id": true, "maxlen": true, "group": true, "tcp": true, "tcpfin": true, "udp": true}
	for k, value := range a.keys {
		if known[k] {
			continue
		}
		if v.Sysctls == nil {
			v.Sysctls = map[string]string{}
		}
		v.Sysctls[k] = strings.ReplaceAll(value, "~", " ")
	}
	return v
}

func dumpIPVS(v IPVS) string {
	var l list
	l.ipvs(v)
	var b strings.Builder
	for _, f := range l {
		fmt.Fprintln(&b, f.name, f.value)
	}
	return b.String()
}

// router: "router NAME IFACE VRID ADDR,ADDR".
func (a args) router() Router {
	vrid, _ := strconv.Atoi(a.word(2))
	r := Router{
		Name: a.word(0), Interface: a.word(1), VRID: uint8(vrid), Priority: uint8(a.number("prio", 100)),
		Version: uint8(a.number("version", 2)), AdvertInterval: a.delay("advert", time.Second),
		AuthPass: a.keys["pass"], Initial: a.keys["state"],
	}
	for _, s := range strings.Split(a.word(3), ",") {
		if s == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(s)
		if addr, err2 := netip.ParseAddr(s); err2 == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			prefix = netip.Prefix{}
		}
		r.Addresses = append(r.Addresses, Address{Prefix: prefix, Dev: a.keys["dev"], Label: a.keys["label"]})
	}
	return r
}

// tracker: "track KIND NAME [weight=] [run=] [path=] [process=] ...".
func (a args) tracker() Tracker {
	return Tracker{
		Kind: TrackKind(a.word(0)), Name: a.word(1), Weight: a.number("weight", 0),
		Command: strings.ReplaceAll(a.keys["run"], "~", " "), Interval: a.delay("interval", 0),
		Rise: a.number("rise", 0), Fall: a.number("fall", 0), Path: a.keys["path"], Process: a.keys["process"],
		Quorum: a.number("quorum", 0), QuorumMax: a.number("quorum_max", 0), User: a.keys["user"],
	}
}

func (a args) atoi(i int) int {
	n, err := strconv.Atoi(a.word(i))
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

// service: "service KEY SCHEDULER".
func (a args) service() VirtualServer {
	v := VirtualServer{
		ServiceKey: parseKey(a.t, a.word(0)), Scheduler: a.word(1), Method: DirectRouting,
		Persistence: a.delay("persist", 0), PersistenceMask: uint8(a.number("mask", 0)),
	}
	if a.keys["method"] != "" {
		v.Method = Method(a.keys["method"])
	}
	v.PersistenceEngine, v.Group = a.keys["engine"], a.keys["group"]
	v.OnePacket, v.HashPort, v.HashFallback = a.keys["ops"] == "yes", a.keys["hash_port"] == "yes", a.keys["hash_fallback"] == "yes"
	v.Panic = uint8(a.number("panic", 0))
	v.SlowStart = a.delay("slow", 0)
	v.Quorum, v.Hysteresis = uint32(a.number("quorum", 0)), uint32(a.number("hysteresis", 0))
	if sorry := a.keys["sorry"]; sorry != "" {
		at := parseAddrPort(sorry)
		v.Sorry = &SorryServer{Addr: at.Addr(), Port: at.Port(), Inhibit: a.keys["sorry_inhibit"] == "yes"}
	}
	for _, word := range a.words[2:] {
		v.Matches = append(v.Matches, parseMatch(word))
	}
	return v
}

// parseMatch: "tcp,10.0.0.0/24" or "tcp,10.0.0.1/32,80,90".
func parseMatch(s string) Match {
	words := append(strings.Split(s, ","), "0", "0")
	from, _ := strconv.ParseUint(words[2], 10, 16)
	to, _ := strconv.ParseUint(words[3], 10, 16)
	prefix, _ := netip.ParsePrefix(words[1])
	return Match{Addr: prefix, Protocol: Protocol(words[0]), FromPort: uint16(from), ToPort: uint16(to)}
}

// server: "server ADDR:PORT [tcp]...", each tcp one check.
func (a args) server() RealServer {
	addr := parseAddrPort(a.word(0))
	r := RealServer{
		Addr: addr.Addr(), Port: addr.Port(), Weight: a.number("weight", 1), Inhibit: a.keys["inhibit"] == "yes", Backup: a.keys["backup"] == "yes",
		UpperThreshold: uint32(a.number("upper", 0)), LowerThreshold: uint32(a.number("lower", 0)),
		Method: Method(a.keys["method"]),
	}
	for _, kind := range a.words[1:] {
		c := Check{
			Kind: CheckKind(kind), Dest: addr, ConnectTimeout: a.delay("timeout", 3*time.Second),
			Retry: a.number("retry", 3), DelayBeforeRetry: Duration(3 * time.Second),
			DelayLoop: a.delay("loop", 6*time.Second), Warmup: a.delay("warmup", 6*time.Second), Alpha: a.keys["alpha"] == "yes", DSR: a.keys["dsr"] == "yes",
		}
		if a.keys["dest"] != "" {
			c.Dest = parseAddrPort(a.keys["dest"])
		}
		if c.Kind == CheckFile {
			c.Dest = netip.AddrPortFrom(addr.Addr(), 0)
			c.File = &FileCheck{Path: strings.ReplaceAll(a.keys["path"], "~", " "), Weight: a.number("times", 0)}
		}
		if c.Kind == CheckMisc {
			c.Dest = netip.AddrPortFrom(addr.Addr(), 0)
			c.Script = &ScriptCheck{Script: Script{Command: "/bin/load"}, Timeout: Duration(time.Second), Dynamic: a.keys["dynamic"] == "yes"}
		}
		r.Checks = append(r.Checks, c)
	}
	return r
}
