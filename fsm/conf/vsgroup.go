package conf

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lbcluster/fsm"
)

const (
	// maxEntries bounds the services that one virtual_server_group stands for.
	maxEntries = 4096
	// maxExpanded bounds the virtual and real servers that a file with groups
	// stands for, so that a short file cannot fill the memory.
	maxExpanded = 200_000
)

// serverGroup is a virtual_server_group: what its lines stand for.
type serverGroup struct {
	at      *node
	entries []groupEntry
	used    bool
}

// groupEntry is one service of a group, but for the protocol, which the virtual
// server says.
type groupEntry struct {
	key    fsm.ServiceKey
	family bool // of a mark: it was said
}

func (b *builder) readServerGroup(n *node) {
	name := n.args[0]
	if first := b.serverGroups[name]; first != nil {
		b.problem(n.pos, n.word, "there is a virtual_server_group %s already, in line %d", name, first.at.pos.line)
		return
	}
	g := &serverGroup{at: n}
	b.serverGroups[name] = g
	for _, k := range n.kids {
		entries, err := groupLine(k)
		if err == nil && len(g.entries)+len(entries) > maxEntries {
			err = fmt.Errorf("the group stands for more than %d services", maxEntries)
		}
		if err != nil {
			b.wrong(k, err)
			return
		}
		g.entries = append(g.entries, entries...)
	}
	if len(n.kids) == 0 {
		b.problem(n.pos, n.word, "the group is empty")
	}
}

// groupLine reads "IP [PORT]", "IP-END [PORT]", "NETWORK/LENGTH [PORT]" and
// "fwmark N [inet|inet6]".
func groupLine(n *node) ([]groupEntry, error) {
	if n.block {
		return nil, fmt.Errorf("takes no block")
	}
	if n.word == "fwmark" {
		return groupMark(n.args)
	}
	if len(n.args) > 1 {
		return nil, fmt.Errorf("takes a port after it, not also %q", strings.Join(n.args[1:], " "))
	}
	port := uint64(0)
	if len(n.args) == 1 {
		var err error
		if port, err = number(n.args[0], 0, 65535); err != nil {
			return nil, err
		}
	}
	first, last, err := addressRange(n.word)
	if err != nil {
		return nil, err
	}
	var entries []groupEntry
	for a := first; len(entries) <= maxEntries; a = a.Next() {
		entries = append(entries, groupEntry{key: fsm.ServiceKey{Addr: a, Port: uint16(port)}})
		if a == last {
			break
		}
	}
	return entries, nil
}

func groupMark(args []string) ([]groupEntry, error) {
	if len(args) == 0 || len(args) > 2 {
		return nil, fmt.Errorf("takes a mark, and inet or inet6 after it")
	}
	mark, err := number(args[0], 1, 1<<32-1)
	if err != nil {
		return nil, err
	}
	key := fsm.ServiceKey{Mark: uint32(mark)}
	if len(args) == 2 {
		if key.V6, err = inet6(args[1]); err != nil {
			return nil, err
		}
	}
	return []groupEntry{{key, len(args) == 2}}, nil
}

func familyWord(k fsm.ServiceKey) string {
	if k.Is6() {
		return "inet6"
	}
	return "inet"
}

func inet6(s string) (bool, error) {
	if s != "inet" && s != "inet6" {
		return false, fmt.Errorf("%q is neither inet nor inet6", s)
	}
	return s == "inet6", nil
}

// addressRange reads an address, a network, and a range whose end is an address
// or the last part of one (decimal of IPv4, hexadecimal of IPv6).
func addressRange(s string) (first, last netip.Addr, err error) {
	if strings.Contains(s, "/") {
		p, err := prefix(s)
		if err == nil && p != p.Masked() {
			err = fmt.Errorf("%q has bits set beyond its length: %s is meant", s, p.Masked())
		}
		return p.Addr(), lastOf(p), err
	}
	from, to, ranged := strings.Cut(s, "-")
	if first, err = address(from); err != nil || !ranged {
		return first, first, err
	}
	switch {
	case strings.ContainsAny(to, ".:"):
		last, err = address(to)
	case first.Is4():
		last, err = withEnd(first, to, 10, 8)
	default:
		last, err = withEnd(first, to, 16, 16)
	}
	if err != nil || last.Is6() != first.Is6() || last.Less(first) {
		return first, last, fmt.Errorf("%q is no range of addresses such as 10.0.0.1-9", s)
	}
	return first, last, nil
}

// withEnd is a with another last part.
func withEnd(a netip.Addr, s string, base, bits int) (netip.Addr, error) {
	v, err := strconv.ParseUint(s, base, bits)
	raw := a.AsSlice()
	raw[len(raw)-1] = byte(v)
	if bits == 16 {
		raw[len(raw)-2] = byte(v >> 8)
	}
	out, _ := netip.AddrFromSlice(raw)
	return out, err
}

// lastOf is the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for i := p.Bits(); p.IsValid() && i < 8*len(raw); i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	out, _ := netip.AddrFromSlice(raw)
	return out
}

// unusedServerGroups tells of groups that stand for nothing.
func (b *builder) unusedServerGroups() {
	for name, g := range b.serverGroups {
		if !g.used {
			b.notice(g.at.pos, g.at.word, "no virtual_server uses the group %s: it means nothing", name)
		}
	}
}

// groupBlock is a group as it is written: its entries, and the virtual servers
// that stand for all of them, one a protocol.
type groupBlock struct {
	entries []string
	servers []fsm.VirtualServer // with the first entry's key
}

// groupBlocks puts the services of one group together again. False: they differ
// in more than one block can say.
func groupBlocks(services []fsm.VirtualServer) (groupBlock, bool) {
	byProtocol := map[fsm.Protocol][]fsm.VirtualServer{}
	for _, s := range services {
		byProtocol[s.Protocol] = append(byProtocol[s.Protocol], s)
	}
	if marks := byProtocol[""]; len(marks) > 0 && len(byProtocol) == 2 {
		delete(byProtocol, "")
		for p := range byProtocol {
			byProtocol[p] = append(marks, byProtocol[p]...)
		}
	}
	var out groupBlock
	for _, p := range fsm.Protocols {
		if !out.add(byProtocol[p]) {
			return out, false
		}
	}
	return out, out.add(byProtocol[""])
}

// add makes a virtual server of services; false: they do not fit.
func (g *groupBlock) add(services []fsm.VirtualServer) bool {
	if len(services) == 0 {
		return true
	}
	shape := shapeOf(services[0])
	keys := make([]fsm.ServiceKey, len(services))
	for i, s := range services {
		if shapeOf(s) != shape {
			return false
		}
		keys[i] = s.ServiceKey
	}
	entries := entriesOf(keys)
	if g.entries != nil && !slices.Equal(g.entries, entries) {
		return false
	}
	g.entries = entries
	main := services[len(services)-1] // an address, if there is one
	if slices.ContainsFunc(keys, func(k fsm.ServiceKey) bool { return k.Port != main.Port }) {
		main.RealServers = portless(main)
	}
	g.servers = append(g.servers, main)
	return true
}

// portless are the servers without the port that direct routing gives them.
func portless(s fsm.VirtualServer) []fsm.RealServer {
	out := slices.Clone(s.RealServers)
	for i := range out {
		if s.MethodOf(out[i]) != fsm.Masquerade {
			out[i].Port = 0
		}
	}
	return out
}

// shapeOf is all of s but what tells the services of a group apart.
func shapeOf(s fsm.VirtualServer) string {
	s.RealServers = portless(s)
	s.PersistenceMask = meant(s)
	s.ServiceKey, s.Set = fsm.ServiceKey{}, ""
	return pieceOf(s)
}

// entriesOf writes keys as the lines of a group, neighbours as one range.
func entriesOf(keys []fsm.ServiceKey) []string {
	slices.SortFunc(keys, func(a, b fsm.ServiceKey) int {
		return cmp.Or(cmp.Compare(a.Mark, b.Mark), cmp.Compare(a.Port, b.Port), a.Addr.Compare(b.Addr), cmp.Compare(a.String(), b.String()))
	})
	var out []string
	for i := 0; i < len(keys); {
		k, end := keys[i], i
		if k.Mark != 0 {
			out = append(out, fmt.Sprintf("fwmark %d %s", k.Mark, familyWord(k)))
			i++
			continue
		}
		for end+1 < len(keys) && keys[end+1].Port == k.Port && keys[end+1].Addr == keys[end].Addr.Next() && sameBlock(k.Addr, keys[end+1].Addr) {
			end++
		}
		out = append(out, entryLine(k, keys[end].Addr))
		i = end + 1
	}
	return out
}

// sameBlock reports whether two addresses differ in the last part alone.
func sameBlock(a, b netip.Addr) bool {
	bits := 24
	if a.Is6() {
		bits = 112
	}
	p, _ := a.Prefix(bits)
	return p.Contains(b)
}

func entryLine(k fsm.ServiceKey, last netip.Addr) string {
	line := k.Addr.String()
	if raw := last.AsSlice(); last != k.Addr && last.Is4() {
		line += fmt.Sprintf("-%d", raw[3])
	} else if last != k.Addr {
		line += fmt.Sprintf("-%x", int(raw[14])<<8|int(raw[15]))
	}
	if k.Port != 0 {
		line += fmt.Sprintf(" %d", k.Port)
	}
	return line
}
