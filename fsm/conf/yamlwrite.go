package conf

import (
	"bytes"
	"fmt"
	"net/netip"

	"go.yaml.in/yaml/v3"

	"lbcluster/fsm"
)

// WriteYAML writes a configuration so that [ParseYAML] reads the same back;
// nothing is left to defaults.
func WriteYAML(cfg fsm.Config) ([]byte, error) {
	var f yamlFile
	f.Globals = globalsToYAML(cfg.Globals)
	for _, r := range cfg.Routers {
		f.Routers = append(f.Routers, routerToYAML(r))
	}
	for _, g := range cfg.Groups {
		f.Groups = append(f.Groups, yamlGroup{Name: g.Name, Routers: g.Routers, Track: tracksToYAML(g.Track), Notify: notifyToYAML(g.Notify)})
	}
	for _, s := range cfg.Services {
		f.Services = append(f.Services, serviceToYAML(s))
	}
	alertsToYAML(&f, cfg)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	return b.Bytes(), nil
}

// optional leaves zero out.
func optional(d fsm.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func globalsToYAML(g fsm.Globals) *yamlGlobals {
	y := yamlGlobals{
		RouterID: g.RouterID, NotificationEmail: g.NotificationEmail, EmailFrom: g.EmailFrom,
		SMTPServer: g.SMTPServer, SMTPTimeout: optional(g.SMTPTimeout), NotifyFIFO: fifoToYAML(g.FIFOs.All), VRRPFIFO: fifoToYAML(g.FIFOs.VRRP), LVSFIFO: fifoToYAML(g.FIFOs.LVS),
		SMTPHelo: g.SMTPHelo, NoEmailFaults: g.NoEmailFaults, SkipCheckAdvAddr: g.SkipCheckAdvAddr,
		GARPInterval: optional(g.GARPInterval), GNAInterval: optional(g.GNAInterval),
		IPVS: ipvsToYAML(g.IPVS),
	}
	if y.IPVS == nil && g.FIFOs == (fsm.FIFOs{}) && len(g.NotificationEmail) == 0 && !g.NoEmailFaults && g.RouterID+g.SMTPHelo+g.EmailFrom+y.SMTPServer+y.SMTPTimeout+y.GARPInterval+y.GNAInterval == "" && !g.SkipCheckAdvAddr {
		return nil
	}
	return &y
}

func routerToYAML(r fsm.Router) yamlRouter {
	y := yamlRouter{
		Name: r.Name, Interface: r.Interface, VRID: int(r.VRID), Priority: ptr(int(r.Priority)),
		Version: ptr(int(r.Version)), Initial: r.Initial, AdvertInterval: r.AdvertInterval.String(), AuthPass: r.AuthPass,
		VMAC: vmacToYAML(r.VMAC), Peering: peeringToYAML(r.Peering), Track: tracksToYAML(r.Track), Notify: notifyToYAML(r.Notify),
	}
	for _, a := range r.Addresses {
		y.Addresses = append(y.Addresses, yamlAddress{Prefix: bare(a.Prefix), Dev: a.Dev, Label: a.Label, Excluded: a.Excluded})
	}
	return y
}

// bare writes a prefix without its length where that is the whole address.
func bare(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func serviceToYAML(s fsm.VirtualServer) yamlService {
	y := yamlService{
		Protocol: string(s.Protocol), Method: string(s.Method), Scheduler: s.Scheduler, Persistence: optional(s.Persistence),
		PersistenceEngine: s.PersistenceEngine, Group: s.Group,
		HashPort: s.HashPort, HashFallback: s.HashFallback, OnePacket: s.OnePacket,
		QuorumUp: scriptToYAML(s.Notify.Up), QuorumDown: scriptToYAML(s.Notify.Down),
		Quorum: s.Quorum, Hysteresis: s.Hysteresis, Sorry: sorryToYAML(s), Panic: s.Panic, SlowStart: optional(s.SlowStart),
	}
	if s.Mark != 0 {
		y.Mark, y.Family = s.Mark, map[bool]string{false: "ipv4", true: "ipv6"}[s.V6]
	} else {
		y.Address = netip.AddrPortFrom(s.Addr, s.Port).String()
	}
	for _, m := range s.Matches {
		y.Match = append(y.Match, yamlMatch{Address: bare(m.Addr), Protocol: string(m.Protocol), Ports: m.Ports()})
	}
	if s.Persistence > 0 {
		y.PersistenceMask = ptr(int(meant(s)))
	}
	for _, r := range s.RealServers {
		y.RealServers = append(y.RealServers, serverToYAML(s, r))
	}
	return y
}

func serverToYAML(v fsm.VirtualServer, r fsm.RealServer) yamlServer {
	address := r.Addr.String()
	if r.Port != v.Port {
		address = r.AddrPort().String()
	}
	y := yamlServer{
		Address: address, Method: string(r.Method), Weight: ptr(r.Weight), UpperThreshold: r.UpperThreshold,
		LowerThreshold: r.LowerThreshold, Inhibit: r.Inhibit, Backup: r.Backup,
		NotifyUp: scriptToYAML(r.Notify.Up), NotifyDown: scriptToYAML(r.Notify.Down),
	}
	for _, c := range r.Checks {
		check := yamlCheck{
			Kind: string(c.Kind), Dest: c.Dest.String(), ConnectTimeout: c.ConnectTimeout.String(), Retry: ptr(c.Retry),
			DelayBeforeRetry: c.DelayBeforeRetry.String(), DelayLoop: c.DelayLoop.String(), Warmup: c.Warmup.String(),
		}
		if !c.Ported() {
			check.Dest = c.Dest.Addr().String()
		}
		if c.Bind.IsValid() {
			check.Bind = c.Bind.String()
		}
		questionToYAML(c, &check)
		y.Checks = append(y.Checks, check)
	}
	return y
}
