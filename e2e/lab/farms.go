package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"lbcluster/e2e/lab/farm"
)

// Farm is a host with a whole network of real servers, of package farm: each of its
// addresses accepts connections on port 80 and closes them at once.
type Farm struct {
	*Host
	every time.Duration
	proc  *Proc
	file  string
	nth   int
}

// Farm adds one that has all of a network ("10.77.0.0/16") and serves. Hosts reach it
// once they are given a route by [Farm.Known]. every is how often each address should
// be asked, for what counts as late.
func (l *Lab) Farm(name, prefix string, network netip.Prefix, every time.Duration) *Farm {
	l.t.Helper()
	f := &Farm{Host: l.AddHost(name, prefix), every: every}
	f.MustRun("ip", "route", "add", "local", network.String(), "dev", "lo")
	f.Serve()
	return f
}

// Known gives a host the way to the farm's network.
func (f *Farm) Known(h *Host, network netip.Prefix) {
	h.MustRun("ip", "route", "add", network.String(), "via", f.Addr.String())
}

// Serve starts the servers, again if they were killed. It counts from zero.
func (f *Farm) Serve() {
	f.lab.t.Helper()
	f.nth++
	f.file = filepath.Join(f.lab.results, fmt.Sprintf("%s.%d.farm", f.Name, f.nth))
	f.proc = f.Start("farm", os.Getenv("LBCLUSTER_LAB_BIN"), "farm", "-listen", "0.0.0.0:80", "-every", f.every.String(), f.file)
	if err := f.waitTCP("127.0.0.1:80", f.proc, 10*time.Second); err != nil {
		f.lab.t.Fatalf("lab: %s: %v\n%s", f.Name, err, f.proc.Output())
	}
}

// Kill ends all of them at once: connections are refused from then on.
func (f *Farm) Kill() {
	_ = f.proc.Signal(syscall.SIGKILL)
	_ = f.proc.Wait()
}

// Counts are what the servers have seen since Serve.
func (f *Farm) Counts() farm.Counts {
	f.lab.t.Helper()
	c, err := farm.Read(f.file)
	if err != nil {
		f.lab.t.Fatalf("lab: %s: %v", f.Name, err)
	}
	return c
}
