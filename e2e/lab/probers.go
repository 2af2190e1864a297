package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"lbcluster/e2e/lab/probe"
)

// Prober is a running prober of package probe.
type Prober struct {
	proc *Proc
	file string
}

// HTTPProber asks a virtual server again and again.
type HTTPProber struct{ Prober }

// ARPProber asks who has a VIP again and again.
type ARPProber struct{ Prober }

// StallRecorder measures how late the machine wakes its processes.
type StallRecorder struct{ Prober }

// ProbeHTTP asks target ("172.25.88.100:80") from a host made by Client: a new
// connection each period, each given up after a second.
func (l *Lab) ProbeHTTP(from *Host, target string, every time.Duration) *HTTPProber {
	l.t.Helper()
	return l.ProbeHTTPFor(from, target, every, time.Second)
}

// ProbeHTTPFor is ProbeHTTP with another patience. From a little over a second
// on, TCP has sent a lost SYN again.
func (l *Lab) ProbeHTTPFor(from *Host, target string, every, patience time.Duration) *HTTPProber {
	l.t.Helper()
	var sources []string
	for _, a := range from.Sources {
		sources = append(sources, a.String())
	}
	if len(sources) == 0 {
		sources = []string{from.Addr.String()}
	}
	return &HTTPProber{l.probe(from, "http", every, "-target", target, "-timeout", patience.String(), "-sources", strings.Join(sources, ","))}
}

// ProbeARP asks who has vip. The host must serve no other purpose: asking
// repairs the asker's own ARP cache.
func (l *Lab) ProbeARP(from *Host, vip string, every time.Duration) *ARPProber {
	l.t.Helper()
	return &ARPProber{l.probe(from, "arp", every, "-self", from.Addr.String(), "-vip", netip.MustParseAddr(vip).String())}
}

// RecordStalls watches the machine itself.
func (l *Lab) RecordStalls(every time.Duration) *StallRecorder { return l.recordStalls(every, -1) }

// RecordStallsEach watches each of the machine's CPUs.
func (l *Lab) RecordStallsEach(every time.Duration) (all []*StallRecorder) {
	for cpu := range runtime.NumCPU() {
		all = append(all, l.recordStalls(every, cpu))
	}
	return all
}

func (l *Lab) recordStalls(every time.Duration, cpu int) *StallRecorder {
	l.t.Helper()
	return &StallRecorder{l.probe(&Host{Name: "switch", lab: l, space: l.sw}, "stall", every, "-cpu", fmt.Sprint(cpu))}
}

func (l *Lab) probe(h *Host, kind string, every time.Duration, args ...string) Prober {
	l.t.Helper()
	bin := os.Getenv("LBCLUSTER_LAB_BIN")
	p := Prober{}
	argv := append([]string{bin, "probe", kind, "-every", every.String()}, args...)
	l.mu.Lock()
	n := l.procs["probe-"+kind]
	l.procs["probe-"+kind]++
	l.mu.Unlock()
	p.file = filepath.Join(l.results, fmt.Sprintf("%s-%s.%d.probe", h.Name, kind, n))
	p.proc = h.StartEnv("probe-"+kind, []string{"GOMAXPROCS=1"}, append(argv, p.file)...)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(p.file); err == nil && len(b) > 0 {
			return p
		}
		select {
		case <-p.proc.Done():
			l.t.Fatalf("lab: %s prober on %s: %s", kind, h.Name, p.proc.Output())
		default:
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("lab: %s prober on %s: no record after 10 s", kind, h.Name)
		}
	}
}

func (p *Prober) read() []byte {
	b, _ := os.ReadFile(p.file)
	return b
}

// Stop ends the prober; its records can still be read.
func (p *Prober) Stop() {
	_ = p.proc.Signal(syscall.SIGKILL)
	_ = p.proc.Wait()
}

// Records returns what was recorded so far, in the order the requests ended.
func (p *HTTPProber) Records() []probe.HTTP { return probe.ParseHTTP(p.read()) }

// Records returns what was recorded so far, in the order of time.
func (p *ARPProber) Records() []probe.ARP { return probe.ParseARP(p.read()) }

// Stalls returns the times at which the machine was later than limit.
func (p *StallRecorder) Stalls(limit time.Duration) []probe.Stall {
	return probe.Stalls(probe.ParseARP(p.read()), limit)
}

// Lateness returns the most that the machine was late within one window.
func (p *StallRecorder) Lateness(from, to probe.Time, window time.Duration) time.Duration {
	return probe.Lateness(probe.ParseARP(p.read()), from, to, window)
}
