package fsm

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

// number is the 12 of "m12"; false for what is no member id.
func (id MemberID) number() (uint64, bool) {
	digits, ok := strings.CutPrefix(string(id), "m")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil && n > 0 && memberID(n) == id
}

func memberID(n uint64) MemberID { return MemberID("m" + strconv.FormatUint(n, 10)) }

// Member finds a member by id.
func (t *Table) Member(id MemberID) (Member, bool) {
	return find(t.Members, func(m Member) bool { return m.ID == id })
}

// MemberByName finds a member by name.
func (t *Table) MemberByName(name string) (Member, bool) {
	return find(t.Members, func(m Member) bool { return m.Name == name })
}

// Router finds a virtual router by id.
func (t *Table) Router(id uint64) (Router, bool) {
	if t.units != nil {
		i, ok := t.units.routers[id]
		if !ok {
			return Router{}, false
		}
		return t.Routers[i], true
	}
	return find(t.Routers, func(r Router) bool { return r.ID == id })
}

// RouterByName finds a virtual router by name.
func (t *Table) RouterByName(name string) (Router, bool) {
	return find(t.Routers, func(r Router) bool { return r.Name == name })
}

// Service finds a virtual server.
func (t *Table) Service(key ServiceKey) (VirtualServer, bool) {
	return find(t.Services, func(v VirtualServer) bool { return v.ServiceKey == key })
}

func find[T any](all []T, is func(T) bool) (T, bool) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], true
	}
	var none T
	return none, false
}

// VIPs are the addresses of all virtual routers, sorted.
func (t *Table) VIPs() []netip.Addr {
	var all []netip.Addr
	for _, r := range t.Routers {
		for _, a := range r.Addresses {
			all = append(all, a.Prefix.Addr())
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// VIPsServedBy are the addresses of virtual servers that must be on a host with the
// addresses own, which are none of them: it is a real server of theirs, or their
// sorry server, by direct routing or through a tunnel. Sorted, each once.
func (t *Table) VIPsServedBy(own []netip.Addr) []netip.Addr {
	all := []netip.Addr{}
	for _, v := range t.Services {
		if !v.deliversTo(own) {
			continue
		}
		for _, a := range v.Addrs() {
			if !slices.Contains(own, a) {
				all = append(all, a)
			}
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// deliversTo reports whether packets to the service's own address reach one of own.
func (v VirtualServer) deliversTo(own []netip.Addr) bool {
	if s := v.Sorry; s != nil && cmp.Or(s.Method, v.Method) != Masquerade && slices.Contains(own, s.Addr) {
		return true
	}
	return slices.ContainsFunc(v.RealServers, func(r RealServer) bool {
		return v.MethodOf(r) != Masquerade && slices.Contains(own, r.Addr)
	})
}

// presentDirector reports whether m holds VIPs and votes on health.
func (m Member) presentDirector() bool { return m.Role == Director && m.State == Present }

// name is the member's name, or its id when it is gone.
func (t *Table) name(id MemberID) string {
	if m, ok := t.Member(id); ok {
		return m.Name
	}
	return string(id)
}
