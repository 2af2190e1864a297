package ipvs_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/ipvs/ipvstest"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// syncer is the part of a kernel that synchronises.
type syncer interface {
	Daemons() ([]ipvs.Daemon, error)
	StartDaemon(ipvs.Daemon) error
	StopDaemon(ipvs.Role) error
	Timeouts() (ipvs.Timeouts, error)
	SetTimeouts(ipvs.Timeouts) error
}

// syncing is w with the interface eth0, if it is real.
func (w world) syncing(t *testing.T) syncer {
	t.Helper()
	if w.ipvsadm != nil {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"}
		addr, _ := netlink.ParseAddr("172.25.88.11/24")
		err := errors.Join(netlink.LinkAdd(veth), netlink.AddrAdd(veth, addr), netlink.LinkSetUp(veth))
		if err != nil {
			t.Fatal(err)
		}
	}
	return w.kernel.(syncer)
}

func TestDaemonsComeAndGo(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		k := w.syncing(t)
		is := func(want ...ipvs.Daemon) {
			t.Helper()
			have, err := k.Daemons()
			if err != nil || !slices.EqualFunc(want, have, ipvs.Daemon.Same) {
				t.Fatalf("there are %+v, %v; want %+v", have, err, want)
			}
		}
		is()
		in := ipvs.Daemon{Role: ipvs.Receives, Interface: "eth0"}
		out := ipvs.Daemon{Role: ipvs.Sends, Interface: "eth0", ID: 7, Group: netip.MustParseAddr("239.1.2.3"), Port: 9000, TTL: 3, MaxLen: 1000}
		for _, d := range []ipvs.Daemon{in, out} {
			if err := k.StartDaemon(d); err != nil {
				t.Fatal(err)
			}
		}
		is(out, in)
		if w.ipvsadm != nil {
			for _, want := range []string{"master sync daemon (mcast=eth0, syncid=7, maxlen=1000, group=239.1.2.3, port=9000, ttl=3)", "backup sync daemon (mcast=eth0, syncid=0,"} {
				if got := w.ipvsadm("-l", "--daemon"); !strings.Contains(got, want) {
					t.Errorf("ipvsadm says %q, want %q", got, want)
				}
			}
		}
		if err := k.StartDaemon(in); !errors.Is(err, unix.EEXIST) {
			t.Errorf("started twice: %v", err)
		}
		for range 2 { // that it is gone is no error
			if err := k.StopDaemon(ipvs.Sends); err != nil {
				t.Fatal(err)
			}
			is(in)
		}
	})
}

func TestIPv6Daemon(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		k := w.syncing(t)
		d := ipvs.Daemon{Role: ipvs.Receives, Interface: "eth0", Group: netip.MustParseAddr("ff02::51")}
		if err := k.StartDaemon(d); err != nil {
			t.Fatal(err)
		}
		if have, err := k.Daemons(); err != nil || len(have) != 1 || !d.Same(have[0]) {
			t.Errorf("there are %+v, %v", have, err)
		}
	})
}

func TestDaemonsThatCannotStart(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		k := w.syncing(t)
		start := func(d ipvs.Daemon, want string) {
			t.Helper()
			if err := k.StartDaemon(d); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", d, err, want)
			}
		}
		start(ipvs.Daemon{Role: ipvs.Sends, Interface: ipvstest.NoInterface}, "no such device")
		start(ipvs.Daemon{Role: ipvs.Sends}, "want a name of 1 to 15 bytes")
		start(ipvs.Daemon{Role: 3, Interface: "eth0"}, "none of master and backup")
		start(ipvs.Daemon{Role: ipvs.Sends, Interface: "eth0", Group: netip.MustParseAddr("10.0.0.1")}, "10.0.0.1 is no multicast group")
		w.load(t, "-A -t 172.25.88.100:80 -s rr\n-a -t 172.25.88.100:80 -r [2001:db8::2]:80 -i -w 1\n")
		start(ipvs.Daemon{Role: ipvs.Sends, Interface: "eth0"}, ipvs.ErrMixed.Error())
	})
}

// While a daemon runs the kernel takes no real server of the other address family.
func TestNoOtherFamilyBesideADaemon(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		k := w.syncing(t)
		w.load(t, "-A -t 172.25.88.100:80 -s rr\n")
		if err := k.StartDaemon(ipvs.Daemon{Role: ipvs.Receives, Interface: "eth0"}); err != nil {
			t.Fatal(err)
		}
		op := ipvs.Op{Verb: ipvs.AddDest,
			Service: ipvs.Service{Key: ipvs.Key{Addr: netip.MustParseAddr("172.25.88.100"), Port: 80, Protocol: ipvs.TCP}, Scheduler: "rr"},
			Dest:    ipvs.Dest{DestKey: ipvs.DestKey{Addr: netip.MustParseAddr("2001:db8::2"), Port: 80}, Method: ipvs.Tunnel, Weight: 1}}
		if err := w.kernel.Do(op); !errors.Is(err, unix.EINVAL) {
			t.Errorf("refused with %v", err)
		} else if w.ipvsadm != nil && !strings.Contains(err.Error(), "while a sync daemon runs") {
			t.Errorf("the error does not say why: %v", err)
		}
		if err := k.StopDaemon(ipvs.Receives); err != nil {
			t.Fatal(err)
		}
		if err := w.kernel.Do(op); err != nil {
			t.Errorf("and without it: %v", err)
		}
	})
}

func TestTimeouts(t *testing.T) {
	eachKernel(t, func(t *testing.T, w world) {
		k := w.syncing(t)
		is := func(want ipvs.Timeouts) {
			t.Helper()
			if got, err := k.Timeouts(); err != nil || got != want {
				t.Fatalf("they are %+v, %v; want %+v", got, err, want)
			}
		}
		want := ipvs.DefaultTimeouts
		is(want)
		for _, set := range []ipvs.Timeouts{{UDP: 30 * time.Second}, {}, {TCP: time.Hour, TCPFIN: 90 * time.Second}} {
			if err := k.SetTimeouts(set); err != nil {
				t.Fatal(err)
			}
		}
		is(ipvs.Timeouts{TCP: time.Hour, TCPFIN: 90 * time.Second, UDP: 30 * time.Second})
		for _, bad := range []ipvs.Timeouts{{TCP: -time.Second}, {UDP: 1500 * time.Millisecond}, {TCPFIN: 1000 * time.Hour}} {
			if err := k.SetTimeouts(bad); err == nil {
				t.Errorf("%+v was taken", bad)
			}
		}
		if w.ipvsadm != nil {
			if got := w.ipvsadm("-l", "--timeout"); !strings.Contains(got, "3600 90 30") {
				t.Errorf("ipvsadm says %q", got)
			}
		}
	})
}

func TestDaemonAsArguments(t *testing.T) {
	for want, d := range map[string]ipvs.Daemon{
		"--start-daemon backup --mcast-interface eth0 --syncid 0": {Role: ipvs.Receives, Interface: "eth0"},
		"--start-daemon master --mcast-interface eth1 --syncid 7 --sync-maxlen 1000 --mcast-group ff02::51 --mcast-port 9000 --mcast-ttl 2": {
			Role: ipvs.Sends, Interface: "eth1", ID: 7, MaxLen: 1000, Group: netip.MustParseAddr("ff02::51"), Port: 9000, TTL: 2},
	} {
		if d.String() != want {
			t.Errorf("%q, want %q", d, want)
		}
	}
}
