package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// systemctl stands in for systemd, which is not in the guest: it notes what it is
// asked for, and does to the director's daemon what the unit says.
const systemctl = `#!/bin/sh
echo "$*" >>/run/systemctl.log
pid=$(cat /run/director.pid)
case "$*" in
"is-active --quiet lbcluster.service") kill -0 $pid ;;
"reload lbcluster.service") kill -HUP $pid ;;
"disable --now lbcluster.service")
	kill -TERM $pid
	while [ -d /proc/$pid ] && ! grep -q '^State:.Z' /proc/$pid/status; do sleep 0.1; done
	lbcluster fence
	;;
esac
`

// The Debian package on the director that owns the VIP: installed, upgraded while
// clients are served, removed, purged. dpkg and the maintainer scripts are real,
// systemctl is the one above.
func TestDebianPackage(t *testing.T) {
	lab.Need(t)
	debs, _ := filepath.Glob("/src/dist/lbcluster_*_amd64.deb")
	if len(debs) != 1 {
		t.Fatalf("the packages here are %v, not one: run make packages first", debs)
	}
	e := open(site.Up(t, 3))
	owner := e.AwaitOwner()
	sh := func(script string) string { t.Helper(); return owner.MustRun("sh", "-ec", script) }
	// All hosts share one /usr; what dpkg does must be this host's alone.
	sh("mkdir /run/sbin /run/dpkg /run/dpkg/info /run/dpkg/updates /run/systemd /run/systemd/system && cp -a /usr/sbin/. /run/sbin && mount --bind /run/sbin /usr/sbin && : >/run/dpkg/status && : >/run/dpkg/available")
	owner.WriteFile("/usr/sbin/systemctl", systemctl)
	owner.WriteFile("/run/director.pid", fmt.Sprint(e.Daemons[owner].Pid()))
	sh("chmod +x /usr/sbin/systemctl")
	dpkg := "dpkg --admindir=/run/dpkg --force-bad-path --force-unsafe-io --log=/dev/null "
	asked := func() string {
		out := sh("cat /run/systemctl.log; : >/run/systemctl.log")
		return strings.Join(strings.Split(strings.TrimSpace(out), "\n"), "; ")
	}

	t.Logf("%s", sh(dpkg+"-i "+debs[0]+" 2>&1"))
	if got := asked(); got != "daemon-reload; enable --now lbcluster.service" {
		t.Errorf("installing asks systemd for: %s", got)
	}
	installed := strings.TrimSpace(sh("dpkg-deb -f " + debs[0] + " Version"))
	sh("mkdir /run/next && dpkg-deb -R " + debs[0] + " /run/next && sed -i 's/^Version: .*/Version: 99-1/' /run/next/DEBIAN/control && dpkg-deb -Znone -b /run/next /run/next.deb >/dev/null && rm -r /run/next")

	from := probe.Now()
	d := e.Daemons[owner]
	t.Logf("%s", sh(dpkg+"-i /run/next.deb 2>&1"))
	if got := asked(); got != "daemon-reload; is-active --quiet lbcluster.service; reload lbcluster.service; try-restart lbcluster-realserver.service" {
		t.Errorf("upgrading asks systemd for: %s", got)
	}
	e.await("the upgraded daemon runs", 15*time.Second, func() bool { return strings.Count(d.Output(), "lbcluster is running") == 2 })
	e.wantUndisturbed(t, owner, from, pause(3*time.Second))
	e.AwaitCalm()
	e.wantOwnerAlone(t, owner)
	version, _, _ := strings.Cut(installed, "-")
	if out := sh("lbcluster version"); strings.Count(out, version) != 2 {
		t.Errorf("%s is installed; program and daemon are\n%s", version, out)
	}

	// rpm runs the same scripts and says how many versions there are.
	sh("for n in 1 2; do sh /run/dpkg/info/lbcluster.postinst $n; done; sh /run/dpkg/info/lbcluster.prerm 1; sh /run/dpkg/info/lbcluster.postrm 1")
	if got := asked(); got != "daemon-reload; daemon-reload; is-active --quiet lbcluster.service; reload lbcluster.service; try-restart lbcluster-realserver.service" {
		t.Errorf("as rpm would, systemd is asked for: %s", got)
	}
	e.await("the daemon runs again", 15*time.Second, func() bool { return strings.Count(d.Output(), "lbcluster is running") == 3 })
	e.AwaitCalm()

	from = probe.Now()
	out := sh(dpkg + "-r lbcluster 2>&1")
	t.Logf("%s", out)
	next := e.AwaitSuccessor(owner)
	e.wantHandover(t, next, from, pause(2*time.Second))
	if got := asked(); !strings.HasPrefix(got, "disable --now lbcluster.service; disable --now lbcluster-realserver.service") {
		t.Errorf("removing asks systemd for: %s", got)
	}
	if owner.HasAddress(site.VIP) {
		t.Error("the VIP is still there")
	}
	left := sh("ipvsadm -Sn; ls -A /sys/fs/bpf; ls /usr/sbin/lbcluster /usr/lib/systemd/system/lbcluster* 2>/dev/null || true")
	if strings.TrimSpace(left) != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if out := sh("ls /var/lib/lbcluster/identity.json /etc/lbcluster/lbcluster.yaml"); strings.Count(out, "\n") != 2 {
		t.Errorf("a removal is no purge: %s", out)
	}
	sh(dpkg + "-P lbcluster 2>&1")
	if left := sh("ls -A /var/lib/lbcluster; ls /etc/lbcluster 2>/dev/null || true"); strings.TrimSpace(left) != "" {
		t.Errorf("left after the purge:\n%s", left)
	}
	e.wantNoOverlap(t)
}
