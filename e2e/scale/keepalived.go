package scale

import (
	"slices"
	"syscall"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// Keepalived measures one director with keepalived, and ipvsadm -R.
func Keepalived(t lab.T, size Size, report Report) {
	s := site.New(t, 1)
	h := s.Dirs[0]
	k := tableOf(h)
	defer k.Close()
	full := func(k table) bool { ok, err := k.full(size); return ok && err == nil }
	began := time.Now()
	p := h.StartKeepalived(Conf(size, Change{}))
	report.ms("start, in its kernel", await(t, began, "keepalived starts", []table{k}, full))
	pids := h.KeepalivedPids()
	u := lab.UseOver(pids, restFor)
	report("its processes at rest: memory", u.RSS, "MB")
	report("its processes at rest: CPU", 100*u.CPU.Seconds()/restFor.Seconds(), "%")

	service, server := middle(size)
	h.WriteFile("/etc/keepalived/keepalived.conf", Conf(size, Change{Weight: 7}))
	began = time.Now()
	if err := syscall.Kill(slices.Min(pids), syscall.SIGHUP); err != nil {
		t.Fatalf("reload keepalived: %v", err)
	}
	report.ms("one weight, by SIGHUP, in its kernel", await(t, began, "keepalived reloads", []table{k}, func(k table) bool { return k.weight(service, server) == 7 }))
	if err := p.Stop(); err != nil {
		t.Fatalf("stop keepalived: %v", err)
	}
	h.MustRun("ipvsadm", "-C")
	h.WriteFile("/etc/size.rules", rules(size))
	began = time.Now()
	h.MustRun("sh", "-c", "ipvsadm -R < /etc/size.rules")
	report.ms("ipvsadm -R", time.Since(began))
	if !full(k) {
		t.Errorf("ipvsadm -R made another table")
	}
}

// rules is the table as ipvsadm -R reads it.
func rules(size Size) string {
	var all []ipvs.Service
	for i := range size.Services {
		s := ipvs.Service{Key: key(i), Scheduler: "rr"}
		for j := range size.Servers {
			s.Dests = append(s.Dests, ipvs.Dest{DestKey: ipvs.DestKey{Addr: server(j), Port: s.Port}, Method: ipvs.DirectRouting, Weight: 1})
		}
		all = append(all, s)
	}
	return ipvs.Rules(all)
}
