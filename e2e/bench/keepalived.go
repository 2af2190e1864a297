package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// pairConf is the example's configuration for the first director, with another
// version and pace of VRRP.
func pairConf(version, advert string) (string, error) {
	b, err := os.ReadFile(site.Example)
	if err != nil {
		return "", err
	}
	conf := strings.NewReplacer("router_id LVS_DEVEL", "router_id LVS_DEVEL\n    "+version,
		"advert_int 1\n", "advert_int "+advert+"\n").Replace(string(b))
	if version != "vrrp_version 2" { // version 3 has no authentication
		conf = regexp.MustCompile(`(?s)    authentication \{.*?\}\n`).ReplaceAllString(conf, "")
	}
	return conf, nil
}

// asBackup is what people do by hand for the second director.
func asBackup(conf string) string {
	return strings.NewReplacer("state MASTER", "state BACKUP", "priority 100", "priority 50").Replace(conf)
}

// keepalived is a pair that serves. The first director has the higher priority
// and takes the VIP back whenever it can, so it owns the VIP when all is calm.
func keepalived(t lab.T, version, advert string) *contestant {
	conf, err := pairConf(version, advert)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return keepalivedWith(t, conf)
}

// keepalivedWith is a pair with that configuration on the first director.
func keepalivedWith(t lab.T, conf string) *contestant {
	s := site.New(t, 2)
	confs := map[*lab.Host]string{s.Dirs[0]: conf, s.Dirs[1]: asBackup(conf)}
	procs := map[*lab.Host]*lab.Proc{}
	for _, h := range s.Dirs {
		procs[h] = h.StartKeepalived(confs[h])
	}
	c := &contestant{
		site:   s,
		freeze: func(h *lab.Host) error { return signalKeepalived(h, syscall.SIGSTOP) },
		thaw:   func(h *lab.Host) error { return signalKeepalived(h, syscall.SIGCONT) },
		kill:   killKeepalived,
		pids:   (*lab.Host).KeepalivedPids,
		hand:   func(h *lab.Host) error { return procs[h].Stop() },
		back:   func(h *lab.Host) { procs[h] = h.StartKeepalived(confs[h]) },
	}
	c.stop, c.start = c.hand, c.back
	c.weigh = func(how string) error { return weighKeepalived(procs, confs, how) }
	c.revive = func(h *lab.Host) { // a machine that was cleaned up by hand
		_, _ = h.Run(context.Background(), "ip", "addr", "del", site.VIP+"/32", "dev", lab.Interface)
		h.MustRun("ipvsadm", "-C")
		c.back(h)
	}
	c.calm = func() *lab.Host {
		s.Eventually(40*time.Second, "keepalived's first director, and no other, has the VIP", func() error {
			a, b := s.Dirs[0].HasAddress(site.VIP), s.Dirs[1].HasAddress(site.VIP)
			if !a || b {
				return fmt.Errorf("on dir1: %v, on dir2: %v", a, b)
			}
			if n := strings.Count(s.Rules(s.Dirs[0])+s.Rules(s.Dirs[1]), "-a "); n != 4 {
				return fmt.Errorf("%d real servers in both tables", n)
			}
			return nil
		})
		time.Sleep(time.Second)
		return s.Dirs[0]
	}
	return c
}

// signalKeepalived reaches all its processes.
func signalKeepalived(h *lab.Host, sig syscall.Signal) error {
	pids := h.KeepalivedPids()
	if len(pids) == 0 {
		return errors.New("no keepalived runs on " + h.Name)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil {
			return err
		}
	}
	return nil
}

// killKeepalived kills all its processes at once. A child that sees its parent
// die removes the VIP, and a stopped one is woken by the kernel when its parent
// goes: so all are stopped, and the children killed first.
func killKeepalived(h *lab.Host) error {
	if err := signalKeepalived(h, syscall.SIGSTOP); err != nil {
		return err
	}
	pids := h.KeepalivedPids()
	slices.Sort(pids)
	for _, pid := range slices.Backward(pids) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}
