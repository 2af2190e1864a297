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

// layout is a table of one chain.
type layout struct {
	table, chain string
	hook         *nftables.ChainHook
	priority     nftables.ChainPriority
}

var (
	marks = layout{Table, "mark", nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle}
	// IPVS takes its packets, and ends them for this chain, at 98 and 99.
	holds = layout{HoldTable, "hold", nftables.ChainHookInput, 150}
)

// ErrNoTables: the kernel has no nftables.
var ErrNoTables = errors.New("this kernel has no nftables (module nf_tables): it cannot mark packets")

// Handle keeps the table of one network namespace. Safe for concurrent use. It
// holds no state and no socket.
type Handle struct {
	path  string
	lay   layout
	first [][]expr.Any // before all rules
	exprs func(Rule) []expr.Any

	mu sync.Mutex
}

// New returns a handle on the network namespace at path (as "/run/netns/dir1");
// "" is the process's own. Packets that have the mark spared keep it. It opens
// nothing.
func New(path string, spared uint32) *Handle {
	return &Handle{path: path, lay: marks, first: [][]expr.Any{spare(spared)}, exprs: Rule.exprs}
}

// NewHold returns a handle on another table: its rules (whose marks mean nothing)
// drop what asks for a new connection and was not taken by IPVS on its way to this
// host itself, so that it is asked for again, rather than refused. TCP segments of
// connections, and other protocols than TCP and UDP, are let through.
func NewHold(path string) *Handle {
	return &Handle{path: path, lay: holds, exprs: Rule.hold}
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
	want := h.want(rules)
	if len(rules) > 0 && table != nil {
		if stands, err := stands(conn, table, h.lay, want); err != nil {
			return false, fmt.Errorf("read the nftables table inet %s: %w", h.lay.table, explain(err))
		} else if stands {
			return false, nil
		}
	}
	replace(conn, h.lay, table != nil, want)
	if err := conn.Flush(); err != nil {
		return false, fmt.Errorf("write the nftables table inet %s: %w", h.lay.table, explain(err))
	}
	return true, nil
}

// want are the rules as expressions; none: no table.
func (h *Handle) want(rules []Rule) [][]expr.Any {
	if len(rules) == 0 {
		return nil
	}
	out := slices.Clone(h.first)
	for _, r := range rules {
		out = append(out, h.exprs(r))
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

// stands reports whether the table has exactly our chain with exactly want.
func stands(conn *nftables.Conn, table *nftables.Table, l layout, want [][]expr.Any) (bool, error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != l.table })
	if len(chains) != 1 || !sameChain(chains[0], l.newChain(table)) || table.Flags != 0 {
		return false, nil
	}
	have, err := conn.GetRules(table, chains[0])
	if err != nil {
		return false, err
	}
	return slices.EqualFunc(have, want, func(r *nftables.Rule, w []expr.Any) bool { return same(r.Exprs, w) }), nil
}

func sameChain(a, b *nftables.Chain) bool {
	return a.Name == b.Name && a.Type == b.Type &&
		a.Hooknum != nil && *a.Hooknum == *b.Hooknum && a.Priority != nil && *a.Priority == *b.Priority &&
		(a.Policy == nil || *a.Policy == nftables.ChainPolicyAccept)
}

func (l layout) newChain(t *nftables.Table) *nftables.Chain {
	return &nftables.Chain{
		Name: l.chain, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: l.hook, Priority: &l.priority,
	}
}

// replace queues one transaction: the old table goes, the new one comes.
func replace(conn *nftables.Conn, l layout, there bool, want [][]expr.Any) {
	t := &nftables.Table{Name: l.table, Family: nftables.TableFamilyINet}
	if there {
		conn.DelTable(t)
	}
	if len(want) == 0 {
		return
	}
	conn.AddTable(t)
	c := conn.AddChain(l.newChain(t))
	for _, exprs := range want {
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: exprs})
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
