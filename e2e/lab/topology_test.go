package lab_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
)

func canPing(from *lab.Host, to string) bool {
	_, err := from.Run(context.Background(), "ping", "-c", "1", "-W", "1", to)
	return err == nil
}

func wantPing(t *testing.T, from *lab.Host, to string, want bool) {
	t.Helper()
	if got := canPing(from, to); got != want {
		t.Errorf("%s reaches %s: %v, want %v", from.Name, to, got, want)
	}
}

func TestFaults(t *testing.T) {
	lab.Need(t)
	l := lab.New(t)
	a := l.AddHost("a", "10.1.0.1/24")
	b := l.AddHost("b", "10.1.0.2/24")
	c := l.AddHost("c", "10.1.0.3/24")
	wantPing(t, a, "10.1.0.2", true)

	cut := l.Partition([]*lab.Host{a}, []*lab.Host{b, c}, "")
	wantPing(t, a, "10.1.0.2", false)
	wantPing(t, b, "10.1.0.3", true)
	cut.Heal()
	wantPing(t, a, "10.1.0.2", true)

	oneWay := l.Block([]*lab.Host{b}, []*lab.Host{a}, "ip protocol icmp")
	wantPing(t, a, "10.1.0.2", false)
	wantPing(t, a, "10.1.0.3", true)
	oneWay.Heal()
	oneWay.Heal()

	a.CutLink()
	if link := a.MustRun("ip", "link", "show", "eth0"); !strings.Contains(link, "NO-CARRIER") {
		t.Errorf("a cut link must lose the carrier: %s", link)
	}
	a.RestoreLink()
	l.Eventually(5*time.Second, "the link is back", func() error {
		if !canPing(a, "10.1.0.2") {
			return errors.New("no answer")
		}
		return nil
	})

	a.Detach()
	wantPing(t, a, "10.1.0.2", false)
	if link := a.MustRun("ip", "link", "show", "eth0"); strings.Contains(link, "NO-CARRIER") {
		t.Errorf("a detached host must not notice: %s", link)
	}
	a.Attach()
	wantPing(t, a, "10.1.0.2", true)
}

func TestHostsHaveTheirOwn(t *testing.T) {
	lab.Need(t)
	l := lab.New(t)
	a, b := l.AddHost("a", "10.1.0.1/24"), l.AddHost("b", "10.1.0.2/24")
	for _, f := range []string{"/run/x", "/etc/x", "/var/lib/lbcluster/x", "/var/log/x"} {
		a.WriteFile(f, "a's")
		if _, err := b.ReadFile(f); err == nil {
			t.Errorf("b sees a's %s", f)
		}
	}
	if name := strings.TrimSpace(a.MustRun("hostname")); name != "a" {
		t.Errorf("a's host name is %q", name)
	}
	var mac net.HardwareAddr
	err := b.Do(func() error {
		link, err := net.InterfaceByName(lab.Interface)
		if err == nil {
			mac = link.HardwareAddr
		}
		return err
	})
	if err != nil || mac.String() != b.MAC.String() {
		t.Errorf("b's eth0 has %v (%v), want %v", mac, err, b.MAC)
	}
	a.Sysctl("net.ipv4.ip_forward", "1")
	if s := strings.TrimSpace(b.MustRun("cat", "/proc/sys/net/ipv4/ip_forward")); s != "0" {
		t.Errorf("a's sysctl reached b: %s", s)
	}
	if err := a.Do(func() error { return errors.New("told") }); err == nil || err.Error() != "told" {
		t.Errorf("Do returned %v", err)
	}
}

// The lab is started once more inside a T that is not the test's, so that what
// it says about a leak can be looked at.
func TestLeakedProcessesAreEndedAndNamespacesGone(t *testing.T) {
	lab.Need(t)
	var stray *lab.Proc
	err := lab.Main("leak", t.Logf, func(mt lab.T) {
		h := lab.New(mt).AddHost("a", "10.1.0.1/24")
		// Ignores SIGTERM, and leaves a child behind in a session of its own.
		stray = h.Start("stray", "sh", "-c", "trap '' TERM; setsid sleep 1000 & while true; do sleep 1; done")
		time.Sleep(300 * time.Millisecond)
		if n := len(h.Pids()); n < 2 {
			mt.Errorf("%d processes on the host, want at least 2", n)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if stray == nil {
		t.FailNow()
	}
	select {
	case <-stray.Done():
	case <-time.After(2 * time.Second):
		t.Error("a process outlived its lab")
	}
}

// A namespace that something outside the lab's reach keeps must be reported.
func TestLeakIsReported(t *testing.T) {
	lab.Need(t)
	release := make(chan struct{})
	entered := make(chan struct{})
	ended := make(chan struct{})
	err := lab.Main("leak", t.Logf, func(mt lab.T) {
		h := lab.New(mt).AddHost("a", "10.1.0.1/24")
		go func() {
			defer close(ended)
			_ = h.Do(func() error { close(entered); <-release; return nil })
		}()
		<-entered
	})
	if err == nil || !strings.Contains(err.Error(), "left behind") {
		t.Errorf("a thread stayed in the host and the lab said: %v", err)
	}
	close(release)
	<-ended
}

func TestRealServerAndProbers(t *testing.T) {
	lab.Need(t)
	l := lab.New(t)
	web := l.RealServer("web", "10.1.0.2/24", "10.1.0.100")
	client := l.Client("client", "10.1.0.10/24", 4)
	watch := l.AddHost("watch", "10.1.0.250/24")
	arp := l.ProbeARP(watch, "10.1.0.100", 5*time.Millisecond)
	owned := l.ProbeARP(watch, "10.1.0.2", 5*time.Millisecond)
	http := l.ProbeHTTP(client, "10.1.0.2:80", 10*time.Millisecond)
	time.Sleep(time.Second)
	now := probe.Now()
	if h := probe.Holders(arp.Records(), 0, now); len(h) != 0 {
		t.Errorf("a real server answers ARP for the VIP: %v", h)
	}
	if h := probe.Holders(owned.Records(), 0, now); len(h) != 1 || h[0].MAC != probe.ToMAC(web.MAC) || h[0].Answers < 100 {
		t.Errorf("its own address is answered by %v, want %v about 200 times", h, web.MAC)
	}
	http.Stop()
	if s := probe.Summarise(http.Records(), 0, probe.Now()); s.OK < 80 || s.Failed > 0 || s.ByServer["web"] != s.OK {
		t.Errorf("the client saw %+v", s)
	}
	refused := l.ProbeHTTP(client, "10.1.0.2:81", 10*time.Millisecond)
	time.Sleep(200 * time.Millisecond)
	if s := probe.Summarise(refused.Records(), 0, probe.Now()); s.OK > 0 || s.ByResult[probe.Refused] == 0 {
		t.Errorf("at a closed port the client saw %+v", s)
	}
}
