package dataplane

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// firstPathMark to the end of [fsm.ReservedMarks] are the firewall marks of hidden
// services with a single destination: a check whose packets have the mark goes to
// that real server by way of its VIP, whoever owns the VIP.
const (
	firstPathMark = 0x6c62_8000
	pathMarks     = 0x8000
)

func isPathMark(mark uint32) bool { return mark >= firstPathMark && mark-firstPathMark < pathMarks }

// A path leads to a real server in the way that its virtual server forwards.
type path struct {
	server netip.Addr
	method ipvs.Method
}

func (a path) compare(b path) int {
	return cmp.Or(a.server.Compare(b.server), cmp.Compare(a.method, b.method))
}

// asked is a check's way: the real server, and the address of the virtual server.
type asked struct {
	server netip.Addr
	to     netip.AddrPort
}

// pathsOf are the ways that the checks of v take.
func pathsOf(v fsm.VirtualServer) map[asked]path {
	var out map[asked]path
	for _, r := range v.RealServers {
		for _, c := range r.Checks {
			if !c.DSR {
				continue
			}
			if out == nil {
				out = map[asked]path{}
			}
			out[asked{r.Addr, c.Dest}] = path{r.Addr, methods[v.MethodOf(r)]}
		}
	}
	return out
}

// pathsFor are those of all checks of the table.
func pathsFor(t *fsm.Table) map[asked]path {
	out := map[asked]path{}
	for _, v := range t.Services {
		for k, way := range pathsOf(v) {
			out[k] = way
		}
	}
	return out
}

// markPaths gives each path its mark: by a hash of what it is, so that it seldom
// changes, or else the next that is free. Paths beyond the marks get none.
func markPaths(all map[asked]path) map[path]uint32 {
	var sorted []path
	for _, way := range all {
		sorted = append(sorted, way)
	}
	slices.SortFunc(sorted, path.compare)
	sorted = slices.Compact(sorted)
	out, taken := map[path]uint32{}, map[uint32]bool{}
	for _, way := range sorted[:min(len(sorted), pathMarks)] {
		h := fnv.New32a()
		h.Write([]byte(way.server.String() + " " + strconv.Itoa(int(way.method))))
		n := h.Sum32() % pathMarks
		for taken[n] {
			n = (n + 1) % pathMarks
		}
		taken[n] = true
		out[way] = firstPathMark + n
	}
	return out
}

// pathServices are the hidden services of the paths, by mark.
func pathServices(marks map[path]uint32) []ipvs.Service {
	var out []ipvs.Service
	for way, mark := range marks {
		out = append(out, ipvs.Service{Key: ipvs.Key{Mark: mark, V6: way.server.Is6()}, Scheduler: "rr", Dests: []ipvs.Dest{
			{DestKey: ipvs.DestKey{Addr: way.server}, Method: way.method, Weight: 1},
		}}.Canonical())
	}
	slices.SortFunc(out, func(a, b ipvs.Service) int { return cmp.Compare(a.Key.Mark, b.Key.Mark) })
	return out
}

// standPaths notes which paths stand after a pass.
func (p *Plane) standPaths(all map[asked]path, marks map[path]uint32, out outcome) {
	stand := map[asked]uint32{}
	for k, way := range all {
		if mark, ok := marks[way]; ok && !out.failed[ipvs.Key{Mark: mark, V6: way.server.Is6()}] {
			stand[k] = mark
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paths, p.self = stand, p.guard.host
}

// Path says how this host's checks get to a real server by way of to, the address of a
// virtual server: with the mark, from the address. ok is false while there is no such
// way: it does not stand yet, the real server is this host itself, no address of this
// host is in a network with the real server or with other members.
func (p *Plane) Path(server netip.Addr, to netip.AddrPort) (mark uint32, from netip.Addr, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mark, ok = p.paths[asked{server, to}]
	if !ok || p.table == nil || p.pathless[to.Addr()] {
		return 0, netip.Addr{}, false
	}
	own := ownAddrs(p.table, p.cfg.Self, p.self)
	if own[server] {
		return 0, netip.Addr{}, false
	}
	from = sender(p.table, p.cfg.Self, own, p.self, server)
	return mark, from, from.IsValid()
}

// sender is the address of this host to ask a real server from: never a VIP, to which
// the answer would go elsewhere. One in its network is best, else the member's own.
func sender(t *fsm.Table, self fsm.MemberID, own map[netip.Addr]bool, s vip.Snapshot, server netip.Addr) netip.Addr {
	var best netip.Prefix
	for _, a := range s.Addrs {
		addr := a.Prefix.Addr()
		if own[addr] && a.Prefix.Masked().Contains(server) && (!best.IsValid() || a.Prefix.Bits() > best.Bits()) {
			best = a.Prefix
		}
	}
	if m, _ := t.Member(self); !best.IsValid() && m.Addr.Addr().Is6() == server.Is6() {
		return m.Addr.Addr()
	}
	return best.Addr()
}

// pathSysctls let in what a VIP's real servers answer to a check of its owner: the
// VIP, where the answer comes from, is the owner's own address.
var pathSysctls = []leastSysctl{{"net.ipv4.conf.all.accept_local", 1}}

// strictFilter drops such answers where the VIP is on lo: they come in elsewhere.
const strictFilter = "net.ipv4.conf.all.rp_filter"

// openPaths sees to what checks through VIPs need of this host, and takes it back when
// there are none. VIPs through which none can be made here are noted.
func (p *Plane) openPaths() {
	a := &p.addresses
	needed := false
	for k := range pathsFor(a.table) {
		needed = needed || k.to.Addr().Is4()
	}
	if !needed {
		p.lower(pathSysctls, "no check goes through a VIP any more: put back")
		return
	}
	err := p.raise(pathSysctls, "set for checks through VIPs")
	if err != nil {
		p.failed("let checks go through VIPs", err)
	}
	pathless := map[netip.Addr]bool{}
	for _, l := range a.lo.want {
		if l.vip.Is4() && p.filtersStrictly() {
			pathless[l.vip] = true
		}
	}
	for _, v := range a.table.VIPs() {
		if err != nil && v.Is4() {
			pathless[v] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pathless = pathless
}

// filtersStrictly reports whether an interface that has addresses drops what seems to
// come in at the wrong one.
func (p *Plane) filtersStrictly() bool {
	strict := func(name string) bool { now, err := p.cfg.VIPs.Sysctl(name); return err == nil && now == "1" }
	all, err := p.cfg.VIPs.Sysctl(strictFilter)
	if err == nil && all == "2" {
		return false // the greater of the two holds
	}
	if all == "1" {
		return true
	}
	for _, l := range p.addresses.host.Links {
		if !l.Loopback && strict("net.ipv4.conf."+l.Name+".rp_filter") {
			return true
		}
	}
	return false
}
