package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// trackConf is deploy/vip-for-nginx.conf with everything that can be tracked:
// WEB depends on the program, and prefers a director that is better by its
// weights; LEFT and RIGHT move together.
const trackConf = `
vrrp_track_process nginx {
    process nginx
    weight 0
}
vrrp_script answers {
    script "/usr/bin/curl -fso /dev/null http://127.0.0.1/"
    interval 1
    timeout 5
    fall 2
    rise 2
    weight -10
}
track_file level {
    file /etc/level
    weight 1
}
track_file left {
    file /etc/left
    weight 0
}
vrrp_sync_group PAIR {
    group {
        LEFT
        RIGHT
    }
    notify "/etc/tell pair"
}
vrrp_instance WEB {
    interface eth0
    virtual_router_id 61
    priority 100
    advert_int 1
    virtual_ipaddress {
        172.25.88.100
    }
    track_process {
        nginx
    }
    track_script {
        answers
    }
    track_file {
        level
    }
    track_interface {
        eth1 weight -20
    }
    notify_master "/etc/tell own master"
    notify_backup "/etc/tell own backup"
    notify_fault "/etc/tell own fault"
    notify "/etc/tell any"
}
vrrp_instance LEFT {
    interface eth0
    virtual_router_id 62
    priority 90
    advert_int 1
    virtual_ipaddress {
        172.25.88.101
    }
    track_file {
        left
    }
    notify "/etc/tell left"
}
vrrp_instance RIGHT {
    interface eth0
    virtual_router_id 63
    priority 80
    advert_int 1
    virtual_ipaddress {
        172.25.88.102
    }
    notify "/etc/tell right"
}
`

// tracked is a site whose directors themselves serve what the VIP is for.
type tracked struct {
	*eyes
	nginx map[*lab.Host]*lab.Proc
}

func TestTracking(t *testing.T) {
	lab.Need(t)
	w := newTracked(t)
	t.Run("the program dies on the owner", func(t *testing.T) { w.programDies(t) })
	t.Run("one with a higher score gets it, once", func(t *testing.T) { w.fitterGetsIt(t) })
	t.Run("a second interface goes down", func(t *testing.T) { w.interfaceDies(t) })
	t.Run("the owner's daemon is reloaded", func(t *testing.T) { w.reloads(t) })
	t.Run("a group goes as a whole", func(t *testing.T) { w.groupMoves(t) })
	w.wantNoOverlap(t)
}

func newTracked(t *testing.T) *tracked {
	t.Helper()
	s := site.New(t, 3)
	w := &tracked{nginx: map[*lab.Host]*lab.Proc{}}
	for i, h := range s.Dirs {
		h.AddNIC(fmt.Sprintf("10.88.0.%d/24", 11+i))
		h.ServeName()
		if err := h.Nginx().Stop(); err != nil {
			t.Fatal(err)
		}
		h.WriteFile("/etc/tell", "#!/bin/sh\necho \"$@\" >> /run/told\n")
		h.MustRun("chmod", "755", "/etc/tell")
		s.Started(h, h.StartDirectorApart("--addr", h.Addr.String()))
		w.nginx[h] = startNginx(s, h)
	}
	s.FoundRobust()
	s.Dirs[0].WriteFile("/etc/track.conf", trackConf)
	out := s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/track.conf", "--yes")
	t.Log(out)
	w.eyes = &eyes{Site: s}
	w.await("owners", func(rs map[string]site.Router) bool { return rs["WEB"].Owner != "" && rs["LEFT"].Owner != "" })
	w.eyes = &eyes{Site: s, http: s.ProbeHTTPFor(s.Client, site.Target, 20*time.Millisecond, patience), arp: s.ProbeARP(s.Watcher, site.VIP, 20*time.Millisecond), limit: 6 * time.Second}
	w.awaitRest()
	return w
}

// awaitRest waits until the scripts of one director were last told that it is
// WEB's master, those of the others that they are not, and nothing new came for
// a while: who is fit is found in the first seconds.
func (w *tracked) awaitRest() {
	w.T.Helper()
	var last string
	since := time.Now()
	w.eyes.await("every director has been told what it is", 30*time.Second, func() bool {
		masters, backups, all := 0, 0, ""
		for _, h := range w.Dirs {
			told := w.told(h, "")
			all += fmt.Sprint(told)
			switch own := w.told(h, "own"); {
			case len(own) == 0:
			case own[len(own)-1] == "own master":
				masters++
			case own[len(own)-1] == "own backup":
				backups++
			}
		}
		if all != last {
			last, since = all, time.Now()
		}
		return masters == 1 && backups == len(w.Dirs)-1 && time.Since(since) > 2*time.Second
	})
}

func startNginx(s *site.Site, h *lab.Host) *lab.Proc {
	p := s.Daemons[h].Beside("nginx", "nginx", "-c", "/etc/nginx.conf", "-e", "stderr")
	s.Eventually(10*time.Second, "nginx serves on "+h.Name, func() error {
		_, err := h.Curl(s.T.(*testing.T).Context(), "http://127.0.0.1/")
		return err
	})
	return p
}

func (w *tracked) await(what string, wanted func(map[string]site.Router) bool) map[string]site.Router {
	w.T.Helper()
	return w.AwaitRouters(w.Dirs[0], 20*time.Second, what, wanted)
}

// owner is a router's owner.
func (w *tracked) owner(name string) *lab.Host {
	w.T.Helper()
	rs := w.await(name+" has an owner", func(rs map[string]site.Router) bool { return rs[name].Owner != "" })
	return w.Named(rs[name].Owner)
}

// told are the lines that a director's notify scripts wrote and that begin so.
func (w *tracked) told(h *lab.Host, first string) []string {
	text, _ := h.ReadFile("/run/told")
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(text), "\n"), func(l string) bool { return !strings.HasPrefix(l, first) })
}

// awaitTold waits until exactly these lines were written since there were so many.
func (w *tracked) awaitTold(t *testing.T, h *lab.Host, first string, before int, want ...string) {
	t.Helper()
	var got []string
	for range 100 {
		if got = w.told(h, first)[before:]; len(got) >= len(want) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s told %q, want %q; all:\n%s", h.Name, got, want, strings.Join(w.told(h, ""), "\n"))
	}
}

func (w *tracked) programDies(t *testing.T) {
	old := w.owner("WEB")
	before := map[*lab.Host]int{}
	for _, h := range w.Dirs {
		own, every := w.told(h, "own"), w.told(h, "any")
		if len(own) == 0 || len(every) != len(own) {
			t.Errorf("%s told at the start %q and %q", h.Name, own, every)
		}
		before[h] = len(every)
	}
	from := probe.Now()
	_ = w.nginx[old].SignalAll(syscall.SIGKILL)
	rs := w.await("another director owns WEB", func(rs map[string]site.Router) bool {
		return rs["WEB"].Owner != "" && rs["WEB"].Owner != old.Name
	})
	next := w.Named(rs["WEB"].Owner)
	w.wantHandover(t, next, from, pause(3*time.Second))
	w.awaitTold(t, old, "any", before[old], "any INSTANCE WEB FAULT 100")
	w.awaitTold(t, old, "own", before[old], "own fault")
	w.awaitTold(t, next, "any", before[next], "any INSTANCE WEB MASTER 100")
	w.awaitTold(t, next, "own", before[next], "own master")
	if all := w.told(next, ""); !slices.ContainsFunc(all, func(l string) bool { return l == "own master" }) ||
		slices.Index(all, "own master") > slices.Index(all, "any INSTANCE WEB MASTER 100") {
		t.Errorf("%s: the state's own script comes first: %q", next.Name, all)
	}
	list, _ := w.Command(next, "status")
	if !strings.Contains(list, "not fit: process nginx: ") {
		t.Errorf("status does not say what %s lacks:\n%s", old.Name, list)
	}
	w.wantCause(t, next, from, old.Name+" became unfit to hold it: process nginx")
	back := probe.Now()
	w.nginx[old] = startNginx(w.Site, old)
	w.awaitTold(t, old, "own", before[old], "own fault", "own backup") // its priority comes back when the script has succeeded twice
	w.wantUndisturbed(t, next, back, pause(7*time.Second))             // all alike: nobody moves
}

// wantCause fails the test unless why names the cause of the last move. A machine
// that stood still causes moves of its own.
func (w *tracked) wantCause(t *testing.T, asked *lab.Host, from probe.Time, cause string) {
	t.Helper()
	why, _ := w.Command(asked, "why", "WEB")
	if strings.Contains(why, cause) {
		return
	}
	late, report := w.worst(from, probe.Now()), t.Errorf
	if late > calm {
		report = t.Logf
	}
	report("why does not say %q; the machine was late by %v:\n%s", cause, late, why)
}

func (w *tracked) fitterGetsIt(t *testing.T) {
	old := w.owner("WEB")
	from := probe.Now()
	old.WriteFile("/etc/level", "-5\n")
	rs := w.await("a director with a higher score owns WEB", func(rs map[string]site.Router) bool {
		return rs["WEB"].Owner != "" && rs["WEB"].Owner != old.Name
	})
	next := w.Named(rs["WEB"].Owner)
	w.wantPlanned(t, next, from, pause(settled))
	w.wantCause(t, next, from, " was fitter than "+old.Name+" ("+old.Name+" has the score -5")
	back := probe.Now()
	old.WriteFile("/etc/level", "0\n")
	w.wantUndisturbed(t, next, back, pause(8*time.Second)) // as good as the owner is not better
}

// wantPlanned fails the test unless next took over and no request failed but those
// under way, or where the machine stood still.
func (w *tracked) wantPlanned(t *testing.T, next *lab.Host, from, to probe.Time) {
	t.Helper()
	w.wantHandover(t, next, from, to)
	sum := probe.Summarise(w.http.Records(), from, to)
	if late, under := w.worst(from, to), w.caught(next, from, to); sum.Failed > under && late < stood {
		t.Errorf("%d requests failed during a planned handover, %d of them under way when it began: %v", sum.Failed, under, sum.ByResult)
	}
}

// caught counts the requests that began before the VIP moved and failed once it
// had: what the old owner's own server had accepted, the new owner's does not know.
func (w *tracked) caught(next *lab.Host, from, to probe.Time) (n int) {
	moved := w.took(next, from)
	for _, r := range w.http.Records() {
		if r.Result != probe.OK && r.Start >= from && r.Start <= moved && r.End >= moved.Add(-calm) && r.End <= to {
			n++
		}
	}
	return n
}

func (w *tracked) interfaceDies(t *testing.T) {
	old := w.owner("WEB")
	from := probe.Now()
	old.MustRun("ip", "link", "set", lab.SecondInterface, "down")
	rs := w.await("a director with all its interfaces owns WEB", func(rs map[string]site.Router) bool {
		return rs["WEB"].Owner != "" && rs["WEB"].Owner != old.Name
	})
	w.wantPlanned(t, w.Named(rs["WEB"].Owner), from, pause(settled))
	old.MustRun("ip", "link", "set", lab.SecondInterface, "up")
}

// The owner stays the owner: its scripts must not hear of another state, least
// of all of one in which they would stop the program.
func (w *tracked) reloads(t *testing.T) {
	w.awaitRest()
	owner := w.owner("WEB")
	before := len(w.told(owner, "any"))
	from := probe.Now()
	if err := w.Daemons[owner].Reload(); err != nil {
		t.Fatal(err)
	}
	to := pause(4 * time.Second)
	if log := w.Daemons[owner].Output(); strings.Contains(log, "the process before this one ended") {
		t.Logf("not adopted: this machine took longer to start the daemon than a lease lasts; it said:\n%s", lastLines(log, 30))
		return // that nobody else had it meanwhile is judged at the end
	}
	w.wantUndisturbed(t, owner, from, to)
	for _, l := range w.told(owner, "any")[before:] {
		if l != "any INSTANCE WEB MASTER 100" {
			t.Errorf("reloaded, %s told %q", owner.Name, l)
		}
	}
}

func (w *tracked) groupMoves(t *testing.T) {
	w.awaitRest()
	old := w.owner("LEFT")
	if other := w.owner("RIGHT"); other != old {
		t.Fatalf("LEFT is at %s, RIGHT at %s", old.Name, other.Name)
	}
	web := w.owner("WEB")
	before := map[*lab.Host]int{}
	for _, h := range w.Dirs {
		before[h] = len(w.told(h, "pair"))
	}
	old.WriteFile("/etc/left", "1\n")
	rs := w.await("LEFT and RIGHT moved", func(rs map[string]site.Router) bool {
		return rs["LEFT"].Owner != "" && rs["LEFT"].Owner != old.Name && rs["LEFT"].Owner == rs["RIGHT"].Owner
	})
	next := w.Named(rs["LEFT"].Owner)
	w.awaitTold(t, old, "pair", before[old], "pair GROUP PAIR FAULT 0")
	w.awaitTold(t, next, "pair", before[next], "pair GROUP PAIR MASTER 0")
	for first, want := range map[string]string{"left": "left INSTANCE LEFT MASTER 90", "right": "right INSTANCE RIGHT MASTER 80"} {
		w.eyes.await(next.Name+" tells at last: "+want, 5*time.Second, func() bool {
			told := w.told(next, first)
			return len(told) > 0 && told[len(told)-1] == want
		})
	}
	for _, vip := range []string{"172.25.88.101", "172.25.88.102"} {
		if old.HasAddress(vip) || !next.HasAddress(vip) {
			t.Errorf("%s is on %s: %v, on %s: %v", vip, old.Name, old.HasAddress(vip), next.Name, next.HasAddress(vip))
		}
	}
	if now := w.owner("WEB"); now != web {
		t.Errorf("WEB moved from %s to %s with a group that it is not in", web.Name, now.Name)
	}
	old.WriteFile("/etc/left", "0\n")
}
