package dataplane

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/ipvs/ipvstest"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// world is a host with a plane: a fake kernel, fake interfaces, a gate and a
// speaker that write into one diary. Made inside a synctest bubble.
type world struct {
	t     *testing.T
	ipvs  *ipvstest.Kernel
	host  *fakeHost
	gate  *fakeGate
	diary *diary
	state string
	logs  *logs
	cfg   Config // of the next start

	plane *Plane
	stop  context.CancelFunc
	done  chan error
}

// logs is a buffer that may be read while others write.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// diary is what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last call.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.lines
	d.lines = nil
	return out
}

// fakeHost has lo, eth0 with 172.25.88.11/24 and eth1 with 10.0.0.11/24.
type fakeHost struct {
	diary *diary

	mu      sync.Mutex
	snap    vip.Snapshot
	changed func()
	fail    func(what string) error
	sysctls map[string]string
	quiet   map[string]bool // interfaces whose arp_ignore is 1
}

func newFakeHost(d *diary) *fakeHost {
	h := &fakeHost{diary: d, sysctls: map[string]string{
		"net.ipv4.conf.all.arp_ignore": "0", "net.ipv4.conf.all.arp_announce": "0"}}
	for i, n := range []string{"lo", "eth0", "eth1"} {
		h.snap.Links = append(h.snap.Links, vip.Link{Index: i + 1, Name: n, Loopback: i == 0, MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}, Up: true, Carrier: true})
	}
	for i, a := range []string{"127.0.0.1/8", "172.25.88.11/24", "10.0.0.11/24"} {
		h.snap.Addrs = append(h.snap.Addrs, vip.Addr{Index: i + 1, Prefix: netip.MustParsePrefix(a)})
	}
	return h
}

func (h *fakeHost) Snapshot() (vip.Snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ask("snapshot"); err != nil {
		return vip.Snapshot{}, err
	}
	return vip.Snapshot{Links: slices.Clone(h.snap.Links), Addrs: slices.Clone(h.snap.Addrs)}, nil
}

// failWith sets what is asked before each call.
func (h *fakeHost) failWith(f func(what string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = f
}

func (h *fakeHost) ask(what string) error {
	if h.fail == nil {
		return nil
	}
	return h.fail(what)
}

func (h *fakeHost) Watch(ctx context.Context, changed func()) error {
	h.mu.Lock()
	if err := h.ask("watch"); err != nil {
		h.mu.Unlock()
		return err
	}
	h.changed = changed
	h.mu.Unlock()
	changed()
	<-ctx.Done()
	return nil
}

func (h *fakeHost) Add(p fence.Permit, index int, prefix netip.Prefix, label string) (bool, error) {
	if !p.Covers(prefix.Addr()) {
		return false, vip.ErrNoPermit
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ask("add"); err != nil {
		return false, err
	}
	l, _ := h.snap.Link(index)
	if h.snap.Has(index, prefix) {
		return true, nil
	}
	h.snap.Addrs = append(h.snap.Addrs, vip.Addr{Index: index, Prefix: prefix, Label: label})
	h.diary.note("ip addr add %s dev %s", prefix, l.Name)
	return false, nil
}

func (h *fakeHost) Remove(index int, prefix netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ask("remove"); err != nil {
		return err
	}
	if h.snap.Has(index, prefix) {
		l, _ := h.snap.Link(index)
		h.diary.note("ip addr del %s dev %s", prefix, l.Name)
	}
	h.drop(index, prefix)
	return nil
}

func (h *fakeHost) drop(index int, prefix netip.Prefix) {
	h.snap.Addrs = slices.DeleteFunc(h.snap.Addrs, func(a vip.Addr) bool { return a.Index == index && a.Prefix == prefix })
}

func (h *fakeHost) Announce(p fence.Permit, l vip.Link, addr netip.Addr) error {
	if !p.Covers(addr) {
		return vip.ErrNoPermit
	}
	h.diary.note("garp %s dev %s", addr, l.Name)
	return nil
}

func (h *fakeHost) AddLoopback(index int, prefix netip.Prefix) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ask("add"); err != nil {
		return false, err
	}
	if l, _ := h.snap.Link(index); !l.Loopback {
		return false, vip.ErrNoPermit
	}
	if h.snap.Has(index, prefix) {
		return true, nil
	}
	h.snap.Addrs = append(h.snap.Addrs, vip.Addr{Index: index, Prefix: prefix})
	h.diary.note("ip addr add %s dev lo", prefix)
	return false, nil
}

func (h *fakeHost) Sysctl(name string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.sysctls[name]
	if err := h.ask("sysctl"); err != nil {
		return "", err
	}
	if !ok {
		return "", os.ErrNotExist
	}
	return v, nil
}

func (h *fakeHost) SetSysctl(name, value string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ask("sysctl"); err != nil {
		return err
	}
	h.diary.note("sysctl %s=%s", name, value)
	h.sysctls[name] = value
	return nil
}

// change is somebody else's doing; the kernel tells of it.
func (h *fakeHost) change(f func(*vip.Snapshot)) {
	h.mu.Lock()
	f(&h.snap)
	changed := h.changed
	h.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (h *fakeHost) put(dev, prefix string) {
	h.change(func(s *vip.Snapshot) {
		l, _ := s.Named(dev)
		s.Addrs = append(s.Addrs, vip.Addr{Index: l.Index, Prefix: netip.MustParsePrefix(prefix)})
	})
}

func (h *fakeHost) take(dev, prefix string) {
	h.change(func(s *vip.Snapshot) {
		l, _ := s.Named(dev)
		h.drop(l.Index, netip.MustParsePrefix(prefix))
	})
}

func (h *fakeHost) carrier(dev string, up bool) {
	h.change(func(s *vip.Snapshot) {
		i := slices.IndexFunc(s.Links, func(l vip.Link) bool { return l.Name == dev })
		s.Links = slices.Clone(s.Links)
		s.Links[i].Carrier = up
	})
}

func (h *fakeHost) has(dev, prefix string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, _ := h.snap.Named(dev)
	return h.snap.Has(l.Index, netip.MustParsePrefix(prefix))
}

type fakeGate struct {
	diary *diary
	mu    sync.Mutex
	err   error
	hook  func(addrs []netip.Addr) // in the middle of SetVIPs
}

func (g *fakeGate) SetMembers(macs []net.HardwareAddr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(macs) > 0 {
		g.diary.note("gate members %v", macs)
	}
	return nil
}

func (g *fakeGate) SetVIPs(vips []Guarded) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var addrs []netip.Addr
	var words []string
	for _, v := range vips {
		addrs = append(addrs, v.Addr)
		word := v.Addr.String()
		if v.Local {
			word += " local"
		}
		words = append(words, word)
	}
	g.diary.note("gate [%s]", strings.Join(words, ", "))
	if g.hook != nil {
		g.hook(addrs)
	}
	return g.err
}

type fakeVRRP struct{ diary *diary }

func (v fakeVRRP) SetRouters(s []Speaker) {
	var names []string
	for _, r := range s {
		names = append(names, r.Router.Name+"@"+r.Interface)
	}
	v.diary.note("vrrp routers %v", names)
}
func (v fakeVRRP) Acquired(router uint64, p fence.Permit) { v.diary.note("vrrp acquired %d", router) }
func (v fakeVRRP) Lost(router uint64, zero bool)          { v.diary.note("vrrp lost %d zero=%v", router, zero) }

func newWorld(t *testing.T) *world {
	d := &diary{}
	w := &world{t: t, ipvs: new(ipvstest.Kernel), host: newFakeHost(d), gate: &fakeGate{diary: d}, diary: d,
		state: filepath.Join(t.TempDir(), "dataplane.json"), logs: new(logs)}
	w.cfg = Config{
		IPVS: w.ipvs, VIPs: w.host, Gate: w.gate, VRRP: fakeVRRP{d}, StateFile: w.state,
		SendZero: func(why string) bool { return why == "no quorum" },
		Log:      slog.New(slog.NewTextHandler(w.logs, nil)),
	}
	return w
}

// run starts a plane; the world's end stops it.
func (w *world) run() {
	w.plane = New(w.cfg)
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.done = stop, make(chan error, 1)
	done, p := w.done, w.plane
	go func() { done <- p.Run(ctx) }()
	synctest.Wait()
}

// halt stops the plane and waits for it.
func (w *world) halt() {
	w.t.Helper()
	w.stop()
	w.stop = nil
	if err := <-w.done; err != nil {
		w.t.Errorf("Run: %v", err)
	}
}

// settle lets everything that can happen now happen, and the few milliseconds
// that the loops wait.
func settle() {
	synctest.Wait()
	time.Sleep(2 * lookSpacing)
	synctest.Wait()
}

// inBubble runs body with a world in virtual time.
func inBubble(t *testing.T, body func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		body(t, w)
		if w.stop != nil {
			w.halt()
		}
	})
}

func term(router uint64, addrs ...string) *fence.Term {
	var as []netip.Addr
	for _, a := range addrs {
		as = append(as, netip.MustParseAddr(a))
	}
	return fence.NewTerm(router, as, 1, func() int64 { return 0 })
}

const vipAddr = "172.25.88.100"

// pairTable is the table of the first example: one router, one service.
func pairTable(rev fsm.Revision) *fsm.Table {
	rs := func(a string) fsm.RealServer {
		return fsm.RealServer{Addr: netip.MustParseAddr(a), Port: 80, Weight: 1}
	}
	return &fsm.Table{
		Cluster: "c1", Revision: rev,
		Routers: []fsm.Router{{ID: 1, Name: "VI_1", Interface: "eth0", VRID: 51, Priority: 100, Version: 2,
			Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix(vipAddr + "/32")}}}},
		Services: []fsm.VirtualServer{{
			ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr(vipAddr), Port: 80, Protocol: fsm.TCP},
			Scheduler:  "rr", Method: fsm.DirectRouting,
			RealServers: []fsm.RealServer{rs("172.25.88.2"), rs("172.25.88.3")},
		}},
	}
}

const pairRules = `-A -t 172.25.88.100:80 -s rr
-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1
-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1
`

func (w *world) wantIPVS(rules string) {
	w.t.Helper()
	if got := w.ipvs.String(); got != rules {
		w.t.Errorf("IPVS is\n%swant\n%s", got, rules)
	}
}

// wantDiaryAnyOrder is wantDiary for what the two loops do side by side.
func (w *world) wantDiaryAnyOrder(want ...string) {
	w.t.Helper()
	w.diary.mu.Lock()
	slices.Sort(w.diary.lines)
	w.diary.mu.Unlock()
	slices.Sort(want)
	w.wantDiary(want...)
}

func (w *world) wantDiary(want ...string) {
	w.t.Helper()
	if got := w.diary.take(); !slices.Equal(got, want) {
		w.t.Errorf("happened:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func vipPrefix(bits string) netip.Prefix { return netip.MustParsePrefix(vipAddr + bits) }

func (h *fakeHost) MakeVMAC(v vip.VMAC) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ask("vmac"); err != nil {
		return false, err
	}
	base, _ := h.snap.Link(v.Base)
	if l, ok := h.snap.Named(v.Name); ok {
		if !v.Is(l) {
			return false, vip.ErrTaken
		}
		return false, nil
	}
	h.snap.Links = append(h.snap.Links, vip.Link{Index: 100 + len(h.snap.Links), Name: v.Name, MAC: v.MAC, MACVLAN: true, Base: v.Base, Up: true, Carrier: base.Carrier})
	h.diary.note("ip link add %s link %s address %s type macvlan", v.Name, base.Name, v.MAC)
	quiet := !h.quiet[base.Name]
	if h.quiet == nil {
		h.quiet = map[string]bool{}
	}
	h.quiet[base.Name] = true
	return quiet, nil
}

func (h *fakeHost) RemoveVMAC(name string, _ net.HardwareAddr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ask("vmac"); err != nil {
		return err
	}
	l, _ := h.snap.Named(name)
	h.snap.Links = slices.DeleteFunc(h.snap.Links, func(o vip.Link) bool { return o.Name == name })
	h.snap.Addrs = slices.DeleteFunc(h.snap.Addrs, func(a vip.Addr) bool { return a.Index == l.Index })
	h.diary.note("ip link del %s", name)
	return nil
}

func (h *fakeHost) AnswerAnywhere(dev string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.diary.note("arp_ignore of %s is 0 again", dev)
	h.quiet[dev] = false
	return nil
}
