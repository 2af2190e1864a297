package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// What somebody changes in a director's kernel behind lbcluster's back is put
// back and counted; what lbcluster never made is left alone and reported.
func TestKernelKeepsWhatTheTableSays(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	t.Run("IPVS changed with ipvsadm is repaired", func(t *testing.T) { e.driftIsRepaired(t) })
	t.Run("a foreign service is left alone", func(t *testing.T) { e.foreignServiceStays(t) })
	t.Run("an address taken from the owner is put back", func(t *testing.T) { e.addressIsPutBack(t) })
	t.Run("an address on another director is reported and silent", func(t *testing.T) { e.foreignAddressIsSilent(t) })
	t.Run("a gate that is taken off is put back", func(t *testing.T) { e.gateIsPutBack(t) })
	t.Run("a restart changes nothing", func(t *testing.T) { e.restartChangesNothing(t) })
	e.wantNoOverlap(t)
}

// repairs is how many operations of drift a director has repaired.
func (e *eyes) repairs(h *lab.Host) uint64 {
	l, err := e.Local(h)
	if err != nil {
		e.T.Errorf("%v", err)
	}
	return l.Kernel.Repairs
}

func (e *eyes) driftIsRepaired(t *testing.T) {
	h := e.Others(e.AwaitOwner())[0] // a director that only stands by keeps its table too
	want := e.Rules(h)
	for what, argv := range map[string][]string{
		"the weight is changed":         {"-e", "-t", site.Target, "-r", "172.25.88.2:80", "-g", "-w", "9"},
		"a real server is deleted":      {"-d", "-t", site.Target, "-r", "172.25.88.3:80"},
		"a real server is added":        {"-a", "-t", site.Target, "-r", "172.25.88.9:80", "-g"},
		"the scheduler is changed":      {"-E", "-t", site.Target, "-s", "wlc"},
		"the virtual server is deleted": {"-D", "-t", site.Target},
	} {
		before := e.repairs(h)
		h.MustRun(append([]string{"ipvsadm"}, argv...)...)
		e.Eventually(10*time.Second, what+" on "+h.Name+", and is repaired", func() error {
			if now := e.Rules(h); now != want {
				return errors.New(now)
			}
			return nil
		})
		// Which also shows that something was changed.
		e.await(what+": the repair is counted", 2*time.Second, func() bool { return e.repairs(h) > before })
	}
	f := e.AwaitFinding(e.Dirs[0], h.Name+": somebody else changed its IPVS table", "")
	t.Log(f.Text)
}

func (e *eyes) foreignServiceStays(t *testing.T) {
	h := e.Dirs[1]
	h.MustRun("ipvsadm", "-A", "-t", "172.25.88.12:8080", "-s", "sh")
	h.MustRun("ipvsadm", "-a", "-t", "172.25.88.12:8080", "-r", "172.25.88.2:8080", "-m")
	theirs := func() int { return strings.Count(e.Rules(h), "172.25.88.12:8080") }
	f := e.AwaitFinding(e.Dirs[0], "service tcp/172.25.88.12:8080 was not made by lbcluster", "ipvsadm -D -t 172.25.88.12:8080")
	if f.Member != h.Name {
		t.Errorf("the finding is about %q, want %s", f.Member, h.Name)
	}
	before := e.repairs(h)
	h.MustRun("ipvsadm", "-e", "-t", site.Target, "-r", "172.25.88.2:80", "-g", "-w", "7") // a pass over the table is sure to follow
	e.await("a repair", 10*time.Second, func() bool { return e.repairs(h) > before })
	if theirs() != 2 {
		t.Errorf("the foreign service was touched:\n%s", e.Rules(h))
	}
	h.MustRun(strings.Fields(f.Fix)...)
	if theirs() != 0 {
		t.Errorf("%q did not remove it:\n%s", f.Fix, e.Rules(h))
	}
	e.Eventually(15*time.Second, "the finding goes", func() error { return e.noFinding("was not made by lbcluster") })
}

// noFinding returns an error while status on the first director says text.
func (e *eyes) noFinding(text string) error {
	all, err := e.Findings(e.Dirs[0])
	for _, f := range all {
		if strings.Contains(f.Text, text) {
			return fmt.Errorf("%s: %s", f.Member, f.Text)
		}
	}
	return err
}

// restored is how often a director has put the VIP back.
func (e *eyes) restored(h *lab.Host) uint64 {
	l, err := e.Local(h)
	if err != nil || len(l.Addresses) != 1 {
		e.T.Errorf("%s: addresses %+v, %v", h.Name, l.Addresses, err)
		return 0
	}
	return l.Addresses[0].Restored
}

func (e *eyes) addressIsPutBack(t *testing.T) {
	owner := e.AwaitOwner()
	before := e.restored(owner)
	from := probe.Now()
	owner.MustRun("ip", "addr", "del", site.VIP+"/32", "dev", lab.Interface)
	e.await(owner.Name+" puts the address back", 5*time.Second, func() bool { return owner.HasAddress(site.VIP) })
	to := pause(2 * time.Second)
	if n := e.restored(owner); n != before+1 {
		t.Errorf("counted %d, want %d", n, before+1)
	}
	e.wantOnly(t, owner, from, to)
	if n := probe.Announcements(e.arp.Records(), from, to); n[probe.ToMAC(owner.MAC)] == 0 {
		t.Errorf("the address was put back and not announced: %v", n)
	}
	if l := probe.Summarise(e.http.Records(), from, to).Outage; dark(l) {
		t.Errorf("the client is not served any more, for %v", l.Length())
	}
	e.AwaitFinding(e.Dirs[0], "was removed from it by somebody else and put back", "")
}

// dropped is how many ARP frames for the VIP a director's gate has dropped.
func (e *eyes) dropped(h *lab.Host) uint64 {
	l, err := e.Local(h)
	if err != nil || len(l.Gate.Addresses) != 1 {
		e.T.Errorf("%s: gate %+v, %v", h.Name, l.Gate, err)
		return 0
	}
	return l.Gate.Addresses[0].ARPDropped
}

// Whatever stands on its interface, a director that does not own the VIP does
// not answer for it: the gate drops the requests before the kernel sees them.
func (e *eyes) foreignAddressIsSilent(t *testing.T) {
	owner := e.AwaitOwner()
	h := e.Others(owner)[0]
	before, from := e.dropped(h), probe.Now()
	h.AddAddress(lab.Interface, site.VIP+"/24")
	f := e.AwaitFinding(e.Dirs[0], "address "+site.VIP+"/24 on eth0 was not made by lbcluster", "ip addr del "+site.VIP+"/24 dev eth0")
	if f.Member != h.Name {
		t.Errorf("the finding is about %q, want %s", f.Member, h.Name)
	}
	to := pause(2 * time.Second)
	if !h.HasAddress(site.VIP) {
		t.Errorf("lbcluster removed an address that it did not put there")
	}
	e.wantUndisturbed(t, owner, from, to)
	if n := e.dropped(h); n < before+100 {
		t.Errorf("the gate of %s dropped %d ARP frames while it was asked every 5 ms", h.Name, n-before)
	}
	h.MustRun(strings.Fields(f.Fix)...)
	e.Eventually(15*time.Second, "the finding goes", func() error { return e.noFinding("was not made by lbcluster") })
}

// Without its gate a director could answer after its lease has ended.
func (e *eyes) gateIsPutBack(t *testing.T) {
	h := e.Others(e.AwaitOwner())[0]
	filters := func() int {
		n := 0
		for _, way := range []string{"ingress", "egress"} {
			out, _ := h.Run(t.Context(), "tc", "filter", "show", "dev", lab.Interface, way)
			if strings.Contains(out, "bpf") {
				n++
			}
		}
		return n
	}
	if filters() != 2 {
		t.Fatalf("%s has %d of the gate's two filters on %s", h.Name, filters(), lab.Interface)
	}
	for _, argv := range [][]string{
		{"tc", "filter", "del", "dev", lab.Interface, "ingress"},
		{"tc", "filter", "del", "dev", lab.Interface, "egress"},
		{"tc", "qdisc", "del", "dev", lab.Interface, "clsact"},
	} {
		h.MustRun(argv...)
		e.await("the gate is back after "+strings.Join(argv, " "), 3*time.Second, func() bool { return filters() == 2 })
	}
	before := e.dropped(h)
	e.await("the gate drops again", 3*time.Second, func() bool { return e.dropped(h) > before })
}

// Killed and started again, the daemon of a director that stands by finds all
// as it should be and does nothing; a stopped one's counters go on as well.
func (e *eyes) restartChangesNothing(t *testing.T) {
	owner := e.AwaitOwner()
	e.await("connections through "+owner.Name, 5*time.Second, func() bool { return strings.Contains(stats(e, owner), "172.25.88.2:80") })
	for _, h := range e.Others(owner) {
		rules, counters, from := e.Rules(h), stats(e, h), probe.Now()
		e.Daemons[h].Kill()
		d := e.Start(h)
		e.AwaitCalm()
		time.Sleep(6 * time.Second) // more than one pass over the table
		if now := e.Rules(h); now != rules {
			t.Errorf("%s: restart changed the table from\n%sto\n%s", h.Name, rules, now)
		}
		if now := stats(e, h); now != counters {
			t.Errorf("%s: restart changed the counters from\n%sto\n%s", h.Name, counters, now)
		}
		if log := d.Output(); strings.Contains(log, `ipvsadm="`) {
			t.Errorf("%s made operations on a table that was as it should be:\n%s", h.Name, log)
		}
		e.wantUndisturbed(t, owner, from, probe.Now())
	}
}

// Every apply reaches the kernel of every director alike.
func TestTablesFollowTheApplies(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	pair := s.Dirs[0].MustRun("cat", site.Example)
	web := func(scheduler, persistence, web1 string) string {
		out := strings.Replace(pair, "lb_algo rr", "lb_algo "+scheduler, 1)
		out = strings.Replace(out, "#persistence_timeout 50", persistence, 1)
		return strings.Replace(out, "weight 1", web1, 1)
	}
	t.Run("scheduler, persistence, weight and thresholds", func(t *testing.T) {
		s.Dirs[1].WriteFile("/etc/new.conf", web("wlc", "persistence_timeout 50", "weight 3\nuthreshold 100\nlthreshold 80"))
		s.Dirs[1].MustRun("lbcluster", "apply", "-f", "/etc/new.conf", "--yes")
		wantTables(s,
			"-A -t 172.25.88.100:80 -s wlc -p 50",
			"-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 3",
			"-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1")
		for _, h := range s.Dirs { // ipvsadm -S leaves the thresholds out
			if out := h.MustRun("ipvsadm", "-Ln", "--thresholds"); !thresholds.MatchString(out) {
				t.Errorf("%s lacks the thresholds 100 and 80:\n%s", h.Name, out)
			}
		}
	})
	t.Run("back to the first file", func(t *testing.T) {
		s.Dirs[2].MustRun("lbcluster", "apply", "-f", site.Example, "--yes")
		wantTables(s, webRules...)
	})
	udp := []string{
		"-A -u 172.25.88.100:53 -s sh -p 300",
		"-a -u 172.25.88.100:53 -r 172.25.88.2:53 -g -w 5",
	}
	t.Run("a second set with a UDP service", func(t *testing.T) {
		s.Dirs[1].WriteFile("/etc/dns.yaml", dnsFile)
		s.Dirs[1].MustRun("lbcluster", "apply", "-f", "/etc/dns.yaml", "--set", "dns", "--yes")
		wantTables(s, append(udp, webRules...)...)
	})
	t.Run("drain, disable, weight and enable", func(t *testing.T) { operate(s, udp) })
	t.Run("deleting needs --prune", func(t *testing.T) { prune(t, s, udp) })
}

var thresholds = regexp.MustCompile(`-> 172\.25\.88\.2:80 +100 +80 `)

var webRules = []string{
	"-A -t 172.25.88.100:80 -s rr",
	"-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1",
	"-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1",
}

const dnsFile = `services:
  - address: 172.25.88.100:53
    protocol: udp
    method: dr
    scheduler: sh
    persistence: 300s
    real_servers:
      - address: 172.25.88.2
        weight: 5
`

// wantTables waits until ipvsadm -Sn prints these rules, in any order, on all
// directors.
func wantTables(s *site.Site, rules ...string) {
	s.T.Helper()
	slices.Sort(rules)
	s.AwaitTables(func(now string) bool {
		lines := strings.Split(strings.TrimSpace(now), "\n")
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		slices.Sort(lines)
		return slices.Equal(lines, rules)
	})
}

func operate(s *site.Site, udp []string) {
	with := func(web1 ...string) []string {
		return slices.Concat([]string{webRules[0], webRules[2]}, web1, udp)
	}
	rule := "-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w "
	s.Dirs[2].MustRun("lbcluster", "server", "drain", "172.25.88.2:80")
	wantTables(s, with(rule+"0")...)
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", site.Example, "--yes") // what was set by hand survives
	wantTables(s, with(rule+"0")...)
	s.Dirs[0].MustRun("lbcluster", "server", "disable", "172.25.88.2:80")
	wantTables(s, with()...)
	s.Dirs[1].MustRun("lbcluster", "server", "enable", "172.25.88.2:80")
	s.Dirs[1].MustRun("lbcluster", "server", "weight", "172.25.88.2:80", "12")
	wantTables(s, with(rule+"12")...)
	s.Dirs[1].MustRun("lbcluster", "server", "weight", "172.25.88.2:80", "file")
	wantTables(s, with(rule+"1")...)
}

func prune(t *testing.T, s *site.Site, udp []string) {
	all := slices.Concat(udp, webRules)
	pair := s.Dirs[0].MustRun("cat", site.Example)
	from := strings.Index(pair, "    real_server 172.25.88.3 80 {")
	s.Dirs[0].WriteFile("/etc/one.conf", pair[:from]+"}\n")
	if out, status := s.Command(s.Dirs[0], "apply", "-f", "/etc/one.conf", "--yes"); status != 3 || !strings.Contains(out, "--prune") {
		t.Errorf("a deletion without --prune: exit status %d, want 3 and a word about --prune:\n%s", status, out)
	}
	wantTables(s, slices.Clone(all)...)
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/one.conf", "--prune", "--yes")
	wantTables(s, slices.Concat(udp, webRules[:2])...)
	s.Dirs[0].WriteFile("/etc/none.yaml", "services: []\n")
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/none.yaml", "--set", "dns", "--prune", "--yes")
	wantTables(s, slices.Clone(webRules[:2])...)
}
