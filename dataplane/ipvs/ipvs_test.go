package ipvs_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/ipvs/ipvstest"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// kernel is what one test body runs on: the fake, and in the lab a Handle.
type kernel interface {
	List() ([]ipvs.Service, error)
	Services() ([]ipvs.Service, error)
	Dests(ipvs.Key) ([]ipvs.Dest, error)
	Do(ipvs.Op) error
	DoAll([]ipvs.Op) []error
}

// world is a kernel and what ipvsadm says of it.
type world struct {
	kernel
	ipvsadm func(args ...string) string // nil on the fake
}

// eachKernel runs body on the fake and, in the lab (LBCLUSTER_LAB=1), on the
// real kernel in a network namespace of its own.
func eachKernel(t *testing.T, body func(t *testing.T, w world)) {
	t.Run("fake", func(t *testing.T) { body(t, world{kernel: new(ipvstest.Kernel)}) })
	t.Run("real", func(t *testing.T) {
		if os.Getenv("LBCLUSTER_LAB") != "1" {
			t.Skip("needs a kernel with IPVS: run it in the lab")
		}
		path := newNamespace(t)
		h := ipvs.New(path)
		t.Cleanup(h.Close)
		body(t, world{kernel: h, ipvsadm: func(args ...string) string { return run(t, "ipvsadm", args...) }})
	})
}

// newNamespace moves this test's thread into a fresh network namespace with lo
// up, and returns its path. The thread ends with the test.
func newNamespace(t *testing.T) string {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the runtime ends the thread
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", int(ns))
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// expect compares the table with want, and with what ipvsadm -Sn prints (which
// has no thresholds).
func (w world) expect(t *testing.T, want string) {
	t.Helper()
	have, err := w.List()
	if err != nil {
		t.Fatal(err)
	}
	wanted := ipvstest.Must(want)
	if got := ipvs.Rules(have); got != ipvs.Rules(wanted) {
		t.Fatalf("table is\n%swant\n%s", got, ipvs.Rules(wanted))
	}
	if w.ipvsadm == nil {
		return
	}
	for i := range wanted {
		for j := range wanted[i].Dests {
			wanted[i].Dests[j].Upper, wanted[i].Dests[j].Lower = 0, 0
		}
	}
	if got, want := lines(strings.ReplaceAll(w.ipvsadm("-Sn"), " --tun-type ipip", "")), lines(ipvs.Rules(wanted)); !slices.Equal(got, want) {
		t.Fatalf("ipvsadm -Sn says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// lines are s's lines, trimmed and sorted: ipvsadm's order is the kernel's.
func lines(s string) []string {
	var out []string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	slices.Sort(out)
	return out
}

func (w world) do(t *testing.T, op ipvs.Op) {
	t.Helper()
	if err := w.Do(op); err != nil {
		t.Fatalf("%s: %v", op, err)
	}
}

// load adds what rules say.
func (w world) load(t *testing.T, rules string) []ipvs.Service {
	t.Helper()
	services := ipvstest.Must(rules)
	for _, s := range services {
		w.do(t, ipvs.Op{Verb: ipvs.AddService, Service: s})
		for _, d := range s.Dests {
			w.do(t, ipvs.Op{Verb: ipvs.AddDest, Service: s, Dest: d})
		}
	}
	return services
}

const pair = `
-A -t 172.25.88.100:80 -s rr
-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1
-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1
`

func TestEmptyTable(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) { w.expect(t, "") })
}

func TestEverySchedulerIsReadBack(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		var rules strings.Builder
		for i, sched := range []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"} {
			fmt.Fprintf(&rules, "-A -t 172.25.88.100:%d -s %s\n", 8000+i, sched)
			fmt.Fprintf(&rules, "-a -t 172.25.88.100:%[1]d -r 172.25.88.2:%[1]d -g -w 1\n", 8000+i)
		}
		w.load(t, rules.String())
		w.expect(t, rules.String())
	})
}

func TestPersistenceWeightsThresholdsAndUDP(t *testing.T) {
	const rules = `
-A -t 172.25.88.100:80 -s wrr -p 300
-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 65535 -x 1000 -y 800
-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 0
-A -t 172.25.88.100:443 -s wlc -p 50 -M 255.255.255.0
-A -u 172.25.88.100:53 -s rr -o
-a -u 172.25.88.100:53 -r 172.25.88.2:53 -g -w 3
-A -u 172.25.88.101:53 -s sh -b sh-fallback,sh-port
-A -f 7 -s rr
`
	eachKernel(t, func(t *testing.T, w world) {
		w.load(t, rules)
		w.expect(t, rules)
	})
}

// IPv6 in every form that is written, and changed and removed again.
func TestIPv6(t *testing.T) {
	const rules = `
-A -t [2001:db8::100]:80 -s rr
-a -t [2001:db8::100]:80 -r [2001:db8::2]:80 -g -w 1
-a -t [2001:db8::100]:80 -r [2001:db8::3]:80 -g -w 0
-A -u [2001:db8::100]:53 -s mh -b mh-fallback,mh-port
-a -u [2001:db8::100]:53 -r [2001:db8::2]:53 -g -w 3 -x 1000 -y 800
-A -t [2001:db8::100]:443 -s wlc -p 300
-A -t [2001:db8::100]:444 -s wlc -p 50 -M 64
-A -f 7 -6 -s rr
-a -f 7 -6 -r [2001:db8::11]:0 -g -w 1
-A -f 7 -s rr
-a -f 7 -r 172.25.88.11:0 -g -w 1
`
	eachKernel(t, func(t *testing.T, w world) {
		services := w.load(t, rules)
		w.expect(t, rules)
		for _, s := range services {
			for _, d := range s.Dests {
				d.Weight = 9
				w.do(t, ipvs.Op{Verb: ipvs.UpdateDest, Service: s, Dest: d})
				w.do(t, ipvs.Op{Verb: ipvs.RemoveDest, Service: s, Dest: d})
			}
			s.Scheduler = "wrr"
			s.Flags &= ipvs.Persistent
			w.do(t, ipvs.Op{Verb: ipvs.UpdateService, Service: s})
		}
		w.expect(t, `
-A -t [2001:db8::100]:80 -s wrr
-A -u [2001:db8::100]:53 -s wrr
-A -t [2001:db8::100]:443 -s wrr -p 300
-A -t [2001:db8::100]:444 -s wrr -p 50 -M 64
-A -f 7 -6 -s wrr
-A -f 7 -s wrr
`)
		for _, s := range services {
			w.do(t, ipvs.Op{Verb: ipvs.RemoveService, Service: s})
		}
		w.expect(t, "")
	})
}

// NAT and tunnels (also to the other family), SCTP, persistence engines: made,
// changed into one another, removed.
func TestEveryMethodAndProtocol(t *testing.T) {
	const rules = `
-A -t 172.25.88.100:80 -s wrr
-a -t 172.25.88.100:80 -r 172.25.88.2:8080 -m -w 1
-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 2
-a -t 172.25.88.100:80 -r 172.25.88.4:80 -i -w 3
-A --sctp-service 172.25.88.100:2905 -s wlc
-a --sctp-service 172.25.88.100:2905 -r 172.25.88.2:2906 -m -w 1 -x 9 -y 3
-A --sctp-service [2001:db8::100]:2905 -s mh -b mh-port
-a --sctp-service [2001:db8::100]:2905 -r [2001:db8::2]:2905 -i -w 1
-A -u 172.25.88.100:5060 -s rr -p 300 --pe sip
-a -u 172.25.88.100:5060 -r 172.25.88.2:5060 -g -w 1
-A -t 172.25.88.100:0 -s rr -p 60
-a -t 172.25.88.100:0 -r 172.25.88.2:0 -m -w 1
-A -f 9 -s rr -p 60 -M 255.255.255.0 --pe sip
-a -f 9 -r 172.25.88.2:8080 -m -w 1
-a -f 9 -r 172.25.88.3:0 -i -w 1
`
	eachKernel(t, func(t *testing.T, w world) {
		services := w.load(t, rules)
		w.expect(t, rules)
		for _, s := range services {
			for _, d := range s.Dests {
				d.Method = map[ipvs.Method]ipvs.Method{ipvs.Masquerade: ipvs.Tunnel, ipvs.Tunnel: ipvs.DirectRouting, ipvs.DirectRouting: ipvs.Masquerade}[d.Method]
				w.do(t, ipvs.Op{Verb: ipvs.UpdateDest, Service: s, Dest: d})
			}
			if s.Engine != "" {
				s.Engine = ""
				w.do(t, ipvs.Op{Verb: ipvs.UpdateService, Service: s})
			} else if s.Flags&ipvs.Persistent == 0 {
				s.Flags, s.Timeout, s.Engine, s.Scheduler = ipvs.Persistent, 30, "sip", "rr"
				w.do(t, ipvs.Op{Verb: ipvs.UpdateService, Service: s})
			}
		}
		w.expect(t, `
-A -t 172.25.88.100:80 -s rr -p 30 --pe sip
-a -t 172.25.88.100:80 -r 172.25.88.2:8080 -i -w 1
-a -t 172.25.88.100:80 -r 172.25.88.3:80 -m -w 2
-a -t 172.25.88.100:80 -r 172.25.88.4:80 -g -w 3
-A --sctp-service 172.25.88.100:2905 -s rr -p 30 --pe sip
-a --sctp-service 172.25.88.100:2905 -r 172.25.88.2:2906 -i -w 1 -x 9 -y 3
-A --sctp-service [2001:db8::100]:2905 -s rr -p 30 --pe sip
-a --sctp-service [2001:db8::100]:2905 -r [2001:db8::2]:2905 -g -w 1
-A -u 172.25.88.100:5060 -s rr -p 300
-a -u 172.25.88.100:5060 -r 172.25.88.2:5060 -m -w 1
-A -t 172.25.88.100:0 -s rr -p 60
-a -t 172.25.88.100:0 -r 172.25.88.2:0 -i -w 1
-A -f 9 -s rr -p 60 -M 255.255.255.0
-a -f 9 -r 172.25.88.2:8080 -i -w 1
-a -f 9 -r 172.25.88.3:0 -g -w 1
`)
		for _, s := range services {
			w.do(t, ipvs.Op{Verb: ipvs.RemoveService, Service: s})
		}
		w.expect(t, "")
	})
}

// A tunnel may lead to the other family, and only a tunnel.
func TestTunnelsToTheOtherFamily(t *testing.T) {
	const rules = `
-A -t 172.25.88.100:80 -s rr
-a -t 172.25.88.100:80 -r [2001:db8::2]:80 -i -w 1
-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1
-A -t [2001:db8::100]:80 -s rr
-a -t [2001:db8::100]:80 -r 10.0.0.9:80 -i -w 2
`
	eachKernel(t, func(t *testing.T, w world) {
		services := w.load(t, rules)
		w.expect(t, rules)
		for _, s := range services {
			for _, d := range s.Dests {
				if d.Addr.Is6() == s.Is6() {
					continue
				}
				d.Weight = 7
				w.do(t, ipvs.Op{Verb: ipvs.UpdateDest, Service: s, Dest: d})
				w.do(t, ipvs.Op{Verb: ipvs.RemoveDest, Service: s, Dest: d})
				d.Method = ipvs.Masquerade
				if err := w.Do(ipvs.Op{Verb: ipvs.AddDest, Service: s, Dest: d}); err == nil {
					t.Errorf("%s was taken", ipvs.Op{Verb: ipvs.AddDest, Service: s, Dest: d})
				}
			}
		}
		w.expect(t, "-A -t 172.25.88.100:80 -s rr\n-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1\n-A -t [2001:db8::100]:80 -s rr")
	})
}

func TestUpdateKeepsWhatItDoesNotName(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		s := w.load(t, pair)[0]
		s.Scheduler, s.Flags, s.Timeout, s.Mask = "wlc", ipvs.Persistent, 120, 24
		w.do(t, ipvs.Op{Verb: ipvs.UpdateService, Service: s})
		d := s.Dests[0]
		d.Weight, d.Upper, d.Lower = 7, 20, 10
		w.do(t, ipvs.Op{Verb: ipvs.UpdateDest, Service: s, Dest: d})
		w.expect(t, `
-A -t 172.25.88.100:80 -s wlc -p 120 -M 255.255.255.0
-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 7 -x 20 -y 10
-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1
`)
	})
}

func TestPersistenceIsTakenAway(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		s := w.load(t, "-A -t 172.25.88.100:80 -s rr -p 300 -M 255.255.255.0")[0]
		s.Flags, s.Timeout = 0, 0
		w.do(t, ipvs.Op{Verb: ipvs.UpdateService, Service: s})
		w.expect(t, "-A -t 172.25.88.100:80 -s rr")
	})
}

func TestRemoveIsIdempotent(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		s := w.load(t, pair)[0]
		for range 2 {
			w.do(t, ipvs.Op{Verb: ipvs.RemoveDest, Service: s, Dest: s.Dests[1]})
		}
		w.expect(t, "-A -t 172.25.88.100:80 -s rr\n-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1")
		for range 2 {
			w.do(t, ipvs.Op{Verb: ipvs.RemoveService, Service: s})
		}
		w.do(t, ipvs.Op{Verb: ipvs.RemoveDest, Service: s, Dest: s.Dests[0]})
		w.expect(t, "")
	})
}

func TestRefusals(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		s := w.load(t, pair)[0]
		odd := s
		odd.Port, odd.Scheduler = 81, "fairest"
		gone := s
		gone.Port = 82
		engine := s
		engine.Port, engine.Flags, engine.Timeout, engine.Engine = 83, ipvs.Persistent, 30, "ftp"
		third := ipvs.Dest{DestKey: ipvs.DestKey{Addr: netip.MustParseAddr("172.25.88.4"), Port: 80}, Method: ipvs.DirectRouting, Weight: 1}
		for _, c := range []struct {
			name string
			op   ipvs.Op
			is   error // nil: any error
		}{
			{"service twice", ipvs.Op{Verb: ipvs.AddService, Service: s}, nil},
			{"unknown scheduler", ipvs.Op{Verb: ipvs.AddService, Service: odd}, ipvs.ErrScheduler},
			{"unknown persistence engine", ipvs.Op{Verb: ipvs.AddService, Service: engine}, ipvs.ErrScheduler},
			{"update of nothing", ipvs.Op{Verb: ipvs.UpdateService, Service: gone}, nil},
			{"destination twice", ipvs.Op{Verb: ipvs.AddDest, Service: s, Dest: s.Dests[0]}, nil},
			{"destination of nothing", ipvs.Op{Verb: ipvs.AddDest, Service: gone, Dest: third}, nil},
			{"update of no destination", ipvs.Op{Verb: ipvs.UpdateDest, Service: s, Dest: third}, nil},
		} {
			err := w.Do(c.op)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%s: %v, want %v", c.name, err, c.is)
			} else if !strings.Contains(err.Error(), "ipvsadm "+c.op.String()) {
				t.Errorf("%s: the error does not name the operation: %v", c.name, err)
			}
		}
		w.expect(t, pair)
	})
}

func TestServicesOfOthersAreRead(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		if w.ipvsadm == nil {
			t.Skip("made with ipvsadm")
		}
		w.ipvsadm("-A", "-t", "[2001:db8::1]:80", "-s", "rr")
		w.ipvsadm("-A", "-f", "9", "-s", "mh", "-b", "mh-fallback,mh-port")
		w.ipvsadm("-a", "-f", "9", "-r", "172.25.88.9", "-i", "-w", "4")
		w.ipvsadm("-A", "-t", "10.0.0.1:21", "-s", "wlc", "-p", "60")
		w.ipvsadm("-a", "-t", "10.0.0.1:21", "-r", "10.0.0.2:2121", "-m", "-x", "9")
		have, err := w.List()
		if err != nil {
			t.Fatal(err)
		}
		got := ipvs.Rules(have)
		for _, want := range []string{
			"-A -t [2001:db8::1]:80 -s rr\n",
			"-A -f 9 -s mh -b mh-fallback,mh-port\n-a -f 9 -r 172.25.88.9:0 -i -w 4\n",
			"-A -t 10.0.0.1:21 -s wlc -p 60\n-a -t 10.0.0.1:21 -r 10.0.0.2:2121 -m -w 1 -x 9\n",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})
}

func TestHandleRefusesWhatItCannotWrite(t *testing.T) {
	h := ipvs.New("/nonexistent") // never opened
	s := ipvstest.Must(pair)[0]
	v6 := ipvstest.Must("-A -t [2001:db8::1]:80 -s rr\n-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -g -w 1")[0]
	mapped := s
	mapped.Addr = netip.MustParseAddr("::ffff:172.25.88.100")
	icmp := s
	icmp.Protocol = 1
	heavy := s.Dests[0]
	heavy.Weight = 65536
	for _, op := range []ipvs.Op{
		{Verb: ipvs.AddService, Service: mapped},
		{Verb: ipvs.AddDest, Service: v6, Dest: s.Dests[0]},
		{Verb: ipvs.AddDest, Service: s, Dest: v6.Dests[0]},
		{Verb: ipvs.AddService, Service: icmp},
		{Verb: ipvs.AddDest, Service: s, Dest: heavy},
		{Verb: ipvs.AddDest, Service: s},
	} {
		if err := h.Do(op); err == nil || errors.Is(err, ipvs.ErrModule) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// Where the kernel has no IPVS, the error says so, each time anew.
func TestMissingModule(t *testing.T) {
	if _, err := netlink.GenlFamilyGet("IPVS"); err == nil {
		t.Skip("this kernel has IPVS")
	}
	if os.Geteuid() == 0 && os.Getenv("LBCLUSTER_LAB") == "1" {
		t.Skip("the module loads when asked for")
	}
	h := ipvs.New("")
	if _, err := h.List(); !errors.Is(err, ipvs.ErrModule) {
		t.Errorf("List: %v", err)
	}
	if err := h.Do(ipvs.Op{Verb: ipvs.RemoveService, Service: ipvstest.Must(pair)[0]}); !errors.Is(err, ipvs.ErrModule) {
		t.Errorf("Do: %v", err)
	}
}

func TestCanonicalAndRules(t *testing.T) {
	a := ipvstest.Must("-A -t 10.0.0.1:80 -s rr")[0]
	b := a
	b.Mask, b.Timeout, b.Flags = 0, 77, 0x2 // as the kernel may read back
	if !a.Same(b) {
		t.Error("the hashed flag, or a timeout without persistence, makes a difference")
	}
	b.Flags |= ipvs.Persistent
	if a.Same(b) {
		t.Error("persistence makes no difference")
	}
	d := ipvs.Dest{Weight: 1, Active: 9}
	if !d.Same(ipvs.Dest{Weight: 1}) || d.Same(ipvs.Dest{Weight: 2}) {
		t.Error("Dest.Same")
	}
}
