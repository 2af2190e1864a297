package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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

// A keepalived with the same VRID beside the cluster, and strangers that send
// whatever they like to every port.
func TestPeersAndStrangers(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	peer := e.AddHost("peer", "172.25.88.30/24")
	t.Run("keepalived as BACKUP stays BACKUP", func(t *testing.T) { e.keepalivedStaysBackup(t, peer) })
	t.Run("another password is rejected and counted", func(t *testing.T) { e.wrongPassword(t, peer) })
	t.Run("a higher priority is heard and ignored", func(t *testing.T) { e.higherPriority(t, peer) })
	t.Run("garbage on proto 112", func(t *testing.T) { e.garbage(t, peer, vrrpGarbage, "vrrp_") })
	t.Run("garbage on the lease's port", func(t *testing.T) { e.garbage(t, peer, udpGarbage(7500), "lease_") })
	t.Run("garbage on the members' port", func(t *testing.T) { e.garbage(t, peer, tcpGarbage(7500), "members_connection") })
	t.Run("garbage on gossip's ports", func(t *testing.T) {
		e.garbage(t, peer, udpGarbage(7501), "")
		e.garbage(t, peer, tcpGarbage(7501), "")
	})
	t.Run("garbage on the local socket", func(t *testing.T) { e.socketGarbage(t) })
}

// peerConf is a keepalived.conf with nothing but the router.
func peerConf(t *testing.T, changes ...string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/keepalived-pair.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf, _, _ := strings.Cut(string(b), "virtual_server")
	return strings.NewReplacer(changes...).Replace(conf)
}

// The owner changes meanwhile, so that both owners' adverts and a farewell are
// seen by the peer and by the capture.
func (e *eyes) keepalivedStaysBackup(t *testing.T, peer *lab.Host) {
	adverts := e.Capture(nil, "adverts", "ip proto 112")
	k := peer.StartKeepalived(peerConf(t, "state MASTER", "state BACKUP", "priority 100", "priority 50"))
	e.await("the peer is BACKUP", 10*time.Second, func() bool { return strings.Contains(k.Output(), "Entering BACKUP STATE") })
	time.Sleep(5 * time.Second)
	old := e.AwaitOwner()
	cut := e.Partition([]*lab.Host{old}, e.Others(old), membersPort) // it lets go by its deadline
	next := e.AwaitSuccessor(old)
	time.Sleep(5 * time.Second)
	cut.Heal()
	adverts()
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	_, out, _ := strings.Cut(k.Output(), "Startup complete") // before, it finds fault with the file
	for _, bad := range []string{"MASTER STATE", "auth", "incorrect", "mismatch", "invalid", "expected"} {
		if i := strings.Index(strings.ToLower(out), strings.ToLower(bad)); i >= 0 {
			t.Errorf("the peer's log has %q:\n%s", bad, out)
		}
	}
	if peer.HasAddress(site.VIP) {
		t.Errorf("the peer has the VIP:\n%s", out)
	}
	e.wantAdverts(t, old, next)
	e.wantNoOverlap(t)
}

var advertMAC = regexp.MustCompile(`(?m)^\S+ ((?:[0-9a-f]{2}:){5}[0-9a-f]{2}) > 01:00:5e:00:00:12, .*\bttl (\d+),.*\n\s+(.*)$`)

// wantAdverts reads the capture: adverts by old, then by next, each in order,
// none by both in turn.
func (e *eyes) wantAdverts(t *testing.T, old, next *lab.Host) {
	t.Helper()
	file := filepath.Join(e.Results(), "adverts.pcap")
	out, err := exec.CommandContext(t.Context(), "tcpdump", "-Z", "root", "-r", file, "-e", "-n", "-v").Output()
	if err != nil {
		t.Fatal(err)
	}
	var senders []string
	count := map[string]int{}
	for _, m := range advertMAC.FindAllStringSubmatch(string(out), -1) {
		if len(senders) == 0 || senders[len(senders)-1] != m[1] {
			senders = append(senders, m[1])
		}
		count[m[1]]++
		for _, want := range []string{"VRRPv2, Advertisement", "vrid 51", "authtype simple", "intvl 1s", "addrs: " + site.VIP, `auth "1111"`} {
			if !strings.Contains(m[3], want) {
				t.Errorf("an advert lacks %q: %s", want, m[3])
			}
		}
		if m[2] != "255" {
			t.Errorf("an advert has TTL %s", m[2])
		}
	}
	want := []string{old.MAC.String(), next.MAC.String()}
	if fmt.Sprint(senders) != fmt.Sprint(want) {
		t.Errorf("senders in order %v, want %v (%s, %s):\n%s", senders, want, old.Name, next.Name, out)
	}
	for _, mac := range want {
		if count[mac] < 4 {
			t.Errorf("%d adverts by %s in over 5 s, want four or more", count[mac], mac)
		}
	}
}

// rejected is how many adverts the directors rejected for a reason.
func (e *eyes) rejected(why string) (n uint64) {
	for _, h := range e.Dirs {
		if l, err := e.Local(h); err == nil && len(l.VRRP) == 1 {
			n += l.VRRP[0].Rejected[why]
		}
	}
	return n
}

func (e *eyes) wrongPassword(t *testing.T, peer *lab.Host) {
	owner := e.AwaitOwner()
	// An address of its own, so that this peer and the cluster both can serve.
	k := peer.StartKeepalived(peerConf(t, "auth_pass 1111", "auth_pass 2222", site.VIP, "172.25.88.101"))
	e.await("the directors reject its adverts", 15*time.Second, func() bool { return e.rejected("auth_pass") >= 3 })
	e.AwaitFinding(e.Dirs[0], "VRRP adverts were rejected: auth_pass", "")
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	e.wantOwnerAlone(t, owner)
}

// The peer takes the address too: that a cluster does not yield to a peer is a
// limit that README states. Here it is only that the cluster stays as it is.
func (e *eyes) higherPriority(t *testing.T, peer *lab.Host) {
	owner := e.AwaitOwner()
	k := peer.StartKeepalived(peerConf(t, "priority 100", "priority 150", site.VIP, "172.25.88.101"))
	f := e.AwaitFinding(e.Dirs[0], "172.25.88.30, which is no member, sends VRRP adverts for VRID 51 (version 2, priority 150)", "")
	if !strings.Contains(f.Text, "ignored") {
		t.Errorf("status does not say that they are ignored: %s", f.Text)
	}
	from := probe.Now()
	to := pause(5 * time.Second)
	for _, h := range e.Dirs {
		l, err := e.Local(h)
		if err != nil || len(l.VRRP) != 1 || len(l.VRRP[0].Heard) == 0 {
			t.Errorf("%s has heard %+v, %v", h.Name, l.VRRP, err)
			continue
		}
		if want := map[bool]string{true: "MASTER", false: "BACKUP"}[h == owner]; l.VRRP[0].State != want {
			t.Errorf("%s is %s, want %s", h.Name, l.VRRP[0].State, want)
		}
	}
	e.wantUndisturbed(t, owner, from, to)
	e.wantOwnerAlone(t, owner)
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
}

// dropsOf sums what a director counts under a prefix.
func (e *eyes) dropsOf(h *lab.Host, prefix string) (n uint64) {
	l, err := e.Local(h)
	if err != nil {
		e.T.Errorf("%v", err)
	}
	for why, c := range l.Dropped {
		if strings.HasPrefix(why, prefix) {
			n += c
		}
	}
	if prefix == "vrrp_" && len(l.VRRP) == 1 {
		for _, c := range l.VRRP[0].Rejected {
			n += c
		}
	}
	return n
}

// garbage sends to every director and wants it counted under the prefix (empty:
// just dropped), the daemons alive, and clients undisturbed.
func (e *eyes) garbage(t *testing.T, from *lab.Host, send func(net.IP) error, prefix string) {
	t.Helper()
	owner, begin := e.AwaitOwner(), probe.Now()
	for _, h := range e.Dirs {
		before := e.dropsOf(h, prefix)
		if err := from.Do(func() error { return send(h.Addr.AsSlice()) }); err != nil {
			t.Fatal(err)
		}
		if prefix != "" {
			e.await(h.Name+" counts it", 5*time.Second, func() bool { return e.dropsOf(h, prefix) >= before+20 })
		}
	}
	e.wantAllAlive(t)
	e.wantUndisturbed(t, owner, begin, pause(time.Second))
	e.wantOwnerAlone(t, owner)
	e.AwaitCalm()
}

func (e *eyes) wantAllAlive(t *testing.T) {
	t.Helper()
	for _, h := range e.Dirs {
		d := e.Daemons[h]
		select {
		case <-d.Done():
			t.Errorf("the daemon of %s ended: %s", h.Name, d.Output())
		default:
		}
		if log := d.Output(); strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
			t.Errorf("the daemon of %s panicked: %s", h.Name, log)
		}
	}
}

// junk are packets of all sizes, the same ones in every run; header starts half
// of them, so that some get further than the first look.
func junk(n int, header ...byte) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	out := [][]byte{{}, header, bytes.Repeat([]byte{0}, 40), bytes.Repeat([]byte{0xff}, 1400)}
	for range n {
		b := make([]byte, r.IntN(1400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if r.IntN(2) == 0 {
			copy(b, header)
		}
		out = append(out, b)
	}
	return out
}

// vrrpGarbage sends to the group and to the director itself.
func vrrpGarbage(to net.IP) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 112)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	dev, err := net.InterfaceByName(lab.Interface)
	if err != nil {
		return err
	}
	if err := errors.Join(
		unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(dev.Index)}),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 255),
	); err != nil {
		return err
	}
	for _, b := range junk(200, 0x21, 51, 100, 1, 1, 1) {
		for _, ip := range []net.IP{net.IPv4(224, 0, 0, 18), to} {
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: [4]byte(ip.To4())}); err != nil {
				return fmt.Errorf("%d bytes to %v: %w", len(b), ip, err)
			}
		}
	}
	return nil
}

func udpGarbage(port int) func(net.IP) error {
	return func(to net.IP) error {
		c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: to, Port: port})
		if err != nil {
			return err
		}
		defer c.Close()
		for _, b := range junk(300, 1, 0, 0, 0) {
			if _, err := c.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
}

// tcpGarbage talks nonsense, TLS without a protocol, nothing at all, and hangs up.
func tcpGarbage(port int) func(net.IP) error {
	return func(to net.IP) error {
		at := net.JoinHostPort(to.String(), fmt.Sprint(port))
		var idle []net.Conn
		defer func() {
			for _, c := range idle {
				c.Close()
			}
		}()
		for i, b := range append(junk(25, 0x16, 3, 1), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")) {
			c, err := net.DialTimeout("tcp4", at, 3*time.Second)
			if err != nil {
				return err
			}
			_, _ = c.Write(b)
			if i%3 == 0 {
				idle = append(idle, c)
				continue
			}
			c.Close()
		}
		for _, proto := range []string{"", "h2", "lbcluster-raft"} {
			d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 3 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true, NextProtos: strings.Fields(proto)}}
			if c, err := d.Dial("tcp4", at); err == nil {
				c.Close()
			}
		}
		return nil
	}
}

// socketGarbage speaks to the local API as no client of ours would.
func (e *eyes) socketGarbage(t *testing.T) {
	owner, begin := e.AwaitOwner(), probe.Now()
	h := owner
	err := h.Do(func() error {
		for _, b := range junk(40, []byte("POST /v1/")...) {
			c, err := net.Dial("unix", "/run/lbcluster/lbcluster.sock")
			if err != nil {
				return err
			}
			_, _ = c.Write(b)
			c.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	revision := func() uint64 {
		l, err := e.Local(h)
		if err != nil {
			t.Error(err)
		}
		return l.TableRevision
	}
	before := revision()
	for _, argv := range [][]string{
		{"-X", "POST", "-d", "{", "http://x/v1/apply"},
		{"-X", "POST", "-d", `{"set":1}`, "http://x/v1/apply"},
		{"-X", "POST", "-H", "Content-Type: application/json", "-d", `{"set":"default","config":{"routers":[{"name":"` + strings.Repeat("x", 4000) + `"}]}}`, "http://x/v1/apply"},
		{"-X", "DELETE", "http://x/v1/apply"},
		{"http://x/v1/no/such/thing"},
		{"-X", "POST", "--data-binary", "@/proc/self/exe", "http://x/v1/init"},
	} {
		out, err := h.Run(t.Context(), append([]string{"curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", "/run/lbcluster/lbcluster.sock"}, argv...)...)
		if err != nil || !strings.HasPrefix(out, "4") {
			t.Errorf("%.80v was answered with %s, %v; want a refusal (4xx)", argv, out, err)
		}
	}
	if now := revision(); now != before {
		t.Errorf("the table went from revision %d to %d", before, now)
	}
	e.wantAllAlive(t)
	e.wantUndisturbed(t, owner, begin, probe.Now())
}
