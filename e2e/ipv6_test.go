package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

const vip6 = "2001:db8::100"

const conf6 = `
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    virtual_ipaddress {
        172.25.88.100
    }
}
vrrp_instance VI_6 {
    interface eth0
    version 3
    virtual_router_id 51
    priority 100
    advert_int 1
    virtual_ipaddress {
        2001:db8::100
    }
}
vrrp_sync_group VG_1 {
    group {
        VI_1
        VI_6
    }
}
virtual_server 2001:db8::100 80 {
    delay_loop 1
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 2001:db8::2 80 {
        weight 1
        TCP_CHECK {
            connect_timeout 1
            retry 0
        }
    }
    real_server 2001:db8::3 80 {
        weight 1
        TCP_CHECK {
            connect_timeout 1
            retry 0
        }
    }
}
`

// peer6 is a keepalived beside the cluster that would like to have the IPv6 VIP.
const peer6 = `
global_defs {
    vrrp_version 3
}
vrrp_instance VI_6 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 50
    advert_int 1
    virtual_ipaddress {
        2001:db8::100
    }
}
`

// dual makes the site's network one of both families.
func dual(s *site.Site, peer *lab.Host) {
	for h, n := range map[*lab.Host]int{s.Dirs[0]: 11, s.Dirs[1]: 12, s.Dirs[2]: 13, s.Client: 200, s.Web1: 2, s.Web2: 3, peer: 30} {
		h.Sysctl("net.ipv6.conf."+lab.Interface+".accept_dad", "0")
		h.Sysctl("net.ipv6.conf."+lab.Interface+".disable_ipv6", "0")
		h.AddAddress(lab.Interface, fmt.Sprintf("2001:db8::%d/64", n))
	}
	for _, web := range []*lab.Host{s.Web1, s.Web2} {
		web.AddAddress("lo", vip6+"/128")
	}
}

// wantServed6 makes ten connections to the IPv6 virtual server.
func wantServed6(t *testing.T, s *site.Site, when string) {
	t.Helper()
	argv := []string{"curl", "-gsS", "--max-time", "3", "-H", "Connection: close"}
	for range 10 {
		argv = append(argv, "http://["+vip6+"]/")
	}
	out, err := s.Client.Run(context.Background(), argv...)
	if err != nil || strings.Count(out, "web1") != 5 || strings.Count(out, "web2") != 5 {
		t.Errorf("%s: ten connections were answered by %q (%v), want five by each", when, strings.Fields(out), err)
	}
}

// answers6 connects from the client to a port where nobody listens: whoever has
// the VIP refuses at once, and a dark VIP says nothing. It returns the hardware
// address that the client has for the VIP afterwards.
func answers6(s *site.Site) (mac string, err error) {
	err = s.Client.Do(func() error {
		c, err := net.DialTimeout("tcp6", net.JoinHostPort(vip6, "9"), 500*time.Millisecond)
		if err == nil {
			c.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		return fmt.Errorf("connecting to the VIP: %v, want it refused", err)
	})
	out, _ := s.Client.Run(context.Background(), "ip", "-6", "neigh", "show", vip6)
	if f := strings.Fields(out); err == nil && len(f) > 4 {
		mac = f[4]
	}
	return mac, err
}

// An IPv4 and an IPv6 router in a sync group move together, and of the
// directors that have the IPv6 VIP on an interface only the owner answers.
func TestASyncGroupOfBothFamilies(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	peer := s.AddHost("peer", "172.25.88.30/24")
	dual(s, peer)
	s.Form()
	s.Dirs[0].WriteFile("/etc/six.conf", conf6)
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/six.conf", "--yes")
	macs := map[string]*lab.Host{}
	for _, h := range s.Dirs {
		macs[strings.TrimSpace(h.MustRun("cat", "/sys/class/net/"+lab.Interface+"/address"))] = h
	}
	served := func(by *lab.Host, patience time.Duration) {
		t.Helper()
		s.Eventually(patience, by.Name+" answers at both VIPs", func() error {
			mac, err := answers6(s)
			if err != nil {
				return err
			}
			if macs[mac] != by {
				return fmt.Errorf("the client sends to %s", mac)
			}
			if !by.HasAddress(vip6) || !by.HasAddress(site.VIP) {
				return fmt.Errorf("%s has not both addresses", by.Name)
			}
			return nil
		})
	}
	owner := s.AwaitOwner()
	served(owner, 10*time.Second)
	s.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a -t [2001:db8::100]:80 ") == 2 })
	wantServed6(t, s, "at first")
	k := peer.StartKeepalived(peer6)
	s.Eventually(10*time.Second, "the peer is BACKUP", func() error {
		if !strings.Contains(k.Output(), "Entering BACKUP STATE") {
			return errors.New(k.Output())
		}
		return nil
	})
	if show := owner.MustRun("ip", "-6", "addr", "show", "dev", lab.Interface); !strings.Contains(show, vip6+"/128") || strings.Contains(show, "tentative") {
		t.Errorf("the owner's addresses:\n%s", show)
	}

	// Somebody deletes it: back at once.
	owner.MustRun("ip", "-6", "addr", "del", vip6+"/128", "dev", lab.Interface)
	served(owner, 2*time.Second)

	// The owner freezes with both addresses on: another one answers, and it alone.
	adverts := s.Capture(nil, "adverts", "ip6 proto 112")
	if err := s.Daemons[owner].Freeze(); err != nil {
		t.Fatal(err)
	}
	next := s.AwaitSuccessor(owner)
	served(next, 5*time.Second)
	if !owner.HasAddress(vip6) {
		t.Error("the frozen owner lost its address: then this test shows nothing")
	}
	wantServed6(t, s, "after the move")
	s.Client.MustRun("ip", "-6", "neigh", "flush", "dev", lab.Interface)
	time.Sleep(1500 * time.Millisecond)
	served(next, 2*time.Second)
	if err := s.Daemons[owner].Thaw(); err != nil {
		t.Fatal(err)
	}
	s.Eventually(10*time.Second, "the old owner takes both addresses off", func() error {
		if owner.HasAddress(vip6) || owner.HasAddress(site.VIP) {
			return errors.New("one is still on")
		}
		return nil
	})
	served(next, 2*time.Second)
	time.Sleep(4 * time.Second) // longer than the peer waits for an advert that it accepts
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	_, out, _ := strings.Cut(k.Output(), "Startup complete") // before, it finds fault with the file
	for _, bad := range []string{"MASTER STATE", "checksum", "invalid", "mismatch", "expected"} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(bad)) {
			t.Errorf("the peer's log has %q:\n%s", bad, out)
		}
	}
	if out := adverts(); !strings.Contains(out, "ff02::12: ") || !strings.Contains(out, "vrid 51") {
		t.Errorf("no VRRP over IPv6 was seen:\n%s", out)
	}
}
