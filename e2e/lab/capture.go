package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

type capture struct {
	file string
	proc *Proc
}

// Capture records the frames that match the tcpdump filter: on the host's port
// of the switch, or with a nil host everything that the switch forwards. The
// file is kept if the test fails. It returns when the capture listens; the
// returned function ends it and gives the frames as tcpdump -e -n prints them,
// one a line.
func (l *Lab) Capture(h *Host, name, filter string) (stop func() string) {
	l.t.Helper()
	dev := bridgeName
	if h != nil {
		dev = h.Port()
	}
	sw := &Host{Name: "switch", lab: l, space: l.sw}
	c := &capture{file: filepath.Join(l.results, name+".pcap")}
	c.proc = sw.Start("tcpdump-"+name, "tcpdump", "-Z", "root", "-n", "-s", "1600", "-U", "--immediate-mode", "-i", dev, "-w", c.file, filter)
	l.captures = append(l.captures, c)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(c.proc.Output(), "listening on"); time.Sleep(20 * time.Millisecond) {
		select {
		case <-c.proc.Done():
			l.t.Fatalf("lab: tcpdump: %s", c.proc.Output())
		default:
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("lab: tcpdump does not start: %s", c.proc.Output())
		}
	}
	return func() string {
		l.t.Helper()
		c.end()
		out, err := exec.CommandContext(context.Background(), "tcpdump", "-Z", "root", "-r", c.file, "-e", "-n", "-tttt").CombinedOutput()
		if err != nil {
			l.t.Errorf("lab: reading capture %s: %v: %s", name, err, out)
		}
		return string(out)
	}
}

func (c *capture) end() {
	_ = c.proc.Signal(syscall.SIGINT)
	select {
	case <-c.proc.Done():
	case <-time.After(3 * time.Second):
		_ = c.proc.Signal(syscall.SIGKILL)
	}
}

func (c *capture) finish(keep bool) {
	c.end()
	if !keep {
		_ = os.Remove(c.file)
	}
}
