package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os/exec"
	"sync"

	"encoding/binary"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	// ErrModule: the kernel has no IPVS and loading it failed.
	ErrModule = errors.New("this kernel has no IPVS: load the module ip_vs (modprobe ip_vs)")
	// ErrPermission: even reading the table needs the capability.
	ErrPermission = errors.New("IPVS needs the capability CAP_NET_ADMIN")
	// ErrScheduler: the service's scheduler is not in this kernel.
	ErrScheduler = errors.New("the kernel has no such scheduler (module ip_vs_NAME)")
)

// maxWeight is the largest weight that the library reads back whole; it is
// keepalived's largest, too.
const maxWeight = 65535

// Handle reads and writes the IPVS table of one network namespace. Safe for
// concurrent use. It holds no state but its socket.
type Handle struct {
	path string

	mu sync.Mutex
	h  *moby.Handle // nil: not open
}

// New returns a handle on the network namespace at path (as
// "/run/netns/dir1"); "" is the process's own. It opens nothing yet.
func New(path string) *Handle { return &Handle{path: path} }

// Close closes the socket; a later call opens it again.
func (h *Handle) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop()
}

func (h *Handle) drop() {
	if h.h != nil {
		h.h.Close()
		h.h = nil
	}
}

// open makes h.h usable. The library looks the kernel's IPVS family up once in
// a process's life, so it is not called before the family is there.
func (h *Handle) open() error {
	if h.h != nil {
		return nil
	}
	if err := load(); err != nil {
		return err
	}
	m, err := moby.New(h.path)
	if err != nil {
		return fmt.Errorf("open IPVS: %w", explain(err, Op{}))
	}
	h.h = m
	return nil
}

func load() error {
	if _, err := netlink.GenlFamilyGet("IPVS"); err == nil {
		return nil
	}
	// Asked of the kernel again, whatever modprobe said: it may be built in,
	// or modprobe missing.
	out, modErr := exec.Command("modprobe", "ip_vs").CombinedOutput()
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		return fmt.Errorf("%w: netlink: %v; modprobe: %v %s", ErrModule, err, modErr, bytes.TrimSpace(out))
	}
	return nil
}

// List reads the whole table, sorted by key, with connection counts. A service
// that vanishes between the requests is left out.
func (h *Handle) List() ([]Service, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return nil, err
	}
	services, err := h.list()
	if err != nil {
		h.drop() // a reply may still be under way: a new socket never sees it
		return nil, fmt.Errorf("list the IPVS table: %w", explain(err, Op{}))
	}
	return services, nil
}

func (h *Handle) list() ([]Service, error) {
	raw, err := h.h.GetServices()
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	out := make([]Service, 0, len(raw))
	for _, r := range raw {
		s := fromService(r)
		dests, err := h.h.GetDestinations(r)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("destinations of %s: %w", s.Key, err)
		}
		for _, d := range dests {
			s.Dests = append(s.Dests, fromDest(d))
		}
		out = append(out, s)
	}
	Sort(out)
	return out, nil
}

// Do carries out one operation. Removing what is gone already is no error.
func (h *Handle) Do(op Op) error {
	if err := check(op); err != nil {
		return fmt.Errorf("ipvsadm %s: %w", op, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return err
	}
	err := h.do(op)
	if err == nil || gone(op, err) {
		return nil
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		h.drop() // a timeout or a broken socket, no answer of the kernel
	}
	return fmt.Errorf("ipvsadm %s: %w", op, explain(err, op))
}

func (h *Handle) do(op Op) error {
	s, d := toService(op.Service), toDest(op.Dest)
	switch op.Verb {
	case AddService:
		return h.h.NewService(s)
	case UpdateService:
		return h.h.UpdateService(s)
	case RemoveService:
		return h.h.DelService(s)
	case AddDest:
		return h.h.NewDestination(s, d)
	case UpdateDest:
		return h.h.UpdateDestination(s, d)
	case RemoveDest:
		return h.h.DelDestination(s, d)
	}
	return fmt.Errorf("unknown verb %d", op.Verb)
}

// check refuses what the library would write wrongly.
func check(op Op) error {
	if op.Verb == RemoveService || op.Verb == RemoveDest {
		return nil
	}
	k := op.Service.Key
	if k.Mark == 0 && (!k.Addr.IsValid() || k.Addr.Is4In6() || k.Protocol != TCP && k.Protocol != UDP) {
		return errors.New("only TCP and UDP services, and firewall marks, are written")
	}
	if op.Verb != AddDest && op.Verb != UpdateDest {
		return nil
	}
	// The library does not tell the kernel the destination's family, which then
	// takes the service's: another family would be written as garbage.
	if d := op.Dest.Addr; !d.IsValid() || d.Is4In6() || d.Is6() != k.Is6() {
		return fmt.Errorf("destination %s is not of the service's address family", op.Dest.DestKey)
	}
	if op.Dest.Weight < 0 || op.Dest.Weight > maxWeight {
		return fmt.Errorf("weight %d is outside 0-%d", op.Dest.Weight, maxWeight)
	}
	return nil
}

// gone: the kernel says ESRCH for a missing service, ENOENT for a destination.
func gone(op Op, err error) bool {
	return op.Verb == RemoveService && errors.Is(err, unix.ESRCH) ||
		op.Verb == RemoveDest && (errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT))
}

// explain adds what an operator can do about the kernel's answer.
func explain(err error, op Op) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	case errors.Is(err, unix.ENOENT) && (op.Verb == AddService || op.Verb == UpdateService):
		return fmt.Errorf("%w: %w", ErrScheduler, err)
	case errors.Is(err, unix.EINVAL) && op.Verb == AddDest:
		return fmt.Errorf("%w (the kernel refuses destinations until lo has been up once: ip link set lo up)", err)
	}
	return err
}

func toService(s Service) *moby.Service {
	s = s.Canonical()
	m := &moby.Service{
		AddressFamily: unix.AF_INET, FWMark: s.Mark,
		Protocol: uint16(s.Protocol), Port: s.Port,
		SchedName: s.Scheduler, Flags: uint32(s.Flags), Timeout: s.Timeout,
		Netmask: netmask(s),
	}
	if s.Is6() {
		m.AddressFamily = unix.AF_INET6
	}
	if s.Mark == 0 {
		m.Address = s.Addr.AsSlice()
	}
	return m
}

// netmask is the persistence mask as the kernel keeps it: of IPv6 its length, of
// IPv4 the mask in network order in a native word.
func netmask(s Service) uint32 {
	if s.Is6() {
		return uint32(s.Mask)
	}
	return binary.NativeEndian.Uint32(net.CIDRMask(min(int(s.Mask), 32), 32))
}

func toDest(d Dest) *moby.Destination {
	if !d.Addr.IsValid() {
		return nil
	}
	return &moby.Destination{
		Address: d.Addr.AsSlice(), Port: d.Port, Weight: d.Weight, ConnectionFlags: uint32(d.Method),
		UpperThreshold: d.Upper, LowerThreshold: d.Lower,
	}
}

func fromService(m *moby.Service) Service {
	s := Service{Scheduler: m.SchedName, Flags: Flags(m.Flags), Timeout: m.Timeout}
	s.Mark, s.V6 = m.FWMark, m.FWMark != 0 && m.AddressFamily == unix.AF_INET6
	if m.FWMark == 0 {
		s.Addr, _ = netip.AddrFromSlice(m.Address)
		s.Port, s.Protocol = m.Port, Protocol(m.Protocol)
	}
	s.Mask = uint8(bits.OnesCount32(m.Netmask))
	if m.AddressFamily == unix.AF_INET6 {
		s.Mask = uint8(m.Netmask)
	}
	return s.Canonical()
}

func fromDest(m *moby.Destination) Dest {
	addr, _ := netip.AddrFromSlice(m.Address)
	return Dest{
		DestKey: DestKey{Addr: addr, Port: m.Port},
		Method:  Method(m.ConnectionFlags & moby.ConnectionFlagFwdMask),
		Weight:  m.Weight, Upper: m.UpperThreshold, Lower: m.LowerThreshold,
		Active: uint32(m.ActiveConnections), Inactive: uint32(m.InactiveConnections),
	}
}
