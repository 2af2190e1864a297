package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// Run is the demo: a guest.Entry.
func Run(_ context.Context, _ io.Reader, out io.Writer) error {
	tell := &teller{out: out, start: time.Now()}
	logf := func(format string, args ...any) { tell.say(format, args...) }
	err := lab.Main("demo", logf, func(t lab.T) {
		s := &story{teller: tell, Site: site.New(t, 3)}
		s.makeCluster()
		s.applyFile()
		s.serveClients()
		s.showTables()
		s.breakThings()
	})
	return errors.Join(err, tell.summary())
}

// story is the site with somebody who tells.
type story struct {
	*teller
	*site.Site
}

func (s *story) makeCluster() {
	s.chapter("Three directors become one load balancer")
	s.say("hosts on one segment: dir1-dir3 (172.25.88.11-13), web1 and web2 (nginx, .2 and .3,")
	s.say("the VIP %s on lo, silent about it), a client, and a watcher that only asks ARP", site.VIP)
	for _, h := range s.Dirs {
		s.Start(h)
	}
	out := s.typed(s.Dirs[0], "lbcluster", "init", "--guard", "0s")
	token := regexp.MustCompile(`lbc1-[A-Za-z0-9_-]+`).FindString(out)
	for _, h := range s.Dirs[1:] {
		s.typed(h, "lbcluster", "join", s.Dirs[0].Addr.String(), "--token", token)
	}
	s.say("members are made voters one at a time, so that no two majorities can miss each other")
	s.AwaitVoters(3)
	out = s.typed(s.Dirs[2], "lbcluster", "member", "list")
	s.expect(strings.Count(out, "director") == 3, "three directors are enrolled and vote")
}

func (s *story) applyFile() {
	s.chapter("An existing keepalived.conf is applied as it is")
	s.typed(s.Dirs[0], "lbcluster", "apply", "-f", site.Example, "--yes")
	owner := s.AwaitOwner()
	s.AwaitTables(bothServers)
	s.expect(true, "%s owns %s, and every director has both real servers", owner.Name, site.VIP)
}

func bothServers(rules string) bool { return strings.Count(rules, "-a ") == 2 }

// frameSender finds the source MAC in a line of tcpdump -e.
var frameSender = regexp.MustCompile(` ((?:[0-9a-f]{2}:){5}[0-9a-f]{2}) > `)

func (s *story) serveClients() {
	s.chapter("Ten requests through the VIP")
	owner := s.AwaitOwner()
	atOwner := s.Capture(owner, "owner", "tcp and host "+site.VIP)
	atClient := s.Capture(s.Client, "client", "tcp and src host "+site.VIP)
	got := map[string]int{}
	var order []string
	for range 10 {
		who, err := s.Client.Curl(context.Background(), "http://"+site.VIP+"/")
		if err != nil {
			who = err.Error()
		}
		got[who]++
		order = append(order, who)
	}
	fmt.Fprintf(s.out, "         client# for i in $(seq 10); do curl -s http://%s/; done\n", site.VIP)
	s.show(strings.Join(order, " "))
	s.expect(got["web1"] == 5 && got["web2"] == 5, "round robin: %d answers by web1, %d by web2", got["web1"], got["web2"])

	s.showPath(owner, atOwner(), atClient())
}

// showPath shows from captures at the owner and the client that replies go
// straight from the real servers to the client.
func (s *story) showPath(owner *lab.Host, atOwner, atClient string) {
	requests, replies := 0, 0
	for line := range strings.Lines(atOwner) {
		switch {
		case strings.Contains(line, site.VIP+".80 >"):
			replies++
		case strings.Contains(line, "> "+site.VIP+".80:"):
			requests++
		}
	}
	senders := map[string]bool{}
	for line := range strings.Lines(atClient) {
		if m := frameSender.FindStringSubmatch(line); m != nil {
			senders[m[1]] = true
		}
	}
	want := []string{s.Web1.MAC.String(), s.Web2.MAC.String()}
	slices.Sort(want)
	s.expect(requests > 0 && replies == 0, "direct routing: the client's packets crossed %s (%d frames), the replies did not (%d)", owner.Name, requests, replies)
	s.expect(slices.Equal(slices.Sorted(maps.Keys(senders)), want), "the client got its replies from the MACs of web1 and web2: %s", strings.Join(slices.Sorted(maps.Keys(senders)), ", "))
}

func (s *story) showTables() {
	s.chapter("The same IPVS table on every director")
	s.typed(s.Dirs[0], "ipvsadm", "-Ln")
	rules := s.Rules(s.Dirs[0])
	same := true
	for _, h := range s.Dirs[1:] {
		same = same && s.Rules(h) == rules
	}
	s.expect(same, "ipvsadm -Sn prints the same on dir1, dir2 and dir3")
	s.typed(s.Dirs[1], "lbcluster", "status")
}
