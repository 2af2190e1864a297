package conf

import (
	"fmt"

	"lbcluster/fsm"
)

// yamlPeering is a router's behaviour toward VRRP peers.
type yamlPeering struct {
	Peers                []yamlPeer `yaml:"peers,omitempty"`
	Unicast              bool       `yaml:"unicast,omitempty"` // false: multicast
	Source               string     `yaml:"source,omitempty"`
	NoPreempt            bool       `yaml:"nopreempt,omitempty"`
	PreemptDelay         string     `yaml:"preempt_delay,omitempty"`
	DownTimerAdverts     *int       `yaml:"down_timer_adverts,omitempty"` // 3
	StartupDelay         string     `yaml:"startup_delay,omitempty"`
	LowerPrioNoAdvert    bool       `yaml:"lower_prio_no_advert,omitempty"`
	HigherPrioSendAdvert bool       `yaml:"higher_prio_send_advert,omitempty"`
	SkipCheckAdvAddr     bool       `yaml:"skip_check_adv_addr,omitempty"`
	V3ChecksumAsV2       bool       `yaml:"v3_checksum_as_v2,omitempty"`
	Strict               bool       `yaml:"strict_mode,omitempty"`
	GARP                 *yamlGARP  `yaml:"garp,omitempty"`
}

type yamlPeer struct {
	Addr   string `yaml:"addr"`
	MinTTL *int   `yaml:"min_ttl,omitempty"`
	MaxTTL *int   `yaml:"max_ttl,omitempty"`
}

type yamlGARP struct {
	MasterRepeat    *int   `yaml:"master_repeat,omitempty"` // 5
	MasterDelay     string `yaml:"master_delay,omitempty"`  // none
	Refresh         string `yaml:"refresh,omitempty"`
	RefreshRepeat   *int   `yaml:"refresh_repeat,omitempty"`    // 1
	LowerPrioRepeat *int   `yaml:"lower_prio_repeat,omitempty"` // 5
	LowerPrioDelay  string `yaml:"lower_prio_delay,omitempty"`  // none
}

func (y *yamlReader) peering(path string, p *yamlPeering) fsm.Peering {
	if p == nil {
		return fsm.Peering{}
	}
	out := fsm.Peering{
		Unicast: p.Unicast, NoPreempt: p.NoPreempt, LowerPrioNoAdvert: p.LowerPrioNoAdvert,
		HigherPrioSendAdvert: p.HigherPrioSendAdvert, SkipCheckAdvAddr: p.SkipCheckAdvAddr,
		V3ChecksumAsV2: p.V3ChecksumAsV2, Strict: p.Strict,
		PreemptDelay:     y.duration(path+".preempt_delay", p.PreemptDelay, 0),
		StartupDelay:     y.duration(path+".startup_delay", p.StartupDelay, 0),
		DownTimerAdverts: y.bounded(path+".down_timer_adverts", p.DownTimerAdverts, 0, 1, 100),
	}
	if p.Source != "" {
		a, err := address(p.Source)
		if err != nil {
			y.wrong(path+".source", "%v", err)
		}
		out.Source = a
	}
	for i, o := range p.Peers {
		at := fmt.Sprintf("%s.peers[%d]", path, i)
		a, err := address(o.Addr)
		if err != nil {
			y.wrong(at, "%v", err)
		}
		out.Peers = append(out.Peers, fsm.Peer{Addr: a,
			MinTTL: uint8(y.bounded(at+".min_ttl", o.MinTTL, 0, 1, 255)), MaxTTL: uint8(y.bounded(at+".max_ttl", o.MaxTTL, 0, 1, 255))})
	}
	if g := p.GARP; g != nil {
		at := path + ".garp"
		out.GARP = fsm.GARP{
			MasterRepeat:    y.bounded(at+".master_repeat", g.MasterRepeat, 5, 1, 255),
			RefreshRepeat:   y.bounded(at+".refresh_repeat", g.RefreshRepeat, 1, 1, 255),
			LowerPrioRepeat: y.bounded(at+".lower_prio_repeat", g.LowerPrioRepeat, 5, 1, 255),
			MasterDelay:     y.duration(at+".master_delay", g.MasterDelay, 0),
			Refresh:         y.duration(at+".refresh", g.Refresh, 0),
			LowerPrioDelay:  y.duration(at+".lower_prio_delay", g.LowerPrioDelay, 0),
		}
	}
	return out
}

func peeringToYAML(p fsm.Peering) *yamlPeering {
	y := yamlPeering{
		Unicast: p.Unicast, NoPreempt: p.NoPreempt, LowerPrioNoAdvert: p.LowerPrioNoAdvert,
		HigherPrioSendAdvert: p.HigherPrioSendAdvert, SkipCheckAdvAddr: p.SkipCheckAdvAddr,
		V3ChecksumAsV2: p.V3ChecksumAsV2, Strict: p.Strict,
		PreemptDelay: optional(p.PreemptDelay), StartupDelay: optional(p.StartupDelay),
		DownTimerAdverts: unlessZero(p.DownTimerAdverts),
	}
	if p.Source.IsValid() {
		y.Source = p.Source.String()
	}
	for _, o := range p.Peers {
		y.Peers = append(y.Peers, yamlPeer{Addr: o.Addr.String(), MinTTL: unlessZero(int(o.MinTTL)), MaxTTL: unlessZero(int(o.MaxTTL))})
	}
	if g := p.GARP; g != (fsm.GARP{}) {
		y.GARP = &yamlGARP{
			MasterRepeat: ptr(g.MasterRepeat), RefreshRepeat: ptr(g.RefreshRepeat), LowerPrioRepeat: ptr(g.LowerPrioRepeat),
			MasterDelay: optional(g.MasterDelay), Refresh: optional(g.Refresh), LowerPrioDelay: optional(g.LowerPrioDelay),
		}
	}
	if len(p.Peers) == 0 && y.GARP == nil && y.DownTimerAdverts == nil && y.Source+y.PreemptDelay+y.StartupDelay == "" &&
		!(p.Unicast || p.NoPreempt || p.LowerPrioNoAdvert || p.HigherPrioSendAdvert || p.SkipCheckAdvAddr || p.V3ChecksumAsV2 || p.Strict) {
		return nil
	}
	return &y
}

func unlessZero(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}
