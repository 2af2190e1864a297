package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Host is one machine of the lab.
type Host struct {
	Name string
	Addr netip.Addr       // its first address
	MAC  net.HardwareAddr // of eth0; made from the name, the same in every run

	// Sources are all addresses of a Client, the first one included.
	Sources []netip.Addr

	lab   *Lab
	nginx *Proc
	*space
}

// Interface is the name of every host's network interface.
const Interface = "eth0"

// AddHost makes a host with the given addresses ("172.25.88.11/24") on eth0.
func (l *Lab) AddHost(name string, prefixes ...string) *Host {
	l.t.Helper()
	h := &Host{Name: name, MAC: macOf(name), lab: l}
	for _, p := range prefixes {
		if _, err := netip.ParsePrefix(p); err != nil {
			l.t.Fatalf("lab: host %s: %v", name, err)
		}
	}
	if len(prefixes) > 0 {
		h.Addr = netip.MustParsePrefix(prefixes[0]).Addr()
	}
	if len(name) > 12 || l.Host(name) != nil {
		l.t.Fatalf("lab: host %s: a name must be new and at most 12 characters long", name)
	}
	var err error
	if h.space, err = newSpace(name); err != nil {
		l.t.Fatalf("lab: host %s: %v", name, err)
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	if err := l.sw.do(func() error { return makePort(h) }); err != nil {
		l.t.Fatalf("lab: host %s: %v", name, err)
	}
	if err := h.do(func() error { return setUpInterface(h.MAC, prefixes) }); err != nil {
		l.t.Fatalf("lab: host %s: %v", name, err)
	}
	return h
}

// macOf makes a locally administered address from a name.
func macOf(name string) net.HardwareAddr {
	f := fnv.New32a()
	f.Write([]byte(name))
	s := f.Sum32()
	return net.HardwareAddr{0x02, 0x1b, byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}
}

// Port is the name of the host's port in the switch's namespace.
func (h *Host) Port() string { return "p-" + h.Name }

// NetNS is a handle of the host's network namespace. The lab owns it: callers
// must not close it.
func (h *Host) NetNS() netns.NsHandle { return netns.NsHandle(h.fd("net")) }

// Do runs f on a thread inside the host's namespaces and returns its error.
// Sockets that f itself opens, and processes that it starts, are the host's;
// goroutines it starts are not in the host.
func (h *Host) Do(f func() error) error { return h.do(f) }

// Run runs a program on the host and returns what it printed, both outputs
// together; the error has it too.
func (h *Host) Run(ctx context.Context, argv ...string) (string, error) {
	var out []byte
	err := h.do(func() error {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		var err error
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), err
}

// MustRun is Run that fails the test on an error.
func (h *Host) MustRun(argv ...string) string {
	h.lab.t.Helper()
	out, err := h.Run(context.Background(), argv...)
	if err != nil {
		h.lab.t.Fatalf("lab: %v", err)
	}
	return out
}

// WriteFile writes a file that the host sees (its /etc, /run and data folder
// are its own), making its folder if needed.
func (h *Host) WriteFile(name, content string) {
	h.lab.t.Helper()
	err := h.do(func() error {
		return errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644))
	})
	if err != nil {
		h.lab.t.Fatalf("lab: %s: %v", h.Name, err)
	}
}

// ReadFile reads a file as the host sees it.
func (h *Host) ReadFile(name string) (string, error) {
	var b []byte
	err := h.do(func() (err error) { b, err = os.ReadFile(name); return err })
	return string(b), err
}

// Sysctl sets one, "net.ipv4.conf.all.arp_ignore".
func (h *Host) Sysctl(name, value string) {
	h.lab.t.Helper()
	file := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	if err := h.do(func() error { return os.WriteFile(file, []byte(value), 0) }); err != nil {
		h.lab.t.Fatalf("lab: %s: %v", h.Name, err)
	}
}

// AddAddress adds an address to one of the host's interfaces.
func (h *Host) AddAddress(dev, prefix string) {
	h.lab.t.Helper()
	if err := h.do(func() error { return addAddress(dev, prefix) }); err != nil {
		h.lab.t.Fatalf("lab: %s: address %s: %v", h.Name, prefix, err)
	}
}

// HasAddress says whether an interface of the host has the address.
func (h *Host) HasAddress(addr string) bool {
	ip := net.ParseIP(addr)
	found := false
	err := h.do(func() error {
		nl, err := route()
		if err != nil {
			return err
		}
		defer nl.Close()
		addrs, err := nl.AddrList(nil, netlink.FAMILY_ALL)
		for _, a := range addrs {
			found = found || a.IP.Equal(ip)
		}
		return err
	})
	return err == nil && found
}
