package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

var (
	soakFor   = flag.Duration("soak.for", 0, "draw random faults for this long")
	soakSeed  = flag.Uint64("soak.seed", 0, "the seed they are drawn with (0: from the clock)")
	soakSteps = flag.String("soak.steps", "", "do these steps instead")
)

// hold is how long a fault lasts: longer than a lease and an election.
const hold = 3 * time.Second

// holdFor are faults that last longer: a disk that stalls is noticed by a time
// limit on its writes, not by an election; loss needs time to hit what matters.
var holdFor = map[string]time.Duration{"disk": 10 * time.Second, "loss": time.Minute, "lossy": time.Minute}

// fixedSchedule is what every run of the tests does.
const fixedSchedule = "flap owner; power owner; oneway dir1 dir2; bad owner; disk owner"

// A fixed schedule of faults, judged as TestSoak's random ones are.
func TestChaos(t *testing.T) {
	lab.Need(t)
	if *soakFor > 0 || *soakSteps != "" {
		t.Skip("the soak has its own schedule")
	}
	steps, err := parseSteps(fixedSchedule)
	if err != nil {
		t.Fatal(err)
	}
	c := newChaos(t)
	for _, s := range steps {
		c.do(t, s)
	}
}

// TestSoak draws faults for as long as asked. What it did can be given back
// with -soak.steps.
func TestSoak(t *testing.T) {
	lab.Need(t)
	if *soakFor == 0 && *soakSteps == "" {
		t.Skip("not asked for: see make soak")
	}
	steps, err := parseSteps(*soakSteps)
	if err != nil {
		t.Fatal(err)
	}
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	rnd, given := rand.New(rand.NewPCG(seed, 0)), len(steps) > 0
	t.Logf("seed %d", seed)
	c := newChaos(t)
	var done []step
	defer func() { t.Logf("seed %d, %d steps: %s", seed, len(done), write(done)) }()
	for start := time.Now(); !t.Failed(); {
		if given && len(done) == len(steps) || !given && time.Since(start) > *soakFor {
			return
		}
		if !given {
			steps = append(steps, draw(rnd, 1)...)
		}
		s := steps[len(done)]
		done = append(done, s)
		c.do(t, s)
	}
}

// chaos is a cluster under faults, with disks of its own to stall.
type chaos struct {
	*eyes
	disks map[*lab.Host]*lab.Disk
	// Writes count up, so the value found must lie between the last that was
	// acknowledged and the last that was tried.
	tried, acked int
	count        int // of acknowledged writes
	steps        int
}

func newChaos(t *testing.T) *chaos {
	s := site.New(t, 3)
	c := &chaos{disks: map[*lab.Host]*lab.Disk{}}
	for _, h := range s.Dirs {
		c.disks[h] = h.OwnDisk(48)
	}
	s.Form()
	s.Serve()
	c.eyes = open(s)
	return c
}

// do breaks one thing, mends it, and judges.
func (c *chaos) do(t *testing.T, s step) {
	t.Helper()
	c.steps++
	var hosts []*lab.Host
	for _, name := range s.hosts {
		hosts = append(hosts, c.host(name))
	}
	stop := c.Capture(nil, fmt.Sprintf("forwarded-%d", c.steps), c.forwards())
	before := c.AwaitOwner()
	from, tried, acked := probe.Now(), c.tried, c.count
	mend := faultsOf[s.fault](c, hosts)
	for end := time.Now().Add(max(hold, holdFor[s.fault])); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		c.write(c.bystander(hosts))
	}
	mend()
	healed := probe.Now()
	if s.fault == "loss" || s.fault == "lossy" {
		c.wantStayed(t, before, from, healed)
	}
	// Two of three directors always reach each other, so writes go on. In a short
	// fault the election may take all the time there is.
	if c.count == acked && holdFor[s.fault] > 0 {
		t.Errorf("%v: of %d writes in %v none was acknowledged", s, c.tried-tried, holdFor[s.fault])
	}
	c.AwaitCalm()
	owner := c.AwaitOwner()
	to := pause(time.Second)
	sum := probe.Summarise(c.http.Records(), from, to)
	t.Logf("%d %v (%s): owned by %s, dark for %v, %d of %d writes acknowledged, well %v after mending, machine late by %v", c.steps, s, called(hosts), owner.Name,
		sum.Outage.Length().Round(time.Millisecond), c.count-acked, c.tried-tried, to.Sub(healed).Round(time.Millisecond), c.worst(from, to))
	c.judge(t, stop())
}

func (c *chaos) host(name string) *lab.Host {
	if name == "owner" {
		return c.AwaitOwner()
	}
	n, _ := strconv.Atoi(strings.TrimPrefix(name, "dir"))
	return c.Dirs[n-1]
}

// bystander is a director that no fault was done to.
func (c *chaos) bystander(broken []*lab.Host) *lab.Host {
	for _, h := range c.Dirs {
		if !strings.Contains(called(broken), h.Name) {
			return h
		}
	}
	return c.Dirs[0]
}

func called(hosts []*lab.Host) string {
	var s []string
	for _, h := range hosts {
		s = append(s, h.Name)
	}
	return strings.Join(s, ",")
}

func (c *chaos) write(h *lab.Host) {
	c.tried++
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := h.Run(ctx, "lbcluster", "server", "weight", "172.25.88.3:80", strconv.Itoa(c.tried)); err == nil {
		c.acked = c.tried
		c.count++
	}
}

// forwards matches the frames that directors send on to the real servers.
func (e *eyes) forwards() string {
	var from []string
	for _, h := range e.Dirs {
		from = append(from, "ether src "+h.MAC.String())
	}
	return "(" + strings.Join(from, " or ") + ") and dst host " + site.VIP + " and tcp dst port 80"
}

var weightOfWeb2 = regexp.MustCompile(`-r 172\.25\.88\.3:80 -g -w (\d+)\n`)

// judge fails the test if two directors had the VIP, or forwarded for it, at a
// time, if tables differ, or if a write that was acknowledged is gone.
func (c *chaos) judge(t *testing.T, frames string) {
	t.Helper()
	c.wantNoOverlap(t)
	wantOneForwarder(t, frames)
	rules := c.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
	m := weightOfWeb2.FindStringSubmatch(rules)
	if m == nil {
		t.Fatalf("no weight of web2 in\n%s", rules)
	}
	if w, _ := strconv.Atoi(m[1]); w < c.acked || w > c.tried {
		t.Errorf("the kernel has weight %d; %d was acknowledged, %d tried", w, c.acked, c.tried)
	}
}

// wantOneForwarder fails the test if two directors forwarded at a time.
func wantOneForwarder(t *testing.T, frames string) {
	t.Helper()
	moved := forwarded(frames)
	if len(moved) == 0 {
		t.Error("no frame was seen on its way to a real server: then this judges nothing")
	}
	if s := probe.Overlaps(moved, probe.Window); len(s) > 0 {
		t.Errorf("BROKEN: two directors forwarded in %v", s)
	}
}

// judged watches from now on who forwards and who answers; the function returned
// fails the test if two ever did at a time, or if tables differ in the end.
func (e *eyes) judged(t *testing.T) (end func()) {
	t.Helper()
	stop, from := e.Capture(nil, "forwarded", e.forwards()), probe.Now()
	return func() {
		t.Helper()
		late, together := e.late(from, probe.Now())
		t.Logf("the machine was late by %v at worst, by %v in a second", late, together)
		wantOneForwarder(t, stop())
		e.wantNoOverlap(t)
		e.AwaitCalm() // all have applied the same revision
		e.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
	}
}

// forwarded reads what tcpdump -e -n -tttt prints, as answers of an owner: one
// judge serves both.
func forwarded(frames string) []probe.ARP {
	var recs []probe.ARP
	var last time.Time
	var stepped time.Duration // the wall clock, so far: see the fault "clock"
	for _, line := range strings.Split(frames, "\n") {
		w := strings.Fields(line)
		if len(w) < 3 {
			continue
		}
		at, err := time.Parse("2006-01-02 15:04:05.000000", w[0]+" "+w[1])
		var mac probe.MAC
		n, err2 := fmt.Sscanf(w[2], "%02x:%02x:%02x:%02x:%02x:%02x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5])
		if err != nil || err2 != nil || n != 6 {
			continue
		}
		if d := at.Sub(last); len(recs) > 0 && d.Abs() > 30*time.Minute {
			stepped += d
		}
		last, at = at, at.Add(-stepped)
		recs = append(recs, probe.ARP{At: probe.Time(at.UnixNano()), Kind: probe.Answered, Op: 2, MAC: mac, Seq: uint32(len(recs) + 1)})
	}
	return recs
}

// The judge sees two directors that forward by turns, and no fault in a change.
func TestForwardersAreJudged(t *testing.T) {
	line := func(ms int, mac string) string {
		return fmt.Sprintf("2026-01-02 10:00:00.%03d000 02:00:00:00:00:%s > 02:00:00:00:00:99, ethertype IPv4\n", ms, mac)
	}
	clean := "reading from file\n" + line(1, "0a") + line(9, "0a") + line(20, "0b") + line(30, "0b")
	if r := forwarded(clean); len(r) != 4 || len(probe.Overlaps(r, probe.Window)) != 0 {
		t.Errorf("a clean change: %v", r)
	}
	if s := probe.Overlaps(forwarded(clean+line(35, "0a")), probe.Window); len(s) != 1 {
		t.Errorf("the old owner forwarded after the new one, and nobody saw: %v", s)
	}
	// A wall clock that jumps back between the two is no fault, and hides none.
	jump := strings.NewReplacer(" 10:", " 09:")
	if r := forwarded(clean + jump.Replace(line(40, "0b")+line(50, "0b"))); len(r) != 6 || len(probe.Overlaps(r, probe.Window)) != 0 {
		t.Errorf("a clean change and a jump: %v", r)
	}
	if s := probe.Overlaps(forwarded(clean+jump.Replace(line(35, "0b")+line(36, "0a"))), probe.Window); len(s) != 1 {
		t.Errorf("a jump hid that the old owner forwarded: %v", s)
	}
}
