package dataplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/ipvs/ipvstest"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// director is a network namespace with eth0 172.25.88.11/24, whose interfaces
// are real and whose IPVS is the fake, or in the lab real, too.
type director struct {
	ns     netns.NsHandle
	nl     *netlink.Handle
	eth0   netlink.Link
	kernel Kernel
	rules  func() []string // sorted lines of ipvsadm -Sn
	// disturb does what ipvsadm -R is told, one line after another, with no
	// moment at which a service is missing; rules are what is there then.
	disturb func(lines, rules string)
}

// eachKernel runs body with the fake IPVS and, in the lab, with the real one.
func eachKernel(t *testing.T, body func(t *testing.T, d *director)) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	t.Run("fake", func(t *testing.T) {
		d := newDirector(t)
		k := new(ipvstest.Kernel)
		d.kernel, d.rules = k, func() []string { return sortedLines(k.String()) }
		d.disturb = func(_, rules string) { must(t, k.Set(rules)) }
		body(t, d)
	})
	t.Run("real", func(t *testing.T) {
		if os.Getenv("LBCLUSTER_LAB") != "1" {
			t.Skip("needs a kernel with IPVS: run it in the lab")
		}
		d := newDirector(t)
		h := ipvs.New(fmt.Sprintf("/proc/self/fd/%d", int(d.ns)))
		t.Cleanup(h.Close)
		d.kernel, d.rules = h, func() []string {
			return sortedLines(strings.ReplaceAll(d.command(t, "", "ipvsadm", "-Sn"), " --tun-type ipip", ""))
		}
		d.disturb = func(lines, _ string) { d.command(t, lines, "ipvsadm", "-R") }
		body(t, d)
	})
}

func newDirector(t *testing.T) *director {
	t.Helper()
	d := &director{}
	runtime.LockOSThread()
	old, err := netns.Get()
	must(t, err)
	d.ns, err = netns.New()
	if errors.Is(err, unix.EPERM) {
		runtime.UnlockOSThread()
		t.Skip("network namespaces are not permitted here")
	}
	must(t, err)
	must(t, netns.Set(old))
	runtime.UnlockOSThread()
	old.Close()
	t.Cleanup(func() { d.ns.Close() })

	d.nl, err = netlink.NewHandleAt(d.ns, unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(d.nl.Close)
	must(t, d.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"}))
	for _, name := range []string{"lo", "peer0", "eth0"} {
		d.eth0, err = d.nl.LinkByName(name)
		must(t, err)
		must(t, d.nl.LinkSetUp(d.eth0))
	}
	must(t, d.nl.AddrAdd(d.eth0, address("172.25.88.11/24")))
	return d
}

func address(s string) *netlink.Addr {
	a, err := netlink.ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// command runs a program in the director's namespace.
func (d *director) command(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	must(t, err)
	defer old.Close()
	must(t, netns.Set(d.ns))
	defer netns.Set(old)
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func sortedLines(s string) []string {
	var out []string
	for l := range strings.Lines(s) {
		out = append(out, strings.TrimSpace(l))
	}
	slices.Sort(out)
	return out
}

func (d *director) has(t *testing.T, prefix string) bool {
	t.Helper()
	addrs, err := d.nl.AddrList(d.eth0, netlink.FAMILY_V4)
	must(t, err)
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IPNet.String() == prefix })
}

// start runs a plane on the director; the function it returns stops it.
func (d *director) start(t *testing.T, state string) (*Plane, func()) {
	t.Helper()
	host, err := vip.New(d.ns)
	must(t, err)
	p := New(Config{IPVS: d.kernel, VIPs: host, StateFile: state})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		host.Close()
	}
	t.Cleanup(stop)
	return p, stop
}

// until waits for a condition of the real world.
func until(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func TestPlaneOnAKernel(t *testing.T) {
	eachKernel(t, func(t *testing.T, d *director) {
		state := filepath.Join(t.TempDir(), "dataplane.json")
		theirs := "-A -t 10.9.9.9:21 -s wlc\n-a -t 10.9.9.9:21 -r 10.9.9.10:21 -g -w 1\n"
		d.disturb(theirs, theirs)
		want := sortedLines(theirs + pairRules)
		p, stop := d.start(t, state)
		p.Update(pairTable(5))
		<-p.Ready()
		is := func(rules []string) func() bool { return func() bool { return slices.Equal(d.rules(), rules) } }
		until(t, time.Second, "the table stands", is(want))

		tm := term(1, vipAddr)
		p.Acquired(tm.Permit())
		until(t, time.Second, "the address is on", func() bool { return d.has(t, vipAddr+"/32") })
		until(t, time.Second, "it is announced", func() bool {
			vips := p.Status().VIPs
			return len(vips) == 1 && vips[0].Announced > 0
		})
		must(t, d.nl.AddrDel(d.eth0, address(vipAddr+"/32")))
		until(t, time.Second, "it is put back", func() bool {
			vips := p.Status().VIPs
			return d.has(t, vipAddr+"/32") && len(vips) == 1 && vips[0].Restored == 1
		})

		d.disturb("-E -t 172.25.88.100:80 -s wlc\n-e -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 7\n-d -t 172.25.88.100:80 -r 172.25.88.3:80\n",
			theirs+"-A -t 172.25.88.100:80 -s wlc\n-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 7\n")
		until(t, 10*time.Second, "drift is repaired", is(want))
		until(t, time.Second, "and counted", func() bool { return p.Status().DriftRepaired == 3 })

		// The process goes while it is an owner; the next one clears up.
		stop()
		if !is(want)() || !d.has(t, vipAddr+"/32") {
			t.Fatal("stopping changed the kernel")
		}
		p, stop = d.start(t, state)
		until(t, time.Second, "what was left is removed", func() bool { return !d.has(t, vipAddr+"/32") })
		p.Update(&fsm.Table{Cluster: "c1", Revision: 6, Routers: pairTable(1).Routers})
		until(t, time.Second, "the service that left the table is gone, theirs is not", is(sortedLines(theirs)))
		until(t, time.Second, "theirs is reported", func() bool { return len(p.Status().ForeignServices) == 1 })
		p.Acquired(tm.Permit())
		until(t, time.Second, "owned again", func() bool { return d.has(t, vipAddr+"/32") })
		<-p.Lost(1, "")
		if d.has(t, vipAddr+"/32") {
			t.Error("reported as removed, but it is there")
		}
		stop()
	})
}

// With the fake and the real kernel alike: any table becomes any other.
func TestTablesFollowEachOther(t *testing.T) {
	eachKernel(t, func(t *testing.T, d *director) {
		ours := Ownership{}
		for i, rules := range []string{
			pairRules,
			"-A -t 172.25.88.100:80 -s wlc -p 300\n-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 0\n-a -t 172.25.88.100:80 -r 172.25.88.4:80 -g -w 3\n",
			"-A -t [2001:db8::100]:80 -s rr\n-a -t [2001:db8::100]:80 -r [2001:db8::2]:80 -g -w 1\n-a -t [2001:db8::100]:80 -r [2001:db8::3]:80 -g -w 1\n-A -f 7 -6 -s rr\n-a -f 7 -6 -r [2001:db8::2]:0 -g -w 1\n",
			"-A -t [2001:db8::100]:80 -s wlc -p 300 -M 64\n-a -t [2001:db8::100]:80 -r [2001:db8::3]:80 -g -w 5\n-A -u [2001:db8::100]:53 -s sh\n",
			"-A -u 172.25.88.100:53 -s sh\n-a -u 172.25.88.100:53 -r 172.25.88.4:53 -g -w 1\n-A -t 172.25.88.101:80 -s mh\n",
			"-A --sctp-service 172.25.88.100:2905 -s wlc\n-a --sctp-service 172.25.88.100:2905 -r 172.25.88.2:2906 -m -w 1\n-A -u 172.25.88.100:53 -s sh -p 60 --pe sip\n-a -u 172.25.88.100:53 -r 172.25.88.4:53 -i -w 1\n-A -f 9 -s rr -o\n-a -f 9 -r 172.25.88.2:8080 -m -w 1\n",
			"-A --sctp-service 172.25.88.100:2905 -s mh -b mh-port\n-a --sctp-service 172.25.88.100:2905 -r 172.25.88.2:2905 -g -w 1\n-A -u 172.25.88.100:53 -s sh -p 60\n-a -u 172.25.88.100:53 -r 172.25.88.4:53 -g -w 1\n-A -f 9 -s rr\n-a -f 9 -r 172.25.88.2:0 -i -w 1\n",
			"-A -t 172.25.88.100:80 -s rr\n-a -t 172.25.88.100:80 -r [2001:db8::2]:80 -i -w 1\n-a -t 172.25.88.100:80 -r 172.25.88.3:8080 -m -w 1\n",
			"",
			pairRules,
		} {
			want := ipvstest.Must(rules)
			have, err := d.kernel.List()
			must(t, err)
			must(t, carryOut(d.kernel, have, Diff(have, want, ours), never).err())
			if got := d.rules(); !slices.Equal(got, sortedLines(rules)) {
				t.Fatalf("table %d is\n%s\nwant\n%s", i, strings.Join(got, "\n"), rules)
			}
			have, err = d.kernel.List()
			must(t, err)
			if again := Diff(have, want, ours); len(again) > 0 {
				t.Fatalf("table %d: a second run would do %v", i, again)
			}
			for _, s := range want {
				ours[s.Key] = true
			}
		}
	})
}
