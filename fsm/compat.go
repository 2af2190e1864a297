package fsm

import "fmt"

// A command of version 1 must do what it did when it was written: members that
// have read it before and those that read it now must come to the same table.
// What version 1 refused is therefore still refused in it; whoever proposes
// today writes version 2.

// applyAsV1 refuses what version 1 could not apply.
func (e *edit) applyAsV1(a ApplySet) error {
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
