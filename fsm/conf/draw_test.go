package conf

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// drawConfig draws a configuration that package fsm finds valid.
func drawConfig(t *rapid.T) fsm.Config {
	var cfg fsm.Config
	if rapid.Bool().Draw(t, "globals") {
		cfg.Globals = drawGlobals(t)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "routers") {
		cfg.Routers = append(cfg.Routers, drawRouter(t, i))
	}
	if len(cfg.Routers) > 1 && rapid.Bool().Draw(t, "group") {
		cfg.Groups = append(cfg.Groups, fsm.SyncGroup{
			Name: "g", Routers: []string{"VI_0", "VI_1"}, Track: drawTrack(t), Notify: drawNotify(t), Alert: rapid.Bool().Draw(t, "alert"),
		})
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "services") {
		cfg.Services = append(cfg.Services, drawService(t, i))
	}
	if bad := fsm.ValidateConfig(cfg); len(bad) > 0 {
		t.Fatalf("drew what is not valid: %v", bad)
	}
	return cfg
}

func text(t *rapid.T, label string) string {
	return rapid.StringMatching(`[a-zA-Z0-9@.:+_-]{1,8}`).Draw(t, label)
}

func micros(t *rapid.T, label string, low, high time.Duration) fsm.Duration {
	return fsm.Duration(rapid.Int64Range(low.Microseconds(), high.Microseconds()).Draw(t, label) * 1000)
}

func drawGlobals(t *rapid.T) fsm.Globals {
	g := fsm.Globals{
		RouterID: text(t, "id"), EmailFrom: text(t, "from"),
		SMTPServer: rapid.SampledFrom([]string{"", "127.0.0.1", "mail:25"}).Draw(t, "smtp"), SMTPTimeout: micros(t, "timeout", time.Second, time.Minute),
		SkipCheckAdvAddr: rapid.Bool().Draw(t, "skip"), GARPInterval: micros(t, "garp", 0, time.Second), GNAInterval: micros(t, "gna", 0, time.Second),
	}
	wholeSeconds := func(label string) fsm.Duration {
		return fsm.Duration(rapid.IntRange(0, 3600).Draw(t, label)) * fsm.Duration(time.Second)
	}
	g.IPVS = fsm.IPVS{TCPTimeout: wholeSeconds("tcp"), TCPFINTimeout: wholeSeconds("tcpfin"), UDPTimeout: wholeSeconds("udp")}
	if rapid.Bool().Draw(t, "sync") {
		g.IPVS.Sync = &fsm.ConnSync{
			Interface: rapid.SampledFrom([]string{"eth1", "id", "bond0.7"}).Draw(t, "dev"), ID: rapid.Uint8().Draw(t, "syncid"),
			Port: rapid.Uint16().Draw(t, "port"), TTL: rapid.Uint8().Draw(t, "ttl"), MaxLen: rapid.Uint16Range(0, 65507).Draw(t, "maxlen"),
		}
		if group := rapid.SampledFrom([]string{"", "224.0.0.81", "ff02::81"}).Draw(t, "group"); group != "" {
			g.IPVS.Sync.Group = netip.MustParseAddr(group)
		}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "mails") {
		g.NotificationEmail = append(g.NotificationEmail, fmt.Sprintf("u%d@example", i))
	}
	g.SMTPHelo, g.NoEmailFaults = rapid.SampledFrom([]string{"", "lb.example"}).Draw(t, "helo"), rapid.Bool().Draw(t, "no faults")
	fifo := func(i int) *fsm.FIFO {
		if rapid.IntRange(0, 2).Draw(t, "fifo") > 0 {
			return nil
		}
		return &fsm.FIFO{Path: fmt.Sprintf("/run/f%d", i), User: rapid.SampledFrom([]string{"", "u", "u:g"}).Draw(t, "owner"), Script: drawScript(t, "reader")}
	}
	g.FIFOs = fsm.FIFOs{All: fifo(0), VRRP: fifo(1), LVS: fifo(2)}
	return g
}

func drawRouter(t *rapid.T, i int) fsm.Router {
	r := fsm.Router{
		Name: fmt.Sprintf("VI_%d", i), Interface: rapid.SampledFrom([]string{"eth0", "bond0.7"}).Draw(t, "if"), VRID: uint8(i + 1),
		Priority: rapid.Uint8Range(1, 255).Draw(t, "priority"), Version: 2,
		Initial:        rapid.SampledFrom([]string{"", "MASTER", "BACKUP"}).Draw(t, "initial"),
		AdvertInterval: fsm.Duration(time.Duration(rapid.IntRange(1, 255).Draw(t, "advert")) * time.Second),
		AuthPass:       rapid.StringMatching(`[ -!#-~]{0,8}`).Draw(t, "pass"),
	}
	for j := range rapid.IntRange(1, 3).Draw(t, "addresses") {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i), byte(j + 1)})
		r.Addresses = append(r.Addresses, fsm.Address{
			Prefix: netip.PrefixFrom(a, rapid.IntRange(1, 32).Draw(t, "length")),
			Dev:    rapid.SampledFrom([]string{"", "eth1"}).Draw(t, "dev"), Label: rapid.SampledFrom([]string{"", "eth1:5"}).Draw(t, "label"),
		})
	}
	if rapid.IntRange(0, 3).Draw(t, "six") == 0 {
		r.Version, r.AuthPass = 3, ""
		for j := range r.Addresses {
			a := netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%d", i, j+1))
			r.Addresses[j].Prefix = netip.PrefixFrom(a, rapid.IntRange(1, 128).Draw(t, "length6"))
		}
		r.AdvertInterval = fsm.Duration(10*time.Millisecond) * fsm.Duration(rapid.IntRange(1, 4095).Draw(t, "centiseconds"))
	}
	r.Peering = drawPeering(t, r)
	if rapid.IntRange(0, 3).Draw(t, "vmac") == 0 {
		r.VMAC = &fsm.VMAC{Name: rapid.SampledFrom([]string{"", fmt.Sprintf("vip%d", i)}).Draw(t, "vmac name"), XmitBase: rapid.Bool().Draw(t, "xmit_base")}
	}
	if n := len(r.Addresses); n > 1 {
		r.Addresses[n-1].Excluded = rapid.Bool().Draw(t, "excluded")
	}
	r.Track, r.Notify, r.Alert = drawTrack(t), drawNotify(t), rapid.Bool().Draw(t, "alert")
	return r
}

func drawPeering(t *rapid.T, r fsm.Router) fsm.Peering {
	var p fsm.Peering
	if rapid.Bool().Draw(t, "no peering") {
		return p
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "peers") {
		a := netip.AddrFrom4([4]byte{10, 9, 9, byte(i + 1)})
		if r.Version == 3 {
			a = netip.MustParseAddr(fmt.Sprintf("fe80::%d", i+1))
		}
		p.Peers = append(p.Peers, fsm.Peer{Addr: a})
	}
	if p.Unicast = len(p.Peers) > 0 && rapid.Bool().Draw(t, "unicast"); p.Unicast {
		p.Peers[0].MinTTL, p.Peers[0].MaxTTL = rapid.Uint8Range(0, 9).Draw(t, "min_ttl"), rapid.Uint8Range(9, 255).Draw(t, "max_ttl")
	}
	if rapid.Bool().Draw(t, "garp") {
		p.GARP = fsm.GARP{MasterRepeat: rapid.IntRange(1, 9).Draw(t, "repeat"), MasterDelay: micros(t, "delay", 0, time.Minute), Refresh: micros(t, "refresh", 0, time.Minute),
			RefreshRepeat: 1, LowerPrioRepeat: 2, LowerPrioDelay: micros(t, "lower", 0, time.Minute)}
	}
	if r.Initial != "MASTER" {
		if p.NoPreempt = rapid.Bool().Draw(t, "nopreempt"); !p.NoPreempt {
			p.PreemptDelay = micros(t, "preempt_delay", 0, time.Minute)
		}
	}
	p.DownTimerAdverts = rapid.IntRange(0, 100).Draw(t, "down")
	p.LowerPrioNoAdvert, p.HigherPrioSendAdvert = rapid.Bool().Draw(t, "lower"), rapid.Bool().Draw(t, "higher")
	p.SkipCheckAdvAddr = rapid.Bool().Draw(t, "skip")
	return p
}

// drawTrack draws trackers; what one name means is the same in each draw.
func drawTrack(t *rapid.T) []fsm.Tracker {
	var list []fsm.Tracker
	for _, k := range []fsm.Tracker{
		{Kind: fsm.TrackInterface, Name: "eth0"},
		{Kind: fsm.TrackInterface, Name: "bond0.7"},
		{Kind: fsm.TrackScript, Name: "s", Command: "/bin/x 'a b' c", Interval: fsm.Duration(time.Second), Timeout: fsm.Duration(1500 * time.Millisecond),
			Rise: 2, Fall: 3, User: "nobody:daemon", InitFail: true},
		{Kind: fsm.TrackScript, Name: "t-2", Command: "true", Interval: fsm.Duration(time.Millisecond), Timeout: fsm.Duration(time.Millisecond), Rise: 1, Fall: 1},
		{Kind: fsm.TrackFile, Name: "f", Path: "/run/x y"},
		{Kind: fsm.TrackProcess, Name: "p", Process: "nginx", Quorum: 1},
		{Kind: fsm.TrackProcess, Name: "q", Process: "'/opt/a b' -x 'c d'", Quorum: 2, QuorumMax: 5, FullCommand: true,
			StartupDelay: fsm.Duration(time.Second), TerminDelay: fsm.Duration(2 * time.Second)},
		{Kind: fsm.TrackProcess, Name: "none", Process: "gone", QuorumMax: -1},
	} {
		if !rapid.Bool().Draw(t, k.Name) {
			continue
		}
		k.Weight, k.Reverse = rapid.IntRange(-253, 253).Draw(t, "weight"), rapid.Bool().Draw(t, "reverse")
		list = append(list, k)
	}
	return list
}

func drawScript(t *rapid.T, label string) *fsm.Script {
	if !rapid.Bool().Draw(t, label) {
		return nil
	}
	return &fsm.Script{Command: rapid.SampledFrom([]string{"/x", "/x y 'z z'"}).Draw(t, "command"), User: rapid.SampledFrom([]string{"", "u", "u:g"}).Draw(t, "user")}
}

func drawUpDown(t *rapid.T) fsm.UpDown {
	return fsm.UpDown{Up: drawScript(t, "up"), Down: drawScript(t, "down")}
}

func drawNotify(t *rapid.T) fsm.Notify {
	one := func(label string) *fsm.Script { return drawScript(t, label) }
	return fsm.Notify{Master: one("master"), Backup: one("backup"), Fault: one("fault"), Stop: one("stop"), Any: one("any")}
}

func drawService(t *rapid.T, i int) fsm.VirtualServer {
	s := fsm.VirtualServer{
		ServiceKey: drawKey(t, i),
		Scheduler:  rapid.SampledFrom(fsm.Schedulers).Draw(t, "scheduler"), Method: rapid.SampledFrom(fsm.Methods).Draw(t, "method"),
		Alert: rapid.Bool().Draw(t, "alert"), Notify: drawUpDown(t),
	}
	if rapid.Bool().Draw(t, "persistent") || s.Mark == 0 && s.Port == 0 {
		s.Persistence = fsm.Duration(time.Duration(rapid.IntRange(1, 3600).Draw(t, "persistence")) * time.Second)
		s.PersistenceMask = rapid.Uint8Range(1, uint8(s.BitLen())).Draw(t, "mask")
		if s.Mark != 0 || s.Protocol == fsm.UDP {
			s.PersistenceEngine = rapid.SampledFrom([]string{"", fsm.EngineSIP}).Draw(t, "engine")
		}
	}
	if s.Scheduler == "sh" || s.Scheduler == "mh" {
		s.HashPort, s.HashFallback = rapid.Bool().Draw(t, "hash port"), rapid.Bool().Draw(t, "hash fallback")
	}
	s.OnePacket = (s.Mark != 0 || s.Protocol == fsm.UDP) && rapid.Bool().Draw(t, "ops")
	for j := range rapid.IntRange(0, 3).Draw(t, "servers") {
		a := netip.AddrFrom4([4]byte{10, 3, byte(i), byte(j + 1)})
		if s.Is6() {
			a = netip.MustParseAddr(fmt.Sprintf("2001:db8:3:%d::%d", i, j+1))
		}
		s.RealServers = append(s.RealServers, drawServer(t, a, s))
	}
	drawPool(t, i, &s)
	return s
}

// drawPool draws a quorum that the real servers can reach, and a sorry server.
func drawPool(t *rapid.T, i int, s *fsm.VirtualServer) {
	sum := 0
	for _, r := range s.RealServers {
		if !r.Backup {
			sum += r.Weight
		}
	}
	if sum >= 2 && rapid.Bool().Draw(t, "quorum") {
		s.Quorum = uint32(rapid.IntRange(2, sum).Draw(t, "how many"))
		s.Hysteresis = uint32(rapid.IntRange(0, int(s.Quorum)-1).Draw(t, "hysteresis"))
	}
	if !rapid.Bool().Draw(t, "sorry") {
		return
	}
	a := netip.AddrFrom4([4]byte{10, 6, byte(i), 1})
	if s.Is6() {
		a = netip.MustParseAddr("2001:db8:6::1")
	}
	s.Sorry = &fsm.SorryServer{Addr: a, Port: s.Port, Inhibit: rapid.Bool().Draw(t, "sorry inhibit")}
	if m := rapid.SampledFrom(fsm.Methods).Draw(t, "sorry method"); m != s.Method {
		s.Sorry.Method = m
	}
	if cmp.Or(s.Sorry.Method, s.Method) == fsm.Masquerade {
		s.Sorry.Port = rapid.Uint16Range(1, 65535).Draw(t, "sorry port")
	}
}

func drawKey(t *rapid.T, i int) fsm.ServiceKey {
	if rapid.IntRange(0, 4).Draw(t, "marked") == 0 {
		return fsm.ServiceKey{Mark: rapid.Uint32Range(1, 1000).Draw(t, "mark")*100 + uint32(i), V6: rapid.Bool().Draw(t, "v6")}
	}
	k := fsm.ServiceKey{Addr: netip.AddrFrom4([4]byte{10, 2, 0, byte(i + 1)}), Port: rapid.Uint16().Draw(t, "port"),
		Protocol: rapid.SampledFrom(fsm.Protocols).Draw(t, "protocol")}
	if rapid.IntRange(0, 2).Draw(t, "v6") == 0 {
		k.Addr = netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%d", i+1))
	}
	return k
}

// drawServer gives the server a method of its own, a port that it allows, and an
// address of the other family behind a tunnel.
func drawServer(t *rapid.T, a netip.Addr, v fsm.VirtualServer) fsm.RealServer {
	r := fsm.RealServer{Addr: a, Port: v.Port, Weight: rapid.IntRange(0, 65535).Draw(t, "weight"), Inhibit: rapid.Bool().Draw(t, "inhibit"), NoAlert: rapid.Bool().Draw(t, "no alert"),
		Backup: len(v.RealServers) > 0 && rapid.Bool().Draw(t, "backup"), Notify: drawUpDown(t)}
	if m := rapid.SampledFrom(fsm.Methods).Draw(t, "method"); m != v.Method && rapid.Bool().Draw(t, "own method") {
		r.Method = m
	}
	switch {
	case v.MethodOf(r) == fsm.Masquerade && (v.Port != 0 || v.Mark != 0):
		r.Port = rapid.Uint16Range(1, 65535).Draw(t, "server port")
	case v.MethodOf(r) == fsm.Tunnel && a.Is4() && rapid.Bool().Draw(t, "other family"):
		b := a.As4()
		r.Addr = netip.MustParseAddr(fmt.Sprintf("2001:db8:9:%d::%d", b[2], b[3]))
	}
	r.UpperThreshold = rapid.Uint32().Draw(t, "upper")
	r.LowerThreshold = rapid.Uint32Range(0, r.UpperThreshold).Draw(t, "lower")
	for range rapid.IntRange(0, 2).Draw(t, "checks") {
		at := r.AddrPort()
		if at.Port() == 0 {
			at = netip.AddrPortFrom(r.Addr, 8080)
		}
		c := drawCheck(t, at)
		web := c.Kind == fsm.CheckTCP || c.Kind == fsm.CheckHTTP || c.Kind == fsm.CheckHTTPS
		if m := v.MethodOf(r); web && v.Mark == 0 && v.Protocol == fsm.TCP && v.Group == "" && m != fsm.Masquerade && v.Is6() == r.Addr.Is6() && rapid.Bool().Draw(t, "dsr") {
			c.DSR, c.Dest, c.Bind, c.BindPort, c.BindIf, c.Mark = true, netip.AddrPortFrom(v.Addr, cmp.Or(v.Port, 8080)), netip.Addr{}, 0, "", 0
		}
		r.Checks = append(r.Checks, c)
	}
	return r
}

func drawCheck(t *rapid.T, server netip.AddrPort) fsm.Check {
	c := fsm.Check{
		Kind: rapid.SampledFrom(fsm.CheckKinds).Draw(t, "kind"), Dest: server, ConnectTimeout: micros(t, "connect", time.Millisecond, time.Minute), Retry: rapid.IntRange(0, 10).Draw(t, "retry"),
		DelayBeforeRetry: micros(t, "before", 0, time.Minute), DelayLoop: micros(t, "loop", time.Millisecond, time.Hour),
		Warmup: micros(t, "warmup", 0, time.Hour),
	}
	if rapid.Bool().Draw(t, "elsewhere") {
		c.Dest = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 4, 4, 4}), rapid.Uint16Range(1, 65535).Draw(t, "destport"))
		c.Bind = netip.AddrFrom4([4]byte{10, 5, 5, 5})
		c.BindPort, c.BindIf, c.Mark = rapid.Uint16().Draw(t, "bindport"), rapid.SampledFrom([]string{"", "eth0"}).Draw(t, "bindif"), rapid.Uint32().Draw(t, "mark")
	}
	c.Alpha = rapid.Bool().Draw(t, "alpha")
	drawQuestion(t, &c)
	if !c.Ported() {
		c.Dest = netip.AddrPortFrom(c.Dest.Addr(), 0)
	}
	if c.Kind == fsm.CheckFile { // keepalived.conf has no timers for it
		fileTimers(&c)
		c.Dest, c.Bind, c.BindPort, c.BindIf, c.Mark = netip.AddrPortFrom(server.Addr(), 0), netip.Addr{}, 0, "", 0
	}
	if c.Kind == fsm.CheckMisc { // connects to nothing
		c.Dest, c.ConnectTimeout = netip.AddrPortFrom(server.Addr(), 0), fsm.Duration(5*time.Second)
		c.Bind, c.BindPort, c.BindIf, c.Mark = netip.Addr{}, 0, "", 0
	}
	return c
}

// drawQuestion draws what the kind asks.
func drawQuestion(t *rapid.T, c *fsm.Check) {
	host := func(label string) string {
		return rapid.SampledFrom([]string{"", "example.com", "a-b.c"}).Draw(t, label)
	}
	switch c.Kind {
	case fsm.CheckHTTP, fsm.CheckHTTPS:
		c.HTTP = &fsm.HTTPCheck{
			Protocol: rapid.SampledFrom([]string{"1.0", "1.0C", "1.1"}).Draw(t, "protocol"),
			SNI:      c.Kind == fsm.CheckHTTPS && rapid.Bool().Draw(t, "sni"),
		}
		for range rapid.IntRange(1, 3).Draw(t, "urls") {
			u := fsm.HTTPURL{
				Path:        rapid.SampledFrom([]string{"/", "/a?b=c#d", "/%20x"}).Draw(t, "path"),
				VirtualHost: host("host"), Digest: rapid.SampledFrom([]string{"", "d41d8cd98f00b204e9800998ecf8427e"}).Draw(t, "digest"),
				Status: rapid.SampledFrom([][]fsm.StatusRange{{{From: 200, To: 299}}, {{From: 100, To: 100}, {From: 404, To: 599}}}).Draw(t, "status"),
				Regex:  rapid.SampledFrom([]string{"", "ok", `^a\d+ "b" \\`, "(?is)x.y", "(?m)^z"}).Draw(t, "regex"),
			}
			if u.Regex != "" {
				u.NoMatch, u.MinOffset = rapid.Bool().Draw(t, "no match"), rapid.IntRange(0, 9).Draw(t, "min")
				u.MaxOffset = rapid.SampledFrom([]int{0, u.MinOffset + 1}).Draw(t, "max")
			}
			c.HTTP.URLs = append(c.HTTP.URLs, u)
		}
	case fsm.CheckSMTP:
		c.Helo = rapid.SampledFrom([]string{"smtpchecker.keepalived.org", "a.b"}).Draw(t, "helo")
	case fsm.CheckDNS:
		c.DNS = &fsm.DNSCheck{Type: rapid.SampledFrom(fsm.DNSTypes).Draw(t, "type"), Name: rapid.SampledFrom([]string{".", "example.com", "x."}).Draw(t, "name")}
	case fsm.CheckUDP:
		c.UDP = &fsm.UDPCheck{Payload: rapid.SampledFrom([]string{"", "00ff"}).Draw(t, "payload")}
		if c.UDP.Reply = rapid.Bool().Draw(t, "reply"); c.UDP.Reply {
			c.UDP.Expect = rapid.SampledFrom([]string{"", "01xxx2"}).Draw(t, "expect")
			c.UDP.MaxLength = rapid.IntRange(c.UDP.MinLength, 65535).Draw(t, "longest")
		}
	case fsm.CheckFile:
		c.File = &fsm.FileCheck{
			Path: rapid.SampledFrom([]string{"/run/load", "/run/x y"}).Draw(t, "path"), Weight: rapid.IntRange(-65535, 65535).Draw(t, "times"),
			Reverse: rapid.Bool().Draw(t, "reversed"),
		}
	case fsm.CheckMisc:
		c.Script = &fsm.ScriptCheck{
			Script:  fsm.Script{Command: rapid.SampledFrom([]string{"/bin/true", `/x a b c\ d`}).Draw(t, "command"), User: rapid.SampledFrom([]string{"", "nobody", "a:b"}).Draw(t, "user")},
			Timeout: fsm.Duration(time.Duration(rapid.IntRange(1, 100).Draw(t, "timeout")) * time.Second),
			Dynamic: rapid.Bool().Draw(t, "dynamic"),
		}
	}
}
