package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

var (
	// ErrModule: the kernel has no IPVS and loading it failed.
	ErrModule = errors.New("this kernel has no IPVS: load the module ip_vs (modprobe ip_vs)")
	// ErrPermission: even reading the table needs the capability.
	ErrPermission = errors.New("IPVS needs the capability CAP_NET_ADMIN")
	// ErrScheduler: the service's scheduler, or its persistence engine, is not in
	// this kernel.
	ErrScheduler = errors.New("the kernel has no such scheduler (module ip_vs_NAME) or persistence engine (ip_vs_pe_NAME)")
)

// maxWeight is keepalived's largest weight, too.
const maxWeight = 65535

// Handle reads and writes the IPVS table of one network namespace. Safe for
// concurrent use. It holds no state but its socket.
type Handle struct {
	path string

	mu sync.Mutex
	s  *socket // nil: not open
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
	if h.s != nil {
		h.s.close()
		h.s = nil
	}
}

// open makes h.s usable.
func (h *Handle) open() error {
	if h.s != nil {
		return nil
	}
	if err := load(); err != nil {
		return err
	}
	s, err := openSocket(h.path)
	if err != nil {
		return fmt.Errorf("open IPVS: %w", explain(err, Op{}))
	}
	h.s = s
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

// Services reads the services that List would, without their destinations, in one
// request.
func (h *Handle) Services() ([]Service, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return nil, err
	}
	all, err := h.s.services()
	if err != nil {
		h.drop()
		return nil, fmt.Errorf("list the IPVS services: %w", explain(err, Op{}))
	}
	Sort(all)
	return all, nil
}

// Dests reads the destinations of one service, sorted: none where there is no such
// service.
func (h *Handle) Dests(key Key) ([]Dest, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return nil, err
	}
	s := Service{Key: key}
	var err error
	if s.Dests, err = h.s.dests(s); err != nil {
		var errno unix.Errno
		if !errors.As(err, &errno) || errno == unix.EAGAIN {
			h.drop()
		}
		return nil, fmt.Errorf("list the destinations of %s: %w", key, explain(err, Op{}))
	}
	return s.Canonical().Dests, nil
}

func (h *Handle) list() ([]Service, error) {
	all, err := h.s.services()
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	out := make([]Service, 0, len(all))
	for _, s := range all {
		dests, err := h.s.dests(s)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("destinations of %s: %w", s.Key, err)
		}
		s.Dests = dests
		out = append(out, s)
	}
	Sort(out)
	return out, nil
}

// Do carries out one operation. Removing what is gone already is no error.
func (h *Handle) Do(op Op) error { return h.DoAll([]Op{op})[0] }

// DoAll carries out operations in order, whatever becomes of those before, and
// returns an error or nil for each. Many go to the kernel in one message, which is
// several times faster than one by one.
func (h *Handle) DoAll(ops []Op) []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	errs := make([]error, len(ops))
	for at := 0; at < len(ops); at += batch {
		end := min(at+batch, len(ops))
		h.doBatch(ops[at:end], errs[at:end])
	}
	return errs
}

// batch is how many operations go in one message: 100 of some 150 bytes.
const batch = 100

// doBatch fills in errs.
func (h *Handle) doBatch(ops []Op, errs []error) {
	var sent []int // which operations are sent
	for i, op := range ops {
		if err := check(op); err != nil {
			errs[i] = fmt.Errorf("ipvsadm %s: %w", op, err)
		} else {
			sent = append(sent, i)
		}
	}
	if len(sent) == 0 {
		return
	}
	opened := h.open()
	var reqs []*nl.NetlinkRequest
	for _, i := range sent {
		if errs[i] = opened; opened == nil {
			reqs = append(reqs, h.s.request(ops[i]))
		}
	}
	if opened != nil {
		return
	}
	broken := false
	for n, err := range h.s.askAll(reqs) {
		if op := ops[sent[n]]; err != nil && !gone(op, err) {
			var errno unix.Errno
			broken = broken || !errors.As(err, &errno) || errno == unix.EAGAIN
			errs[sent[n]] = fmt.Errorf("ipvsadm %s: %w", op, explain(err, op))
		}
	}
	if broken {
		h.drop() // a timeout or a broken socket, no answer of the kernel
	}
}

// check refuses what the kernel would misunderstand.
func check(op Op) error {
	if commands[op.Verb] == 0 {
		return fmt.Errorf("unknown verb %d", op.Verb)
	}
	if op.Verb == RemoveService || op.Verb == RemoveDest {
		return nil
	}
	k := op.Service.Key
	if k.Mark == 0 && (!k.Addr.IsValid() || k.Addr.Is4In6() || k.Protocol != TCP && k.Protocol != UDP && k.Protocol != SCTP) {
		return errors.New("only TCP, UDP and SCTP services, and firewall marks, are written")
	}
	if op.Verb != AddDest && op.Verb != UpdateDest {
		return nil
	}
	if d := op.Dest.Addr; !d.IsValid() || d.Is4In6() || d.Is6() != k.Is6() && op.Dest.Method != Tunnel {
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
	case errors.Is(err, unix.EINVAL) && op.Verb == AddDest && op.Dest.Addr.Is6() != op.Service.Is6():
		return fmt.Errorf("%w (the kernel refuses a real server of the other address family while a sync daemon runs: ipvsadm --list --daemon)", err)
	case errors.Is(err, unix.EINVAL) && op.Verb == AddDest:
		return fmt.Errorf("%w (the kernel refuses destinations until lo has been up once: ip link set lo up)", err)
	}
	return err
}
