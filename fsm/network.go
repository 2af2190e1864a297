package fsm

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxNetworks bounds Member.Networks.
const maxNetworks = 64

// canonicalNetworks is all as the table keeps it: by address, nil for none; or
// what is wrong with it.
func canonicalNetworks(all []Network) ([]Network, string) {
	if len(all) == 0 {
		return nil, ""
	}
	if len(all) > maxNetworks {
		return nil, fmt.Sprintf("it has %d addresses: at most %d are kept", len(all), maxNetworks)
	}
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Network) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	for i, n := range sorted {
		if bad := n.problem(); bad != "" {
			return nil, fmt.Sprintf("address %s: %s", n.Prefix, bad)
		}
		if i > 0 && sorted[i-1].Prefix.Addr() == n.Prefix.Addr() {
			return nil, fmt.Sprintf("address %s is there twice", n.Prefix.Addr())
		}
	}
	return sorted, ""
}

// problem says what is wrong with n; "" if nothing is.
func (n Network) problem() string {
	if !n.Prefix.IsValid() {
		return "the prefix length is missing or wrong"
	}
	if bad := hostProblem(n.Prefix.Addr()); bad != "" {
		return bad
	}
	if n.MAC == "" {
		return ""
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(n.MAC, ":", ""))
	if err != nil || len(raw) != 6 || macText(raw) != n.MAC {
		return fmt.Sprintf("MAC %q is not written as 02:1b:0c:5d:a8:52", n.MAC)
	}
	return ""
}

func macText(raw []byte) string {
	parts := make([]string, len(raw))
	for i, b := range raw {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}

func networksText(all []Network) string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = n.Prefix.String()
	}
	if len(texts) == 0 {
		return "no address beside its main one"
	}
	return "addresses " + someOf(texts, 8)
}

// LocalServer is a real server that is a member's own address.
type LocalServer struct {
	Service ServiceKey     `json:"service"`
	Server  netip.AddrPort `json:"server"`
}

// LocalServers are the real servers, by virtual server, that a member is
// itself: their address is its own, or one of its Networks. Their packets must
// go to the member's local service, and not through IPVS again.
func (t *Table) LocalServers(id MemberID) []LocalServer {
	m, ok := t.Member(id)
	if !ok {
		return nil
	}
	var local []LocalServer
	for _, v := range t.Services {
		for _, r := range v.RealServers {
			if m.has(r.Addr) {
				local = append(local, LocalServer{v.ServiceKey, r.AddrPort()})
			}
		}
	}
	return local
}

// has reports whether a is an address of m.
func (m Member) has(a netip.Addr) bool {
	return m.Addr.Addr() == a || slices.ContainsFunc(m.Networks, func(n Network) bool { return n.Prefix.Addr() == a })
}
