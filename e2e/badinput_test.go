package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// dataDir is where a host's daemon keeps its state.
const dataDir = "/var/lib/lbcluster"

// Files, tokens and disks that are wrong: each is told clearly, nothing is
// changed or lost, and the VIP is served all the time.
func TestBadInput(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	for _, h := range s.Dirs { // a disk that can be filled
		h.MustRun("mount", "-t", "tmpfs", "-o", "size=16m", "none", dataDir)
	}
	s.Form()
	s.Serve()
	e := open(s)
	t.Run("files", func(t *testing.T) { e.badFiles(t) })
	t.Run("tokens", func(t *testing.T) { e.badTokens(t) })
	t.Run("full disk", func(t *testing.T) { e.fullDisk(t) })
	t.Run("damaged Raft store", func(t *testing.T) { e.damagedStore(t) })
	e.wantAllAlive(t)
	e.wantNoOverlap(t)
}

// fileFaults are files with one thing wrong, made from the example, and what
// the refusal must say.
func fileFaults(pair string) map[string]struct{ conf, want string } {
	change := func(from, to string) string { return strings.Replace(pair, from, to, 1) }
	service := pair[strings.Index(pair, "virtual_server"):]
	router := pair[strings.Index(pair, "vrrp_instance"):strings.Index(pair, "virtual_server")]
	line := func(text string) int { return 1 + strings.Count(pair[:strings.Index(pair, text)], "\n") }
	unclosed := strings.TrimSuffix(strings.TrimSpace(pair), "}")
	return map[string]struct{ conf, want string }{
		"a block that is never closed": {unclosed, fmt.Sprintf("bad.conf:%d:1: virtual_server: the block that begins here is never closed", line("virtual_server "))},
		"an unknown scheduler":         {change("lb_algo rr", "lb_algo roundrobin"), fmt.Sprintf("bad.conf:%d:5: lb_algo: ", line("lb_algo"))},
		"an unknown keyword":           {change("delay_loop 6", "delay_lop 6"), fmt.Sprintf("bad.conf:%d:5: delay_lop: ", line("delay_loop"))},
		"an address in two routers":    {pair + strings.NewReplacer("VI_1", "VI_2", "virtual_router_id 51", "virtual_router_id 52").Replace(router), "virtual_ipaddress: 172.25.88.100 is in virtual_router VI_1 too"},
		"a VRID twice on an interface": {pair + strings.NewReplacer("VI_1", "VI_2", site.VIP, "172.25.88.101").Replace(router), `virtual_router_id: 51 on interface "eth0" (IPv4) is taken by virtual_router VI_1`},
		"a real server twice":          {change("real_server 172.25.88.3 80", "real_server 172.25.88.2 80"), fmt.Sprintf("bad.conf:%d:5: real_server: it is there twice", line("real_server 172.25.88.3"))},
		"a virtual server twice":       {pair + service, fmt.Sprintf("bad.conf:%d:1: virtual_server: it is there twice", line("virtual_server ")+strings.Count(service, "\n"))},
		"not a configuration at all":   {"\x7fELF\x02\x01\x01\x00\x00", "bad.conf"},
	}
}

func (e *eyes) badFiles(t *testing.T) {
	e.await("every check has an opinion", 30*time.Second, func() bool {
		out, status := e.Command(e.Dirs[0], "server", "list")
		return status == 0 && !strings.Contains(out, "nobody has checked")
	})
	e.AwaitCalm()
	owner, h, from := e.AwaitOwner(), e.Dirs[1], probe.Now()
	pair := h.MustRun("cat", site.Example)
	before, rules := h.MustRun("lbcluster", "export"), e.Rules(h)
	applied := strings.Count(h.MustRun("lbcluster", "events"), " apply ")
	if applied == 0 {
		t.Fatal("the events do not tell of the apply that was made")
	}
	for name, f := range fileFaults(pair) {
		h.WriteFile("/etc/bad.conf", f.conf)
		out, status := e.Command(h, "apply", "-f", "/etc/bad.conf", "--yes", "--prune")
		if status != 2 || !strings.Contains(out, f.want) {
			t.Errorf("%s: exit status %d, want 2 and %q:\n%s", name, status, f.want, out)
		}
		t.Logf("%s: %s", name, lastLines(out, 5))
	}
	if now := h.MustRun("lbcluster", "export"); now != before {
		t.Errorf("the table changed from\n%sto\n%s", before, now)
	}
	// A busy machine may make a member silent for a moment, which is a revision
	// of its own; nobody applied anything.
	if events := h.MustRun("lbcluster", "events"); strings.Count(events, " apply ") != applied {
		t.Errorf("something was applied:\n%s", events)
	}
	if now := e.Rules(h); now != rules {
		t.Errorf("IPVS changed from\n%sto\n%s", rules, now)
	}
	e.wantUndisturbed(t, owner, from, probe.Now())
}

// lastLines is the end of a text without the notices above.
func lastLines(text string, n int) string {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "note: ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

var tokenText = regexp.MustCompile(`lbc1-[A-Za-z0-9_-]+`)

// token makes a join token on a host.
func (e *eyes) token(h *lab.Host, args ...string) string {
	e.T.Helper()
	out := h.MustRun(append([]string{"lbcluster", "token"}, args...)...)
	token := tokenText.FindString(out)
	if token == "" {
		e.T.Fatalf("no token in: %s", out)
	}
	return token
}

// withSecret is the token with another secret.
func withSecret(t *testing.T, token string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "lbc1-"))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	fields["s"] = make([]byte, 32)
	if b, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	return "lbc1-" + base64.RawURLEncoding.EncodeToString(b)
}

func (e *eyes) badTokens(t *testing.T) {
	owner, from := e.AwaitOwner(), probe.Now()
	at := e.Dirs[0]
	joiner, other, alien := e.AddHost("joiner", "172.25.88.41/24"), e.AddHost("other", "172.25.88.42/24"), e.AddHost("alien", "172.25.88.43/24")
	for _, h := range []*lab.Host{joiner, other, alien} {
		e.Start(h)
	}
	alien.MustRun("lbcluster", "init", "--guard", "0s")
	short := e.token(at, "--ttl", "1s")
	good := e.token(at, "--role", "witness")
	time.Sleep(time.Second)
	refused := func(h *lab.Host, what, token, want string, args ...string) {
		t.Helper()
		out, status := e.Command(h, append([]string{"join", at.Addr.String(), "--token", token}, args...)...)
		if status == 0 || !strings.Contains(out, want) || strings.Contains(out, "the daemon failed") {
			t.Errorf("%s: exit status %d, want a refusal that says %q:\n%s", what, status, want, out)
		}
		t.Logf("%s (exit status %d): %s", what, status, strings.TrimSpace(out))
		if out, status := e.Command(h, "member", "list"); status != 5 {
			t.Errorf("%s, and yet the machine is enrolled: exit status %d: %s", what, status, out)
		}
	}
	refused(joiner, "no token at all", "hello", "bad token")
	refused(joiner, "part of a token", good[:len(good)-9], "bad token")
	refused(joiner, "another secret", withSecret(t, good), "unknown or used up", "--witness")
	refused(joiner, "an expired token", short, "expired")
	refused(joiner, "a token for another role", good, "witness")
	refused(joiner, "a token of another cluster", e.token(alien), "not of the cluster that made this token")
	joiner.MustRun("lbcluster", "join", at.Addr.String(), "--token", good, "--witness", "--force")
	refused(other, "a token that is used up", good, "unknown or used up", "--witness")
	e.wantMembers(t, at, "dir1 director", "dir2 director", "dir3 director", "joiner witness")
	joiner.MustRun("lbcluster", "leave", "--yes")
	e.wantMembers(t, at, "dir1 director", "dir2 director", "dir3 director")
	for _, h := range []*lab.Host{joiner, other, alien} {
		if err := e.Daemons[h].Stop(); err != nil {
			t.Error(err)
		}
		delete(e.Daemons, h)
	}
	e.wantUndisturbed(t, owner, from, probe.Now())
}

// wantMembers waits until member list on h names these ("NAME ROLE").
func (e *eyes) wantMembers(t *testing.T, h *lab.Host, want ...string) {
	t.Helper()
	e.Eventually(20*time.Second, fmt.Sprintf("the members are %v", want), func() error {
		var members []struct{ Name, Role, State string }
		out, status := e.Command(h, "member", "list", "-o", "json")
		if err := json.Unmarshal([]byte(out), &members); status != 0 || err != nil {
			return fmt.Errorf("exit status %d, %w: %s", status, err, out)
		}
		var got []string
		for _, m := range members {
			if m.State != "gone" && m.State != "removed" {
				got = append(got, m.Name+" "+m.Role)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("they are %v", got)
		}
		return nil
	})
}

// The leader's disk fills up. What it acknowledged stays, another one leads,
// and it comes back by itself when there is room again.
func (e *eyes) fullDisk(t *testing.T) {
	leader, owner, from := e.AwaitCalm(), e.AwaitOwner(), probe.Now()
	other := e.Others(leader)[0]
	_, _ = leader.Run(t.Context(), "dd", "if=/dev/zero", "of="+dataDir+"/fill", "bs=4k") // until it is full
	acknowledged, refused := 0, 0
	diskErrors := func() uint64 {
		l, err := e.Local(leader)
		if err != nil {
			t.Errorf("the daemon with the full disk does not answer: %v", err)
		}
		return l.Raft.DiskErrors
	}
	for weight := 1; weight <= 60 && (diskErrors() == 0 || acknowledged == 0); weight++ {
		if _, status := e.Command(other, "server", "weight", "172.25.88.3:80", fmt.Sprint(weight)); status == 0 {
			acknowledged = weight
		} else {
			refused++
		}
	}
	if diskErrors() == 0 {
		t.Fatalf("the disk is not felt after 60 writes: then this test shows nothing")
	}
	e.Eventually(30*time.Second, "a write is acknowledged without that disk", func() error {
		out, status := e.Command(other, "server", "weight", "172.25.88.3:80", "77")
		if status != 0 {
			return fmt.Errorf("exit status %d: %s", status, out)
		}
		return nil
	})
	t.Logf("weight %d acknowledged before, %d writes refused meanwhile", acknowledged, refused)
	f := e.AwaitFinding(other, "its disk takes no Raft log", "make room")
	if f.Member != leader.Name || !strings.Contains(f.Text, "no space left on device") {
		t.Errorf("status says %+v, want %s and its error", f, leader.Name)
	}
	e.wantAllAlive(t)
	if e.AwaitOwner() == owner {
		e.wantUndisturbed(t, owner, from, probe.Now())
	} else {
		t.Errorf("the VIP moved: a lease needs no disk")
	}
	leader.MustRun("rm", dataDir+"/fill")
	e.AwaitCalm()
	e.AwaitTables(func(rules string) bool { return strings.Contains(rules, "-r 172.25.88.3:80 -g -w 77\n") })
	other.MustRun("lbcluster", "server", "weight", "172.25.88.3:80", "file")
	e.AwaitTables(func(rules string) bool { return strings.Contains(rules, "-r 172.25.88.3:80 -g -w 1\n") })
}

// A member whose log is damaged does not start, and says what to do; what it
// says works.
func (e *eyes) damagedStore(t *testing.T) {
	owner, from := e.AwaitOwner(), probe.Now()
	h := e.Others(owner)[0]
	at := e.Others(h)[0]
	if err := e.Daemons[h].Stop(); err != nil {
		t.Error(err)
	}
	delete(e.Daemons, h)
	store := strings.TrimSpace(h.MustRun("find", dataDir, "-name", "raft.db"))
	if store == "" {
		t.Fatal("no raft.db in " + h.MustRun("find", dataDir))
	}
	h.MustRun("cp", store, "/run/good.db")
	for what, how := range map[string][]string{
		"cut short":   {"dd", "if=/run/good.db", "of=" + store, "bs=1000", "count=1"},
		"empty":       {"cp", "/dev/null", store},
		"overwritten": {"dd", "if=/dev/urandom", "of=" + store, "bs=4096", "count=4", "conv=notrunc"},
	} {
		h.MustRun("cp", "/run/good.db", store)
		h.MustRun(how...)
		d := h.StartDirector()
		select {
		case <-d.Done():
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the daemon runs on a damaged store", what)
			_ = d.Stop()
		}
		if err := d.Wait(); err == nil || !strings.Contains(d.Output(), store) || !strings.Contains(d.Output(), "member remove") {
			t.Errorf("%s: ended with %v; want an error that names %s and says what to do:\n%s", what, err, store, d.Output())
		}
		t.Logf("%s: %s", what, lastLines(d.Output(), 1))
	}
	at.MustRun("lbcluster", "member", "remove", h.Name, "--yes")
	token := e.token(at)
	h.MustRun("sh", "-c", "mkdir /run/aside && mv "+dataDir+"/* /run/aside")
	e.Start(h)
	h.MustRun("lbcluster", "join", at.Addr.String(), "--token", token)
	e.AwaitVoters(3)
	e.AwaitCalm()
	e.wantUndisturbed(t, owner, from, probe.Now())
}

// Where the gate may not be loaded no director is made, and init says why.
func TestMissingCapability(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 1)
	h := s.Dirs[0]
	log := filepath.Join(s.Results(), "bounded.log")
	cmd := exec.Command("lbcluster", "run")
	err := h.Do(func() error { // on a thread that ends with it
		out, err := os.Create(log)
		if err != nil {
			return err
		}
		defer out.Close()
		for _, c := range []uintptr{unix.CAP_BPF, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN} {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				return err
			}
		}
		cmd.Stdout, cmd.Stderr = out, out
		return cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.Eventually(20*time.Second, "the daemon answers", func() error {
		_, err := s.Local(h)
		return err
	})
	out, status := s.Command(h, "init")
	t.Logf("init: exit status %d: %s", status, out)
	if status != 1 || !strings.Contains(out, "cannot be a director") || !strings.Contains(out, "operation not permitted") || !strings.Contains(out, "CAP_BPF") {
		t.Errorf("init without CAP_BPF: exit status %d, want 1 and what is missing:\n%s", status, out)
	}
	if out, status := s.Command(h, "member", "list"); status != 5 {
		t.Errorf("init was refused, and yet the machine is enrolled: exit status %d: %s", status, out)
	}
	select {
	case err := <-ended:
		text, _ := os.ReadFile(log)
		t.Errorf("the daemon ended: %v: %s", err, text)
	default:
		_ = cmd.Process.Signal(unix.SIGTERM)
		<-ended
	}
}
