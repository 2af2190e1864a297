package realserver

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// The sysctls, by their names below net.ipv4.conf.<interface>.
const (
	ignore   = "arp_ignore"
	announce = "arp_announce"
)

// Address is an address of an interface.
type Address struct {
	Prefix   netip.Prefix // the address with the length of its network
	Device   string
	Loopback bool // of lo
}

// Seen is what the kernel has.
type Seen struct {
	Addresses []Address
	// ARP has the values of arp_ignore and arp_announce of "all" and of each interface
	// but lo: Seen.ARP["eth0"]["arp_ignore"].
	ARP map[string]map[string]int
}

// Record is what was changed on this host: what uninstalling takes back. It is good
// until the next boot.
type Record struct {
	Addresses []netip.Addr   `json:"addresses,omitempty"` // on lo
	ARP       map[string]int `json:"arp,omitempty"`       // what the settings of "all" were
}

// Op is one change of the kernel.
type Op struct {
	Kind  Kind
	Addr  netip.Addr // of Add and Remove
	Name  string     // of Set and Restore: arp_ignore or arp_announce, of "all"
	Value int
}

// Kind is a kind of change.
type Kind string

// The changes. Restore is a Set that also ends the Record's note, Forget only that:
// somebody else has set it since.
const (
	Set     Kind = "set"
	Restore Kind = "restore"
	Forget  Kind = "forget"
	Add     Kind = "add"
	Remove  Kind = "remove"
)

// String is the change as a person would type it.
func (o Op) String() string {
	switch o.Kind {
	case Add, Remove:
		verb := map[Kind]string{Add: "add", Remove: "del"}[o.Kind]
		return fmt.Sprintf("ip addr %s %s/%d dev lo", verb, o.Addr, o.Addr.BitLen())
	case Forget:
		return fmt.Sprintf("net.ipv4.conf.all.%s stays as it is: it was changed by somebody else", o.Name)
	}
	return fmt.Sprintf("sysctl net.ipv4.conf.all.%s=%d", o.Name, o.Value)
}

// silent reports whether arp_ignore with this value keeps addresses of lo to itself:
// 3 answers for whatever has a scope above the host's, 4 to 7 mean nothing and so
// answer (Documentation/networking/ip-sysctl.rst).
func silent(ignore int) bool { return ignore == 1 || ignore == 2 || ignore == 8 }

// wantARP is what "all" must have for VIPs on lo, in this order.
var wantARP = []struct {
	name  string
	value int
	good  func(int) bool
}{
	{ignore, 1, silent},
	{announce, 2, func(v int) bool { return v == 2 }},
}

// Plan says what is to be done, in order, so that lo has the VIPs wanted. What is on
// lo is silent at every moment: the settings come before the addresses, and go after
// them. An interface that would answer all the same keeps IPv4 addresses from being
// added.
func Plan(want []netip.Addr, seen Seen, rec Record) []Op {
	var ops []Op
	wants4 := slices.ContainsFunc(want, netip.Addr.Is4)
	if wants4 {
		for _, w := range wantARP {
			if now := seen.ARP["all"][w.name]; !w.good(now) {
				ops = append(ops, Op{Kind: Set, Name: w.name, Value: w.value})
			}
		}
	}
	talks := len(talkers(seen)) > 0
	for _, a := range want {
		if !seen.OnLoopback(a) && (a.Is6() || !talks) {
			ops = append(ops, Op{Kind: Add, Addr: a})
		}
	}
	for _, a := range rec.Addresses {
		if !slices.Contains(want, a) {
			ops = append(ops, Op{Kind: Remove, Addr: a})
		}
	}
	if wants4 {
		return ops
	}
	for _, w := range slices.Backward(wantARP) {
		was, changed := rec.ARP[w.name]
		switch {
		case !changed:
		case seen.ARP["all"][w.name] == w.value:
			ops = append(ops, Op{Kind: Restore, Name: w.name, Value: was})
		default:
			ops = append(ops, Op{Kind: Forget, Name: w.name})
		}
	}
	return ops
}

// OnLoopback reports whether the address is on lo, whoever put it there.
func (s Seen) OnLoopback(a netip.Addr) bool {
	return slices.ContainsFunc(s.Addresses, func(o Address) bool { return o.Loopback && o.Prefix.Addr() == a })
}

// Own are the addresses by which this host can be a real server: all but those of lo
// and link-local ones.
func (s Seen) Own() []netip.Addr {
	var own []netip.Addr
	for _, a := range s.Addresses {
		if !a.Loopback && !a.Prefix.Addr().IsLinkLocalUnicast() {
			own = append(own, a.Prefix.Addr())
		}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	return slices.Compact(own)
}

// talkers are the interfaces whose own setting makes them answer for lo whatever
// "all" says, as the larger of the two values counts.
func talkers(seen Seen) []string {
	var out []string
	for _, dev := range slices.Sorted(maps.Keys(seen.ARP)) {
		if dev != "all" && !silent(max(seen.ARP[dev][ignore], 1)) {
			out = append(out, dev)
		}
	}
	return out
}

// Problems says what is wrong on this host with the VIPs wanted, and what to do.
func Problems(want []netip.Addr, seen Seen) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, vip := range want {
		if !seen.OnLoopback(vip) {
			say("%s is not on lo: this host drops what the directors send it for %s", vip, vip)
		}
		for _, a := range seen.Addresses {
			switch {
			case a.Prefix.Addr() != vip:
			case !a.Loopback:
				say("%s is on %s as well: this host answers for it there and takes clients from the directors: ip addr del %s dev %s", vip, a.Device, a.Prefix, a.Device)
			case !a.Prefix.IsSingleIP():
				say("%s is on lo with its network: all of %s counts as this host: ip addr del %s dev lo", vip, a.Prefix.Masked(), a.Prefix)
			}
		}
	}
	if !slices.ContainsFunc(want, netip.Addr.Is4) {
		return out
	}
	all := seen.ARP["all"]
	for _, dev := range slices.Sorted(maps.Keys(seen.ARP)) {
		if dev == "all" {
			continue
		}
		if v := max(all[ignore], seen.ARP[dev][ignore]); !silent(v) {
			say("%s answers ARP for what is on lo: net.ipv4.conf.%s.arp_ignore is %d, and 1 is needed", dev, which(all[ignore], seen.ARP[dev][ignore], dev), v)
		}
		if v := max(all[announce], seen.ARP[dev][announce]); v != 2 {
			say("%s may name a VIP as the sender of ARP requests: net.ipv4.conf.%s.arp_announce is %d, and 2 is needed", dev, which(all[announce], seen.ARP[dev][announce], dev), v)
		}
	}
	return out
}

// which names the setting that counts.
func which(all, own int, dev string) string {
	if own > all {
		return dev
	}
	return "all"
}
