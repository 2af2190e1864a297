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
`

// dual makes the site's network one of both families.
func dual(s *site.Site) {
	for i, h := range append(s.Dirs, s.Client) {
		h.Sysctl("net.ipv6.conf."+lab.Interface+".accept_dad", "0")
		h.Sysctl("net.ipv6.conf."+lab.Interface+".disable_ipv6", "0")
		h.AddAddress(lab.Interface, fmt.Sprintf("2001:db8::%d/64", 11+i))
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
	dual(s)
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
	if out := adverts(); !strings.Contains(out, "ff02::12: ") || !strings.Contains(out, "vrid 51") {
		t.Errorf("no VRRP over IPv6 was seen:\n%s", out)
	}
}
