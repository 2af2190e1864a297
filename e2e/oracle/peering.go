package oracle

import (
	"fmt"
	"strconv"

	"lbcluster/fsm"
)

// fromPeering adds how a router behaves toward VRRP peers.
func fromPeering(f Facts, element string, p fsm.Peering) {
	put := func(field, value string) { f[Fact{element, field}] = value }
	if p.Source.IsValid() {
		put("source address", p.Source.String())
	}
	if p.Unicast {
		for i, peer := range p.Peers {
			put(fmt.Sprintf("unicast_peer %d", i+1), peerText(peer))
		}
	}
	if p.NoPreempt {
		put("preempt", "disabled")
	}
	if p.PreemptDelay > 0 {
		put("preempt_delay", number(p.PreemptDelay))
	}
	if p.DownTimerAdverts > 0 {
		put("down_timer_adverts", fmt.Sprint(p.DownTimerAdverts))
	}
	put("advert after a lower one", strconv.FormatBool(!p.LowerPrioNoAdvert))
	put("advert after a higher one", strconv.FormatBool(p.HigherPrioSendAdvert))
	if p.Strict {
		put("Enforcing strict VRRP compliance", "yes")
	}
	if p.SkipCheckAdvAddr {
		put("Skip checking advert IP addresses", "yes")
	}
	fromGARP(put, p.GARP)
}

// fromGARP adds a timing that is not lbcluster's own.
func fromGARP(put func(field, value string), g fsm.GARP) {
	if g == (fsm.GARP{}) {
		return
	}
	put("garp_master_repeat", fmt.Sprint(g.MasterRepeat))
	put("garp_master_delay", number(g.MasterDelay))
	put("garp_master_refresh", number(g.Refresh))
	put("garp_master_refresh_repeat", fmt.Sprint(g.RefreshRepeat))
	put("garp_lower_prio_repeat", fmt.Sprint(g.LowerPrioRepeat))
	put("garp_lower_prio_delay", number(g.LowerPrioDelay))
}

func peerText(p fsm.Peer) string {
	if p.MinTTL == 0 && (p.MaxTTL == 0 || p.MaxTTL == 255) {
		return p.Addr.String()
	}
	return fmt.Sprintf("%s min_ttl %d max_ttl %d", p.Addr, p.MinTTL, p.MaxTTL)
}
