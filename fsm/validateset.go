package fsm

import (
	"fmt"
	"net/netip"
	"slices"
)

// used says what is taken, and by whom: only one may have it.
type used struct {
	names    map[string]string
	vips     map[netip.Addr]string
	vrids    map[vridKey]string
	vmacs    map[string]string // by the interface's name
	services map[ServiceKey]string
}

// vridKey is where a VRID must be unique.
type vridKey struct {
	device string
	vrid   uint8
	family string
}

func (r Router) vridKey() vridKey { return vridKey{r.Interface, r.VRID, r.family()} }

func newUsed() used {
	return used{map[string]string{}, map[netip.Addr]string{}, map[vridKey]string{}, map[string]string{}, map[ServiceKey]string{}}
}

// take notes that who has key; it reports who had it before.
func take[K comparable](m map[K]string, key K, who string) (before string) {
	if before, ok := m[key]; ok {
		return before
	}
	m[key] = who
	return ""
}

// routerOnce finds what r has in common with the routers before it.
func (p *problems) routerOnce(r Router, path string, u used) {
	if first := take(u.names, r.Name, path); first != "" && r.Name != "" {
		p.add(path, "there is a virtual router of this name already (%s)", first)
	}
	if first := take(u.vrids, r.vridKey(), path); first != "" && r.VRID != 0 {
		p.add(path, "virtual_router_id %d on interface %q (%s) is taken by %s", r.VRID, r.Interface, r.family(), first)
	}
	if name := r.VMACName(); name != "" {
		if first := take(u.vmacs, name, path); first != "" {
			p.vmacTaken(path, name, first)
		}
	}
	for _, a := range r.Addresses {
		if !a.Prefix.IsValid() {
			continue
		}
		switch first := take(u.vips, a.Prefix.Addr(), path); first {
		case "":
		case path:
			p.add(path, "virtual_ipaddress %s is there twice", a.Prefix.Addr())
		default:
			p.add(path, "virtual_ipaddress %s is in %s too: one address belongs to one virtual router", a.Prefix.Addr(), first)
		}
	}
}

func (p *problems) serviceOnce(v VirtualServer, u used) {
	path := servicePath(v.ServiceKey)
	switch first := take(u.services, v.ServiceKey, path); first {
	case "":
	case path:
		p.add(path, "it is there twice")
	default:
		p.add(path, "it belongs to %s already", first)
	}
}

// serversAreNoVIPs refuses real servers whose address the directors hold.
func (p *problems) serversAreNoVIPs(v VirtualServer, u used) {
	for _, r := range v.RealServers {
		if vip, ok := u.vips[r.Addr]; ok {
			p.add(serverPath(v.ServiceKey, r.AddrPort()), "its address is a VIP (%s): use the server's own address", vip)
		} else if r.Addr == v.Addr && r.Addr.IsValid() {
			p.add(serverPath(v.ServiceKey, r.AddrPort()), "its address is the virtual server's: use the server's own address")
		}
	}
}

// ValidateSet finds all that is wrong with applying cfg as a set: what
// [ValidateConfig] finds, and conflicts with other sets and with members. Nil
// if it can be applied.
func (t *Table) ValidateSet(set string, cfg Config) []Problem {
	p := problems{list: ValidateConfig(cfg)}
	if bad := nameProblem(set); bad != "" {
		p.add(fmt.Sprintf("set %q", set), "%s", bad)
	}
	p.otherSets(t, set, cfg)
	p.members(t, cfg)
	p.ipvsOnce(t, set, cfg)
	for i, r := range cfg.Routers {
		p.addIf(routerPath(r, i), t.Settings.timing(r))
	}
	return p.list
}

// otherSets finds what cfg would share with sets that it does not replace.
func (p *problems) otherSets(t *Table, set string, cfg Config) {
	u := newUsed()
	for i, r := range t.Routers {
		if r.Set != set {
			new(problems).routerOnce(r, fmt.Sprintf("%s of set %s", routerPath(r, i), r.Set), u)
		}
	}
	var others marks
	for _, v := range t.Services {
		if v.Set != set {
			take(u.services, v.ServiceKey, "set "+v.Set)
			others.take(v, fmt.Sprintf("%s of set %s", servicePath(v.ServiceKey), v.Set))
		}
	}
	if len(others) > 0 {
		var all problems
		all.marksOnce(cfg.Services, others)
		p.list = append(p.list, except(all.list, p.list)...)
	}
	for i, r := range cfg.Routers {
		p.routerClash(r, routerPath(r, i), u)
	}
	for _, v := range cfg.Services {
		if first, ok := u.services[v.ServiceKey]; ok {
			p.add(servicePath(v.ServiceKey), "it belongs to %s already", first)
		}
		p.serversOfOthers(v, u)
	}
	p.newVIPs(t, set, cfg)
	for _, g := range cfg.Groups {
		if other, ok := find(t.Groups, func(o SyncGroup) bool { return o.Name == g.Name && o.Set != set }); ok {
			p.add(groupPath(g.Name), "there is a sync group of this name already (set %s)", other.Set)
		}
	}
}

// routerClash finds what r has in common with the routers in u, adding nothing to u.
func (p *problems) routerClash(r Router, path string, u used) {
	if first, ok := u.names[r.Name]; ok {
		p.add(path, "there is a virtual router of this name already (%s)", first)
	}
	if first, ok := u.vrids[r.vridKey()]; ok {
		p.add(path, "virtual_router_id %d on interface %q (%s) is taken by %s", r.VRID, r.Interface, r.family(), first)
	}
	if first, ok := u.vmacs[r.VMACName()]; ok {
		p.vmacTaken(path, r.VMACName(), first)
	}
	for _, a := range r.Addresses {
		if first, ok := u.vips[a.Prefix.Addr()]; ok {
			p.add(path, "virtual_ipaddress %s is in %s too: one address belongs to one virtual router", a.Prefix.Addr(), first)
		}
	}
}

// serversOfOthers refuses real servers that are VIPs of other sets.
func (p *problems) serversOfOthers(v VirtualServer, u used) {
	for _, r := range v.RealServers {
		if vip, ok := u.vips[r.Addr]; ok {
			p.add(serverPath(v.ServiceKey, r.AddrPort()), "its address is a VIP (%s): use the server's own address", vip)
		}
	}
}

// newVIPs refuses VIPs that are real servers of other sets.
func (p *problems) newVIPs(t *Table, set string, cfg Config) {
	servers := map[netip.Addr]overrideKey{}
	for _, v := range t.Services {
		if v.Set == set {
			continue
		}
		for _, r := range v.RealServers {
			servers[r.Addr] = overrideKey{v.ServiceKey, r.AddrPort()}
		}
	}
	for i, r := range cfg.Routers {
		for _, a := range r.Addresses {
			if at, ok := servers[a.Prefix.Addr()]; ok {
				p.add(routerPath(r, i), "virtual_ipaddress %s is a real server's own address (%s)", a.Prefix.Addr(), serverPath(at.service, at.server))
			}
		}
	}
}

// members finds addresses of cfg that are a member's own.
func (p *problems) members(t *Table, cfg Config) {
	at := map[netip.Addr]Member{}
	for _, m := range t.Members {
		at[m.Addr.Addr()] = m
	}
	for i, r := range cfg.Routers {
		for _, a := range r.Addresses {
			if m, ok := at[a.Prefix.Addr()]; ok {
				p.add(routerPath(r, i), "virtual_ipaddress %s is the own address of member %s", a.Prefix.Addr(), m.Name)
			}
		}
	}
	for _, v := range cfg.Services {
		if m, ok := at[v.Addr]; ok {
			p.add(servicePath(v.ServiceKey), "its address is the own address of member %s: use a VIP", m.Name)
		}
		for _, m := range t.Members {
			p.addIf(servicePath(v.ServiceKey), v.placeProblem(m))
		}
	}
}

// placeProblem says why v and m do not go together; "" if they do.
func (v VirtualServer) placeProblem(m Member) string {
	for i, match := range v.Matches {
		if match.Addr.Contains(m.Addr.Addr()) {
			return fmt.Sprintf("match #%d: %s takes in %s, the own address of member %s: name the VIPs", i+1, match.Addr, m.Addr.Addr(), m.Name)
		}
	}
	for _, r := range v.RealServers {
		if r.Addr == m.Addr.Addr() && v.MethodOf(r) == Tunnel && m.Role == Director {
			return fmt.Sprintf("real server %s is director %s: a tunnel to a director has no end there; use direct routing or NAT", r.Addr, m.Name)
		}
	}
	return ""
}

// except are those of all that are not in known.
func except(all, known []Problem) []Problem {
	return slices.DeleteFunc(all, func(p Problem) bool { return slices.Contains(known, p) })
}
