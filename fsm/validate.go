package fsm

import (
	"fmt"
	"net/netip"
	"time"
)

// Limits of a configuration.
const (
	// MaxWeight is keepalived's limit; the kernel's is higher.
	MaxWeight = 65535
	// MaxPersistence is ipvsadm's limit on the persistence timeout.
	MaxPersistence = 31 * 24 * time.Hour
	// maxDelay bounds every timer of a check.
	maxDelay = 24 * time.Hour
	// maxRetry bounds Check.Retry.
	maxRetry = 1000
	// maxAddresses is what the count field of a VRRP advert can say
	// (RFC 3768 section 5.3.6).
	maxAddresses = 255
)

// Schedulers are the kernel's IPVS schedulers.
var Schedulers = []string{
	"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos",
}

// ValidateConfig finds all that is wrong with cfg by itself, whatever else the
// table has; nil if nothing is. [Table.ValidateSet] looks at the rest.
func ValidateConfig(cfg Config) []Problem {
	var p problems
	p.globals(cfg.Globals)
	p.ipvs(cfg)
	u := newUsed()
	for i, r := range cfg.Routers {
		p.router(r, routerPath(r, i))
		p.routerOnce(r, routerPath(r, i), u)
	}
	p.groups(cfg)
	for _, v := range cfg.Services {
		p.service(v)
		p.serviceOnce(v, u)
	}
	p.marksOnce(cfg.Services, nil)
	for _, v := range cfg.Services {
		p.serversAreNoVIPs(v, u)
	}
	return p.list
}

// routerPath names a router in problems and changes.
func routerPath(r Router, i int) string {
	if r.Name == "" {
		return fmt.Sprintf("virtual_router #%d", i+1)
	}
	return "virtual_router " + r.Name
}

func servicePath(k ServiceKey) string { return "virtual_server " + k.String() }

func serverPath(k ServiceKey, server netip.AddrPort) string {
	return fmt.Sprintf("%s > real_server %s", servicePath(k), server)
}

// problems collects.
type problems struct{ list []Problem }

func (p *problems) add(path, format string, args ...any) {
	p.list = append(p.list, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

// addIf adds a text that is not empty.
func (p *problems) addIf(path, text string) {
	if text != "" {
		p.add(path, "%s", text)
	}
}

// below takes over what was found in an element, whose path is made only then: of
// ten thousand servers hardly one has a problem. found's own paths follow it.
func (p *problems) below(found problems, path func() string) {
	if len(found.list) == 0 {
		return
	}
	at := path()
	for _, f := range found.list {
		p.add(at+f.Path, "%s", f.Text)
	}
}

func (p *problems) globals(g Globals) {
	const path = "global_defs"
	for _, s := range append([]string{g.RouterID, g.EmailFrom, g.SMTPServer, g.SMTPHelo}, g.NotificationEmail...) {
		if !isClean(s, maxGlobal) {
			p.add(path, "%q has control characters in it or is longer than %d bytes", s, maxGlobal)
		}
	}
	p.fifos(path, g.FIFOs)
	for _, d := range []namedDelay{
		{"smtp_connect_timeout", g.SMTPTimeout},
		{"vrrp_garp_interval", g.GARPInterval},
		{"vrrp_gna_interval", g.GNAInterval},
	} {
		p.delay(path, d.name, d.Duration, 0)
	}
}

func (p *problems) router(r Router, path string) {
	p.addIf(path, nameProblem(r.Name))
	p.device(path, "interface", r.Interface)
	if r.VRID == 0 {
		p.add(path, "virtual_router_id must be 1 to 255")
	}
	if r.Priority == 0 {
		p.add(path, "priority must be 1 to 255")
	}
	if r.Initial != "" && r.Initial != "MASTER" && r.Initial != "BACKUP" {
		p.add(path, "state %q is neither MASTER nor BACKUP", r.Initial)
	}
	p.addIf(path, versionProblem(r))
	p.addIf(path, advertProblem(r.Version, r.AdvertInterval.D()))
	switch {
	case r.AuthPass != "" && r.Version == 3:
		p.add(path, "auth_pass: VRRP version 3 has no password (RFC 9568 section 9): leave it out, or use version 2")
	case len(r.AuthPass) > 8:
		p.add(path, "auth_pass has %d bytes: VRRP carries 8, and keepalived cuts the rest off (RFC 2338 section 5.3.6)", len(r.AuthPass))
	case !isClean(r.AuthPass, 8):
		p.add(path, "auth_pass has control characters in it")
	}
	p.addresses(r, path)
	p.peering(r, path)
	p.vmac(r, path)
	p.trackers(path, r.Track)
	p.notify(path, r.Notify)
}

// versionProblem checks the version against what it can carry: IPv6 came with
// version 3 (RFC 5798).
func versionProblem(r Router) string {
	if r.Version != 2 && r.Version != 3 {
		return fmt.Sprintf("VRRP version %d: use 2 or 3", r.Version)
	}
	if r.Version == 2 && r.family() == familyIPv6 {
		return "VRRP version 2 carries no IPv6: use version 3 (vrrp_version 3)"
	}
	return ""
}

// The families that a virtual router can be of.
const (
	familyIPv4 = "IPv4"
	familyIPv6 = "IPv6"
)

// family is that of the first VIP in r's adverts.
func (r Router) family() string {
	for _, a := range r.Addresses {
		if !a.Prefix.IsValid() || a.Excluded {
			continue
		}
		if !a.Prefix.Addr().Is4() {
			return familyIPv6
		}
		break
	}
	return familyIPv4
}

// advertProblem checks the interval against the field that carries it: whole
// seconds in a byte (RFC 3768 section 5.3.7), or centiseconds in 12 bits (RFC
// 9568 section 5.2.7).
func advertProblem(version uint8, d time.Duration) string {
	if version == 3 {
		if d < 10*time.Millisecond || d > 40950*time.Millisecond || d%(10*time.Millisecond) != 0 {
			return fmt.Sprintf("advert_int %v: VRRP version 3 can say 10ms to 40.95s in steps of 10ms", d)
		}
		return ""
	}
	if d < time.Second || d > 255*time.Second || d%time.Second != 0 {
		return fmt.Sprintf("advert_int %v: VRRP version 2 can say whole seconds from 1 to 255", d)
	}
	return ""
}

func (p *problems) addresses(r Router, path string) {
	if len(r.Addresses) == 0 {
		p.add(path, "virtual_ipaddress is empty: a virtual router needs a VIP")
	}
	if n := len(r.Advertised()); n > maxAddresses {
		p.add(path, "it has %d VIPs: an advert can carry %d (use a second virtual router)", n, maxAddresses)
	} else if n == 0 && len(r.Addresses) > 0 {
		p.add(path, "virtual_ipaddress is empty: only excluded addresses are left, and an advert needs one")
	}
	for _, a := range r.Addresses {
		if !a.Prefix.IsValid() {
			p.add(path, "virtual_ipaddress: an address is missing or its prefix length is wrong")
			continue
		}
		if bad := hostProblem(a.Prefix.Addr()); bad != "" {
			p.add(path, "virtual_ipaddress %s: %s", a.Prefix, bad)
		} else if a.Prefix.Bits() == 0 {
			p.add(path, "virtual_ipaddress %s: prefix length 0 would make every address a neighbour", a.Prefix)
		} else if !a.Excluded && a.Prefix.Addr().Is4() != (r.family() == familyIPv4) {
			p.add(path, "virtual_ipaddress %s: the first VIP is %s, and an advert carries one family:"+
				" use a second virtual router (in a vrrp_sync_group they move together)", a.Prefix, r.family())
		}
		p.device(path, "virtual_ipaddress dev", a.Dev)
		p.device(path, "virtual_ipaddress label", a.Label)
	}
}

// hostProblem says why no machine can have address a.
func hostProblem(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "the address is missing"
	case a.Is4In6():
		return "write it as IPv4"
	case a.Zone() != "":
		return "leave the zone out: the interface says it"
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is no address that a host on a network has"
	}
	return ""
}

// device checks an interface name or address label: IFNAMSIZ is 16 with the
// ending zero.
func (p *problems) device(path, what, name string) {
	bad := len(name) > 15 || name == "." || name == ".."
	for i := range len(name) {
		bad = bad || name[i] <= ' ' || name[i] >= 0x7f || name[i] == '/'
	}
	if bad {
		p.add(path, "%s %q is no interface name (up to 15 characters, no space, no /)", what, name)
	}
}

// delay checks a timer's range.
func (p *problems) delay(path, name string, d Duration, least time.Duration) {
	if d.D() < least || d.D() > maxDelay {
		p.add(path, "%s %v is not within %v to %v", name, d, least, maxDelay)
	}
}

// check finds what is wrong with a check; see below.
func (p *problems) check(c Check) {
	const path = ""
	p.kind(c)
	p.device(path, "bind_if", c.BindIf)
	if bad := hostProblem(c.Dest.Addr()); bad != "" {
		p.add(path, "connect_ip %s: %s", c.Dest.Addr(), bad)
	}
	switch {
	case c.Dest.Port() == 0 && c.Ported():
		p.add(path, "connect_port is 0: say which port to check")
	case c.Dest.Port() != 0 && !c.Ported():
		p.add(path, "a check of kind %s goes to no port", c.Kind)
	}
	if c.Bind.IsValid() && c.Bind.Is4() != c.Dest.Addr().Is4() {
		p.add(path, "bindto %s: it is not of the family of %s", c.Bind, c.Dest.Addr())
	}
	if c.Retry < 0 || c.Retry > maxRetry {
		p.add(path, "retry %d is not within 0 to %d", c.Retry, maxRetry)
	}
	p.delay(path, "connect_timeout", c.ConnectTimeout, time.Millisecond)
	p.delay(path, "delay_before_retry", c.DelayBeforeRetry, 0)
	p.delay(path, "delay_loop", c.DelayLoop, time.Millisecond)
	p.delay(path, "warmup", c.Warmup, 0)
}
