package fwmark

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Names of what this package owns: "nft list table inet lbcluster" shows it.
const (
	Table     = "lbcluster"      // of what New makes
	HoldTable = "lbcluster_hold" // of what NewHold makes
)

// layout is a table.
type layout struct {
	table  string
	chains []chain
}

// chain is what a table does at one place of the kernel.
type chain struct {
	name     string
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	first    [][]expr.Any // before all rules
	exprs    func(Rule) []expr.Any
}

func marks(spared uint32) layout {
	return layout{Table, []chain{{
		name: "mark", hook: nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityMangle,
		first: [][]expr.Any{spare(spared)}, exprs: Rule.exprs,
	}}}
}

func holds() layout {
	return layout{HoldTable, []chain{
		// IPVS takes its packets, and ends them for this chain, at 98 and 99.
		{name: "hold", hook: nftables.ChainHookInput, priority: 150, exprs: Rule.hold},
		{name: "hush", hook: nftables.ChainHookOutput, priority: *nftables.ChainPriorityFilter, exprs: Rule.hush},
	}}
}

// ErrNoTables: the kernel has no nftables.
var ErrNoTables = errors.New("this kernel has no nftables (module nf_tables): it cannot mark packets")

// Handle keeps the table of one network namespace. Safe for concurrent use. It
// holds no state and no socket.
type Handle struct {
	path string
	lay  layout

	mu sync.Mutex
}

// New returns a handle on the network namespace at path (as "/run/netns/dir1");
// "" is the process's own. Packets that have the mark spared keep it. It opens
// nothing.
func New(path string, spared uint32) *Handle {
	return &Handle{path: path, lay: marks(spared)}
}

// NewHold returns a handle on another table. What its rules (whose marks mean
// nothing) are for is not refused, so that its client asks again: a request for a
// new connection that IPVS did not take on its way to this host itself is dropped;
// and so is the ICMP message "port unreachable" with which IPVS answers for a
// service that has no real server. TCP segments of connections, and other protocols
// than TCP and UDP, are let through.
func NewHold(path string) *Handle {
	return &Handle{path: path, lay: holds()}
}

// Set makes rules the table's, in this order, and reports whether it had to
// change anything. Without rules the table is removed.
func (h *Handle) Set(rules []Rule) (changed bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	conn, done, err := h.open()
	if err != nil {
		return false, err
	}
	defer done()
	table, err := find(conn, h.lay)
	if err != nil {
		return false, fmt.Errorf("read the nftables table inet %s: %w", h.lay.table, explain(err))
	}
	if len(rules) == 0 && table == nil {
		return false, nil
	}
	if len(rules) > 0 && table != nil {
		if stands, err := stands(conn, table, h.lay, rules); err != nil {
			return false, fmt.Errorf("read the nftables table inet %s: %w", h.lay.table, explain(err))
		} else if stands {
			return false, nil
		}
	}
	replace(conn, h.lay, table != nil, rules)
	if err := conn.Flush(); err != nil {
		return false, fmt.Errorf("write the nftables table inet %s: %w", h.lay.table, explain(err))
	}
	return true, nil
}

// want are the rules as expressions.
func (c chain) want(rules []Rule) [][]expr.Any {
	out := slices.Clone(c.first)
	for _, r := range rules {
		out = append(out, c.exprs(r))
	}
	return out
}

func (h *Handle) open() (*nftables.Conn, func(), error) {
	if h.path == "" {
		conn, err := nftables.New()
		return conn, func() {}, explain(err)
	}
	ns, err := netns.GetFromPath(h.path)
	if err != nil {
		return nil, nil, fmt.Errorf("network namespace %s: %w", h.path, err)
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		ns.Close()
		return nil, nil, fmt.Errorf("nftables: %w", explain(err))
	}
	return conn, func() { ns.Close() }, nil
}

// find returns our table, or nil.
func find(conn *nftables.Conn, l layout) (*nftables.Table, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == l.table && t.Family == nftables.TableFamilyINet })
	if i < 0 {
		return nil, nil
	}
	return tables[i], nil
}

// stands reports whether the table has exactly our chains with exactly the rules.
func stands(conn *nftables.Conn, table *nftables.Table, l layout, rules []Rule) (bool, error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != l.table })
	if len(chains) != len(l.chains) || table.Flags != 0 {
		return false, nil
	}
	for _, w := range l.chains {
		i := slices.IndexFunc(chains, func(c *nftables.Chain) bool { return sameChain(c, w.in(table)) })
		if i < 0 {
			return false, nil
		}
		have, err := conn.GetRules(table, chains[i])
		if err != nil {
			return false, err
		}
		if !slices.EqualFunc(have, w.want(rules), func(r *nftables.Rule, w []expr.Any) bool { return same(r.Exprs, w) }) {
			return false, nil
		}
	}
	return true, nil
}

func sameChain(a, b *nftables.Chain) bool {
	return a.Name == b.Name && a.Type == b.Type &&
		a.Hooknum != nil && *a.Hooknum == *b.Hooknum && a.Priority != nil && *a.Priority == *b.Priority &&
		(a.Policy == nil || *a.Policy == nftables.ChainPolicyAccept)
}

func (c chain) in(t *nftables.Table) *nftables.Chain {
	return &nftables.Chain{
		Name: c.name, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: c.hook, Priority: &c.priority,
	}
}

// replace queues one transaction: the old table goes, the new one comes, if there
// are rules.
func replace(conn *nftables.Conn, l layout, there bool, rules []Rule) {
	t := &nftables.Table{Name: l.table, Family: nftables.TableFamilyINet}
	if there {
		conn.DelTable(t)
	}
	if len(rules) == 0 {
		return
	}
	conn.AddTable(t)
	for _, w := range l.chains {
		c := conn.AddChain(w.in(t))
		for _, exprs := range w.want(rules) {
			conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: exprs})
		}
	}
}

// explain names the missing module.
func explain(err error) error {
	for _, no := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %w", ErrNoTables, err)
		}
	}
	return err
}
