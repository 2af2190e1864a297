package conf

import (
	"fmt"
	"net/netip"
	"strings"

	"lbcluster/fsm"
)

// services writes virtual servers in their order, those of a group where the
// first of them is.
func (w *writer) services(all []fsm.VirtualServer) {
	groups := map[string][]fsm.VirtualServer{}
	for _, s := range all {
		groups[s.Group] = append(groups[s.Group], s)
	}
	for _, s := range all {
		members := groups[s.Group]
		switch {
		case s.Group == "":
			w.service(s, serviceWords(s.ServiceKey))
		case members != nil:
			w.serverGroup(s.Group, members)
			delete(groups, s.Group)
		}
	}
}

func (w *writer) serverGroup(name string, members []fsm.VirtualServer) {
	g, ok := groupBlocks(members)
	if !ok {
		for _, s := range members { // the proof says that this is not the same
			w.service(s, serviceWords(s.ServiceKey))
		}
		return
	}
	w.block(func() {
		for _, e := range g.entries {
			w.line(strings.Fields(e)...)
		}
	}, "virtual_server_group", name)
	for _, s := range g.servers {
		w.service(s, []string{"group", name})
	}
}

func serviceWords(k fsm.ServiceKey) []string {
	switch {
	case k.Mark != 0:
		return []string{"fwmark", fmt.Sprint(k.Mark)}
	case k.Port == 0:
		return []string{k.Addr.String()}
	}
	return []string{k.Addr.String(), fmt.Sprint(k.Port)}
}

func (w *writer) service(s fsm.VirtualServer, name []string) {
	w.block(func() {
		w.unless(s.Mark == 0 || name[0] == "group", "ip_family", familyWord(s.ServiceKey))
		w.unless(s.Protocol == "", "protocol", strings.ToUpper(string(s.Protocol)))
		w.line("lb_algo", s.Scheduler)
		w.line("lb_kind", strings.ToUpper(string(s.Method)))
		for _, flag := range hashWords(s.Scheduler, s.HashFallback, s.HashPort) {
			w.line(flag)
		}
		w.unless(!s.OnePacket, "ops")
		if s.Persistence > 0 {
			w.line("persistence_timeout", seconds(s.Persistence))
			w.unless(int(meant(s)) == s.BitLen(), "persistence_granularity", granularity(s.ServiceKey, s.PersistenceMask))
			w.unless(s.PersistenceEngine == "", "persistence_engine", s.PersistenceEngine)
		}
		w.pool(s)
		w.unless(!s.Alert, "smtp_alert")
		w.script("quorum_up", s.Notify.Up)
		w.script("quorum_down", s.Notify.Down)
		for _, r := range s.RealServers {
			w.server(r)
		}
	}, append([]string{"virtual_server"}, name...)...)
}

func (w *writer) server(r fsm.RealServer) {
	words := []string{"real_server", r.Addr.String()}
	if r.Port != 0 {
		words = append(words, fmt.Sprint(r.Port))
	}
	w.block(func() {
		if r.Backup { // keepalived must not use it
			w.line("weight", "0")
			w.condition("@lbcluster", "lbcluster_backup", fmt.Sprint(r.Weight))
		} else {
			w.line("weight", fmt.Sprint(r.Weight))
		}
		w.unless(r.Method == "", "lb_kind", strings.ToUpper(string(r.Method)))
		w.unless(r.UpperThreshold == 0, "uthreshold", fmt.Sprint(r.UpperThreshold))
		w.unless(r.LowerThreshold == 0, "lthreshold", fmt.Sprint(r.LowerThreshold))
		w.unless(!r.Inhibit, "inhibit_on_failure")
		w.unless(!r.NoAlert, "smtp_alert", "no")
		w.script("notify_up", r.Notify.Up)
		w.script("notify_down", r.Notify.Down)
		for _, c := range r.Checks {
			w.check(c, netip.AddrPortFrom(r.Addr, r.Port))
		}
	}, words...)
}
