package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Role is what a synchronisation daemon does. A network namespace has one of each
// at most, and may have both.
type Role uint32

// The kernel's IP_VS_STATE_MASTER and IP_VS_STATE_BACKUP.
const (
	Sends    Role = 1 // its connections to others ("master")
	Receives Role = 2 // what others send ("backup")
)

// String is ipvsadm's word for it.
func (r Role) String() string {
	switch r {
	case Sends:
		return "master"
	case Receives:
		return "backup"
	}
	return fmt.Sprintf("role %d", uint32(r))
}

// Daemon is a connection synchronisation daemon of the kernel (ipvsadm
// --start-daemon).
type Daemon struct {
	Role      Role
	Interface string
	// ID tells clusters on one network apart (syncid): 1-255, or 0, with which a
	// daemon that receives takes what everybody sends.
	ID uint8
	// Group is the multicast group; none: the kernel's own, 224.0.0.81.
	Group netip.Addr
	Port  uint16 // 0: the kernel's own, 8848
	TTL   uint8  // 0: the kernel's own, 1
	// MaxLen bounds a message, in bytes; 0: what the interface's MTU allows.
	MaxLen uint16
}

// The kernel's defaults.
const (
	DefaultSyncPort = 8848
	DefaultSyncTTL  = 1
)

// DefaultSyncGroup is IP_VS_SYNC_GROUP.
var DefaultSyncGroup = netip.AddrFrom4([4]byte{224, 0, 0, 81})

// Canonical is d with the kernel's defaults, as it is listed.
func (d Daemon) Canonical() Daemon {
	if !d.Group.IsValid() {
		d.Group = DefaultSyncGroup
	}
	if d.Port == 0 {
		d.Port = DefaultSyncPort
	}
	if d.TTL == 0 {
		d.TTL = DefaultSyncTTL
	}
	return d
}

// Same reports whether a daemon that is listed is what d asks for. A length that d
// leaves open is any.
func (d Daemon) Same(listed Daemon) bool {
	d, listed = d.Canonical(), listed.Canonical()
	if d.MaxLen == 0 {
		listed.MaxLen = 0
	}
	return d == listed
}

// Serves reports whether d, as listed, is what want asks for.
func (d Daemon) Serves(want Daemon) bool { return want.Same(d) }

// String is d as ipvsadm's arguments.
func (d Daemon) String() string {
	s := fmt.Sprintf("--start-daemon %s --mcast-interface %s --syncid %d", d.Role, d.Interface, d.ID)
	if d.MaxLen != 0 {
		s += fmt.Sprintf(" --sync-maxlen %d", d.MaxLen)
	}
	c := d.Canonical()
	if c.Group != DefaultSyncGroup {
		s += " --mcast-group " + c.Group.String()
	}
	if c.Port != DefaultSyncPort {
		s += fmt.Sprintf(" --mcast-port %d", c.Port)
	}
	if c.TTL != DefaultSyncTTL {
		s += fmt.Sprintf(" --mcast-ttl %d", c.TTL)
	}
	return s
}

// ErrMixed: the kernel starts no daemon while a destination is of another address
// family than its service, since its messages cannot name one.
var ErrMixed = errors.New("the kernel cannot synchronise connections while a tunnel leads to a real server of the other address family")

// Check refuses what the kernel would, with a reason.
func (d Daemon) Check() error {
	switch {
	case d.Role != Sends && d.Role != Receives:
		return fmt.Errorf("%s is none of master and backup", d.Role)
	case d.Interface == "" || len(d.Interface) >= unix.IFNAMSIZ:
		return fmt.Errorf("interface %q: want a name of 1 to %d bytes", d.Interface, unix.IFNAMSIZ-1)
	case d.Group.IsValid() && (!d.Group.IsMulticast() || d.Group.Is4In6()):
		return fmt.Errorf("%s is no multicast group", d.Group)
	}
	return nil
}

// Daemons lists what runs, the sender first.
func (h *Handle) Daemons() ([]Daemon, error) {
	var out []Daemon
	err := h.with("list the sync daemons", func() error {
		msgs, err := h.s.ask(cmdGetDaemon, unix.NLM_F_DUMP)
		if err != nil {
			return err
		}
		for _, m := range msgs {
			d, err := parseDaemon(m)
			if err != nil {
				return err
			}
			out = append(out, d)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b Daemon) int { return int(a.Role) - int(b.Role) })
	return out, err
}

// StartDaemon starts a daemon. One of its role that runs already is an error.
func (h *Handle) StartDaemon(d Daemon) error {
	if err := d.Check(); err != nil {
		return fmt.Errorf("ipvsadm %s: %w", d, err)
	}
	return h.with("ipvsadm "+d.String(), func() error {
		_, err := h.s.ask(cmdNewDaemon, 0, daemonAttr(d))
		switch {
		case errors.Is(err, unix.EINVAL):
			return fmt.Errorf("%w (%w, or the interface cannot multicast)", err, ErrMixed)
		case errors.Is(err, unix.ENODEV):
			return fmt.Errorf("no interface %s: %w", d.Interface, err)
		}
		return err
	})
}

// StopDaemon stops the daemon of that role; that none runs is no error.
func (h *Handle) StopDaemon(r Role) error {
	return h.with(fmt.Sprintf("ipvsadm --stop-daemon %s", r), func() error {
		a := nl.NewRtAttr(attrDaemon, nil)
		a.AddRtAttr(daemonState, u32(uint32(r)))
		_, err := h.s.ask(cmdDelDaemon, 0, a)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	})
}

// Timeouts are how long IPVS keeps connections without a packet (ipvsadm --set);
// whole seconds.
type Timeouts struct{ TCP, TCPFIN, UDP time.Duration }

// Timeout has only the one of that name: tcp, tcpfin or udp.
func Timeout(name string, d time.Duration) (t Timeouts) {
	*t.of(name) = d
	return t
}

// Of is the one of that name.
func (t Timeouts) Of(name string) time.Duration { return *t.of(name) }

func (t *Timeouts) of(name string) *time.Duration {
	switch name {
	case "tcp":
		return &t.TCP
	case "tcpfin":
		return &t.TCPFIN
	}
	return &t.UDP
}

// DefaultTimeouts are the kernel's own.
var DefaultTimeouts = Timeouts{TCP: 15 * time.Minute, TCPFIN: 2 * time.Minute, UDP: 5 * time.Minute}

// Timeouts reads them.
func (h *Handle) Timeouts() (t Timeouts, err error) {
	err = h.with("ipvsadm --list --timeout", func() error {
		msgs, err := h.s.ask(cmdGetConfig, 0)
		if err != nil {
			return err
		}
		if len(msgs) == 0 {
			return errShort
		}
		t, err = parseTimeouts(msgs[0])
		return err
	})
	return t, err
}

// Check refuses what the kernel would not take, or would not mean.
func (t Timeouts) Check() error {
	for name, d := range map[string]time.Duration{"tcp": t.TCP, "tcpfin": t.TCPFIN, "udp": t.UDP} {
		if d < 0 || d%time.Second != 0 || d > maxTimeout {
			return fmt.Errorf("IPVS timeout %s %v: want whole seconds, at most %v", name, d, maxTimeout)
		}
	}
	return nil
}

// maxTimeout is far below what the kernel refuses at its fastest tick (2^31/1000 s).
const maxTimeout = 20 * 24 * time.Hour

// SetTimeouts sets those that are not 0.
func (h *Handle) SetTimeouts(t Timeouts) error {
	if err := t.Check(); err != nil {
		return err
	}
	var parts []*nl.RtAttr
	for attr, d := range map[int]time.Duration{attrTimeoutTCP: t.TCP, attrTimeoutTCPFIN: t.TCPFIN, attrTimeoutUDP: t.UDP} {
		if d > 0 {
			parts = append(parts, nl.NewRtAttr(attr, u32(uint32(d/time.Second))))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return h.with(fmt.Sprintf("ipvsadm --set %d %d %d", t.TCP/time.Second, t.TCPFIN/time.Second, t.UDP/time.Second), func() error {
		_, err := h.s.ask(cmdSetConfig, 0, parts...)
		return err
	})
}

// with carries out one request; what names it in errors.
func (h *Handle) with(what string, request func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return err
	}
	err := request()
	if err == nil {
		return nil
	}
	var errno unix.Errno
	if !errors.As(err, &errno) || errno == unix.EAGAIN {
		h.drop() // a timeout or a broken socket, no answer of the kernel
	}
	return fmt.Errorf("%s: %w", what, explain(err, Op{}))
}

// daemonAttr is a daemon as the kernel takes it.
func daemonAttr(d Daemon) *nl.RtAttr {
	d = d.Canonical()
	a := nl.NewRtAttr(attrDaemon, nil)
	a.AddRtAttr(daemonState, u32(uint32(d.Role)))
	a.AddRtAttr(daemonDev, nl.ZeroTerminated(d.Interface))
	a.AddRtAttr(daemonID, u32(uint32(d.ID)))
	if d.MaxLen != 0 {
		a.AddRtAttr(daemonMaxLen, u16(d.MaxLen))
	}
	group := daemonGroup
	if d.Group.Is6() {
		group = daemonGroup6
	}
	a.AddRtAttr(group, d.Group.AsSlice())
	a.AddRtAttr(daemonPort, u16(d.Port))
	a.AddRtAttr(daemonTTL, []byte{d.TTL})
	return a
}

func parseDaemon(msg []byte) (Daemon, error) {
	a, err := parseAttrs(msg)
	if err != nil {
		return Daemon{}, err
	}
	d := Daemon{
		Role: Role(a.u32(daemonState)), Interface: a.text(daemonDev), ID: uint8(a.u32(daemonID)),
		MaxLen: a.u16(daemonMaxLen), Port: a.u16(daemonPort), TTL: a.u8(daemonTTL),
	}
	switch {
	case a[daemonGroup6] != nil:
		d.Group = a.addr(daemonGroup6, unix.AF_INET6)
	case a[daemonGroup] != nil:
		d.Group = a.addr(daemonGroup, unix.AF_INET)
	}
	return d.Canonical(), nil
}

// parseTimeouts reads an answer whose attributes stand in no other one.
func parseTimeouts(msg []byte) (Timeouts, error) {
	if len(msg) < len(genl{}) {
		return Timeouts{}, errShort
	}
	a, err := split(msg[len(genl{}):])
	if err != nil {
		return Timeouts{}, err
	}
	seconds := func(i int) time.Duration { return time.Duration(a.u32(i)) * time.Second }
	return Timeouts{seconds(attrTimeoutTCP), seconds(attrTimeoutTCPFIN), seconds(attrTimeoutUDP)}, nil
}
