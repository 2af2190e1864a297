package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clsact attaches as the first filter of the clsact qdisc. Filters belong to
// the interface, so they outlive the process by themselves.
type clsact struct{}

const (
	clsactPriority = 1
	clsactHandle   = 0x1bc // ours among the filters of that priority
)

func clsactParent(d direction) uint32 {
	if d == ingress {
		return netlink.HANDLE_MIN_INGRESS
	}
	return netlink.HANDLE_MIN_EGRESS
}

func (clsact) filters(ifindex int, d direction) ([]netlink.Filter, error) {
	filters, err := netlink.FilterList(byIndex(ifindex), clsactParent(d))
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		filters, err = netlink.FilterList(byIndex(ifindex), clsactParent(d))
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil, nil // no such qdisc
	}
	if err != nil {
		return nil, fmt.Errorf("list the filters (%s) of interface %d: %w", d, ifindex, err)
	}
	return filters, nil
}

func (c clsact) list(ifindex int, d direction) ([]found, error) {
	filters, err := c.filters(ifindex, d)
	var out []found
	for i, f := range filters {
		if isGateFilter(f, d) {
			out = append(out, found{id: ebpf.ProgramID(f.(*netlink.BpfFilter).Id), first: i == 0})
		}
	}
	return out, err
}

// isGateFilter tells a gate's filter by where it is and by its program's name.
func isGateFilter(f netlink.Filter, d direction) bool {
	b, ok := f.(*netlink.BpfFilter)
	return ok && b.Handle == clsactHandle && b.Priority == clsactPriority && strings.HasPrefix(b.Name, progName(d))
}

func (c clsact) place(ifindex int, d direction, id ebpf.ProgramID) (int, error) {
	filters, err := c.filters(ifindex, d)
	return slices.IndexFunc(filters, func(f netlink.Filter) bool {
		b, ok := f.(*netlink.BpfFilter)
		return ok && b.DirectAction && ebpf.ProgramID(b.Id) == id
	}), err
}

func (c clsact) attach(ifindex int, d direction, p *ebpf.Program) error {
	if err := c.makePlace(ifindex, d); err != nil {
		return err
	}
	f := c.filter(ifindex, d)
	f.Fd, f.Name, f.DirectAction = p.FD(), progName(d), true
	if err := netlink.FilterReplace(f); err != nil {
		return explain(fmt.Errorf("add the gate's filter, which must be of priority %d (does another kind of filter have that? tc filter show): %w", clsactPriority, err))
	}
	return nil
}

// ErrIngressQdisc: the interface has an ingress qdisc, which has a place for
// packets that come in only, and others' filters on it.
var ErrIngressQdisc = errors.New("an ingress qdisc with others' filters is in the way of clsact, and only that has a place for packets that go out")

// makePlace sees to the qdisc that filters hang on. An ingress qdisc is replaced
// by clsact, which serves whoever adds filters to its ingress as well; but not
// one that carries others' filters, which would be lost. The gate then guards
// what comes in at least.
func (c clsact) makePlace(ifindex int, d direction) error {
	err := netlink.QdiscAdd(clsactQdisc(ifindex))
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return explain(fmt.Errorf("add the clsact qdisc: %w", err))
	}
	in, err := ingressQdisc(ifindex)
	if err != nil || in == nil {
		return err
	}
	filters, err := c.filters(ifindex, ingress)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(filters, func(f netlink.Filter) bool { return !isGateFilter(f, ingress) }) {
		if d == ingress {
			return nil
		}
		name := byName(ifindex)
		return fmt.Errorf("%w: tc qdisc del dev %s ingress && tc qdisc add dev %s clsact, then add its filters again (tc filter add dev %s ingress ...)",
			ErrIngressQdisc, name, name, name)
	}
	if err := netlink.QdiscDel(in); err != nil && !errors.Is(err, unix.ENOENT) {
		return explain(fmt.Errorf("remove the ingress qdisc, which has no filters: %w", err))
	}
	if err := netlink.QdiscAdd(clsactQdisc(ifindex)); err != nil && !errors.Is(err, unix.EEXIST) {
		return explain(fmt.Errorf("put clsact in place of the ingress qdisc: %w", err))
	}
	return nil
}

func clsactQdisc(ifindex int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// ingressQdisc is the interface's qdisc of the kind "ingress"; nil: it has none.
func ingressQdisc(ifindex int) (netlink.Qdisc, error) {
	list, err := netlink.QdiscList(byIndex(ifindex))
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		list, err = netlink.QdiscList(byIndex(ifindex))
	}
	if err != nil {
		return nil, fmt.Errorf("list the qdiscs of interface %d: %w", ifindex, err)
	}
	for _, q := range list {
		if in, ok := q.(*netlink.Ingress); ok {
			return in, nil
		}
	}
	return nil, nil
}

func byName(ifindex int) string {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Sprint(ifindex)
	}
	return l.Attrs().Name
}

func (clsact) filter(ifindex int, d direction) *netlink.BpfFilter {
	return &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: ifindex, Parent: clsactParent(d), Handle: clsactHandle,
		Protocol: unix.ETH_P_ALL, Priority: clsactPriority,
	}}
}

func (c clsact) detach(ifindex int, d direction) error {
	here, err := c.list(ifindex, d)
	if err != nil || len(here) == 0 {
		return err
	}
	if err := netlink.FilterDel(c.filter(ifindex, d)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the gate's filter (%s) from interface %d: %w", d, ifindex, err)
	}
	return nil
}

func (clsact) forget(map[int]bool) error { return nil }

// byIndex is a link for calls that need no more than its index.
func byIndex(i int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: i}}
}
