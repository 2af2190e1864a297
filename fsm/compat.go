package fsm

import (
	"fmt"
	"slices"
)

// A command of an earlier version must do what it did when it was written:
// members that have read it before and those that read it now must come to the
// same table. What that version refused is therefore still refused in it;
// whoever proposes today writes the newest.

// applyAsBefore refuses what the command's version could not apply.
func (e *edit) applyAsBefore(a ApplySet) error {
	if news := a.Config.v3(); e.cmd.Version < 3 && news != "" {
		return oldVersion("%s", news)
	}
	if e.cmd.Version != 1 {
		return nil
	}
	for _, r := range a.Config.Routers {
		if r.Version != 2 || r.family() != familyIPv4 {
			return oldVersion("virtual router %s uses VRRP version 3 or IPv6", r.Name)
		}
		if len(r.peeringFields()) > 0 || len(r.Advertised()) < len(r.Addresses) {
			return oldVersion("virtual router %s has VRRP peers or excluded addresses", r.Name)
		}
	}
	for _, m := range e.Members {
		for _, v := range a.Config.Services {
			for _, r := range v.RealServers {
				if m.Role == Director && m.Addr.Addr() == r.Addr {
					return oldVersion("real server %s is director %s", r.Addr, m.Name)
				}
			}
		}
	}
	return nil
}

// v3 says what only version 3 can say; "": nothing.
func (c Config) v3() string {
	for _, v := range c.Services {
		if !v.asV2() {
			return fmt.Sprintf("virtual server %s is of a kind that it does not know", v.ServiceKey)
		}
	}
	if !c.Globals.IPVS.IsZero() {
		return "there are settings of IPVS"
	}
	if c.Globals.SMTPHelo != "" || c.Globals.NoEmailFaults || c.Globals.FIFOs != (FIFOs{}) {
		return "there are settings of mail or notify pipes"
	}
	for _, g := range c.Groups {
		if g.Alert {
			return fmt.Sprintf("sync group %s has smtp_alert", g.Name)
		}
	}
	for _, r := range c.Routers {
		if r.VMAC != nil {
			return fmt.Sprintf("virtual router %s has a virtual MAC address", r.Name)
		}
		if r.Alert {
			return fmt.Sprintf("virtual router %s has smtp_alert", r.Name)
		}
	}
	return ""
}

// asV2 reports whether version 2 knew all that v says.
func (v VirtualServer) asV2() bool {
	for _, r := range v.RealServers {
		if r.Method != "" || r.NoAlert || r.Backup || r.Notify != (UpDown{}) || slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.asV2() }) {
			return false
		}
	}
	return v.Panic == 0 && v.SlowStart == 0 && !v.Alert && v.Notify == (UpDown{}) && v.Quorum == 0 && v.Hysteresis == 0 && v.Sorry == nil && v.Mark == 0 && (v.Protocol == TCP || v.Protocol == UDP) && v.Method == DirectRouting &&
		!v.OnePacket && !v.HashPort && !v.HashFallback && v.PersistenceEngine == "" && v.Group == "" && len(v.Matches) == 0
}

func (c Check) asV2() bool {
	return c.Kind == CheckTCP && c.BindPort == 0 && c.BindIf == "" && c.Mark == 0 && !c.Alpha && !c.DSR && c.question() == ""
}

// enrolAsV1 refuses a director that is a real server.
func (e *edit) enrolAsV1(n Enrol) error {
	if e.cmd.Version != 1 || n.Role != Director {
		return nil
	}
	for _, v := range e.Services {
		for _, r := range v.RealServers {
			if r.Addr == n.Addr.Addr() {
				return oldVersion("director %s is a real server of %s", n.Name, v.ServiceKey)
			}
		}
	}
	return nil
}

func oldVersion(format string, args ...any) error {
	return invalid("%s: this needs a newer lbcluster on the machine that asks", fmt.Sprintf(format, args...))
}
