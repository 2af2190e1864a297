package fsm

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Text is a virtual server as keepalived's mails and notify pipes write it
// (check_data.c, format_vs): "[10.0.0.1]:tcp:80", "FWM 7".
func (k ServiceKey) Text() string {
	if k.Mark != 0 {
		return fmt.Sprintf("FWM %d", k.Mark)
	}
	return trio(k.Addr, k.Protocol, k.Port)
}

// ServerText is one of its real servers likewise (format_rs).
func (k ServiceKey) ServerText(server netip.AddrPort) string {
	return trio(server.Addr(), k.Protocol, server.Port())
}

func trio(a netip.Addr, p Protocol, port uint16) string {
	return fmt.Sprintf("[%s]:%s:%d", a, cmp.Or(string(p), "none"), port)
}
