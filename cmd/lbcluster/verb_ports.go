package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"lbcluster/cluster"
	"lbcluster/fsm"
)

// The numbers that are not the operator's to choose.
const (
	protoVRRP   = "112"
	defaultSync = 8848 // of IPVS's connection synchronisation (net/netfilter/ipvs/ip_vs_sync.c)
)

// opening is something that a firewall has to let in.
type opening struct {
	Protocol string       `json:"protocol"`             // tcp, udp, sctp or an IP protocol's number
	From     uint16       `json:"from,omitempty"`       // port; 0: the protocol has none, or all
	To       uint16       `json:"to,omitempty"`         // of a range, else From
	Dest     netip.Prefix `json:"destination,omitzero"` // none: this machine's addresses
	What     string       `json:"what"`
}

func (a *app) portsCommand() *cobra.Command {
	var nft, firewalld bool
	var chain, role string
	cmd := &cobra.Command{
		Use:   "ports",
		Short: "Show what a firewall on this machine must let in",
		Long: `Show what a firewall on this machine must let in: by its role, the ports in its
lbcluster.yaml, and, from a running daemon, the table. Where no daemon answers the
virtual servers are not known, and connection synchronisation is taken to be on.

With --nft as rules to be added to a chain (lbcluster ports --nft | nft -f -), with
--firewalld as commands. Answers to what this machine itself begins (checks, joining)
are not in it: a firewall must let in what belongs to a connection, as all do that
drop by default, and for IPv6 neighbour discovery. Nor is what is forwarded: services
by NAT go through the chain "forward".`,
		Example: `  lbcluster ports
  lbcluster ports --nft --chain "inet filter input" | nft -f -`,
		Args:    cobra.NoArgs,
		GroupID: groupLook,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			all, err := a.openings(cmd.Context(), fsm.Role(role))
			if err != nil {
				return err
			}
			return a.print(all, func() string {
				switch {
				case nft:
					return renderNft(all, chain)
				case firewalld:
					return renderFirewalld(all)
				}
				return renderPorts(all)
			})
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&nft, "nft", false, "as rules of nftables")
	f.BoolVar(&firewalld, "firewalld", false, "as commands of firewalld")
	f.StringVar(&chain, "chain", "inet filter input", "with --nft: family, table and `CHAIN`")
	f.StringVar(&role, "role", "", "as for a director or a witness (default: what this machine is; in no cluster, a director)")
	cmd.MarkFlagsMutuallyExclusive("nft", "firewalld")
	return cmd
}

// openings looks at what is known of this machine.
func (a *app) openings(ctx context.Context, role fsm.Role) ([]opening, error) {
	raw, err := readNodeFile(a.config)
	if err != nil {
		return nil, err
	}
	port := uint16(defaultPort)
	if at, err := netip.ParseAddrPort(raw.Addr); err == nil {
		port = at.Port()
	}
	id, enrolled, err := cluster.EnrolledAs(or(raw.DataDir, defaultDataDir))
	if err == nil && enrolled {
		port = id.Addr.Port()
	}
	switch role {
	case "":
		role = fsm.Director
		if enrolled {
			role = id.Role
		}
	case fsm.Director, fsm.Witness:
	default:
		return nil, fmt.Errorf("%w: --role %q is neither director nor witness", fsm.ErrInvalid, role)
	}
	table, err := a.client().Table(ctx, 0)
	if err != nil {
		a.say("note: no table is known here (%v): virtual servers are left out", err)
		table = nil
	}
	all := openingsOf(role, port, table)
	for _, s := range []struct{ addr, what string }{{raw.Metrics, "metrics"}, {raw.Web.Listen, "web page and API"}} {
		if at, err := netip.ParseAddrPort(s.addr); err == nil {
			all = append(all, opening{Protocol: "tcp", From: at.Port(), To: at.Port(), What: s.what})
		}
	}
	return all, nil
}

// openingsOf is what a member of a role needs; a nil table: it is not known.
func openingsOf(role fsm.Role, port uint16, t *fsm.Table) []opening {
	one := func(protocol string, port uint16, what string) opening {
		return opening{Protocol: protocol, From: port, To: port, What: what}
	}
	all := []opening{
		one("tcp", port, "members, joining, real servers that ask for VIPs"),
		one("udp", port, "leases"),
		one("tcp", port+1, "gossip"),
		one("udp", port+1, "gossip"),
	}
	if role != fsm.Director {
		return all
	}
	all = append(all, opening{Protocol: protoVRRP, What: "VRRP"})
	if t == nil {
		return append(all, one("udp", defaultSync, "connection synchronisation"))
	}
	if s := t.IPVS().Sync; s != nil {
		at := s.Port
		if at == 0 {
			at = defaultSync
		}
		all = append(all, one("udp", at, "connection synchronisation"))
	}
	for _, v := range t.Services {
		if v.Mark == 0 {
			all = append(all, opening{string(v.Protocol), v.Port, v.Port, netip.PrefixFrom(v.Addr, v.Addr.BitLen()), "virtual server"})
		}
		for _, m := range v.Matches {
			all = append(all, opening{string(m.Protocol), m.FromPort, max(m.FromPort, m.ToPort), m.Addr, "virtual server of a firewall mark"})
		}
	}
	return all
}

// ports is "80", "80-90", or "" for all.
func (o opening) ports(between string) string {
	switch {
	case o.From == 0:
		return ""
	case o.To == o.From:
		return strconv.Itoa(int(o.From))
	}
	return fmt.Sprintf("%d%s%d", o.From, between, o.To)
}

func renderPorts(all []opening) string {
	t := newTable("PROTOCOL", "PORT", "TO", "FOR")
	for _, o := range all {
		to := "this machine"
		if o.Dest.IsValid() {
			to = addrText(o.Dest)
		}
		protocol := o.Protocol
		if protocol == protoVRRP {
			protocol = "112 (VRRP)"
		}
		t.row(protocol, or(o.ports("-"), "all"), to, o.What)
	}
	return t.String()
}

// addrText is an address without the length of a prefix that is only it.
func addrText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func renderNft(all []opening, chain string) string {
	var b strings.Builder
	for _, o := range all {
		fmt.Fprintf(&b, "add rule %s ", chain)
		if o.Dest.IsValid() {
			family := "ip"
			if o.Dest.Addr().Is6() {
				family = "ip6"
			}
			fmt.Fprintf(&b, "%s daddr %s ", family, addrText(o.Dest))
		}
		if ports := o.ports("-"); ports != "" {
			fmt.Fprintf(&b, "%s dport %s", o.Protocol, ports)
		} else {
			fmt.Fprintf(&b, "meta l4proto %s", o.Protocol)
		}
		fmt.Fprintf(&b, " accept comment \"lbcluster: %s\"\n", o.What)
	}
	return b.String()
}

func renderFirewalld(all []opening) string {
	var b strings.Builder
	for _, o := range all {
		ports := o.ports("-")
		switch {
		case o.Dest.IsValid():
			family := "ipv4"
			if o.Dest.Addr().Is6() {
				family = "ipv6"
			}
			what := fmt.Sprintf(`protocol value="%s"`, o.Protocol)
			if ports != "" {
				what = fmt.Sprintf(`port port="%s" protocol="%s"`, ports, o.Protocol)
			}
			fmt.Fprintf(&b, "firewall-cmd --permanent --add-rich-rule='rule family=\"%s\" destination address=\"%s\" %s accept'\n", family, addrText(o.Dest), what)
		case o.Protocol == protoVRRP:
			b.WriteString("firewall-cmd --permanent --add-protocol=vrrp\n")
		default:
			fmt.Fprintf(&b, "firewall-cmd --permanent --add-port=%s/%s\n", ports, o.Protocol)
		}
	}
	return b.String() + "firewall-cmd --reload\n"
}
