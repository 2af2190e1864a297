package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// Bounds of a join token.
const (
	maxTokenTTL  = 30 * 24 * time.Hour
	maxTokenText = 1024 // bytes
)

func checkInit(r InitRequest) []Fault {
	var faults []Fault
	if r.Profile != "" && !slices.Contains(fsm.Profiles, r.Profile) {
		faults = append(faults, Fault{"profile", fmt.Sprintf("%q is not one of %s", r.Profile, strings.Join(fsm.Profiles, ", "))})
	}
	if r.Guard != nil && (*r.Guard < 0 || r.Guard.D() > fsm.MaxGuard) {
		faults = append(faults, Fault{"guard", fmt.Sprintf("%v is not between 0s and %v", *r.Guard, fsm.MaxGuard)})
	}
	return faults
}

func checkJoin(r JoinRequest) []Fault {
	var faults []Fault
	if !isAddr(r.Addr) {
		faults = append(faults, Fault{"addr", fmt.Sprintf("%q is neither an IP address nor IP:port", r.Addr)})
	}
	if r.Token == "" || len(r.Token) > maxTokenText {
		faults = append(faults, Fault{"token", "is empty or too long; lbcluster token, on a member, makes one"})
	}
	return append(faults, checkRole(r.Role)...)
}

func checkToken(r TokenRequest) []Fault {
	var faults []Fault
	if r.TTL < 0 || r.TTL.D() > maxTokenTTL {
		faults = append(faults, Fault{"ttl", fmt.Sprintf("%s is not between 0 and %s", r.TTL, maxTokenTTL)})
	}
	if r.Uses < 0 || r.Uses > fsm.MaxTokenUses {
		faults = append(faults, Fault{"uses", fmt.Sprintf("%d is not between 1 and %d", r.Uses, fsm.MaxTokenUses)})
	}
	switch r.Role {
	case "", fsm.Director, fsm.Witness, fsm.Reader:
		return faults
	}
	return append(faults, Fault{"role", fmt.Sprintf("%q is neither director, witness nor reader", r.Role)})
}

func checkRole(r fsm.Role) []Fault {
	switch r {
	case "", fsm.Director, fsm.Witness:
		return nil
	}
	return []Fault{{"role", fmt.Sprintf("%q is neither director nor witness", r)}}
}

func isAddr(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	_, err := netip.ParseAddrPort(s)
	return err == nil
}
