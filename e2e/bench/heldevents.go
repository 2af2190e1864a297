package bench

import (
	"fmt"
	"strings"
	"time"

	"lbcluster/e2e/hold"
	"lbcluster/e2e/site"
)

// The connections that a client holds while one of these events happens.
const (
	heldMany   = 500
	heldPace   = 5 * time.Millisecond // between two that are opened
	heldAge    = 4 * time.Second      // of the youngest of them
	youngMany  = 100
	youngAge   = 500 * time.Millisecond // of the oldest of them, at most
	youngTries = 5
)

// rollPause is how long a director that was restarted is left alone: it knows the
// connections after 13 s, and asking again and again takes time that the machine
// does not have to spare.
const rollPause = 15 * time.Second

// frozenFor is how long held-freeze lasts, drainedFor how long held-drain does.
const (
	frozenFor  = 10 * time.Second
	drainedFor = 4 * time.Second
)

// heldCounted is counted in each of these events.
var heldCounted = []quantity{heldBroken, youngBroken, failed, reset, twoMAC}

// The targets of lbcluster in the recommended setting: of what is planned, or
// mends itself at once, no client is to notice anything; of the rest no client
// that has a connection.
var (
	heldTargets    = map[quantity]limit{heldBroken: 0, twoMAC: 0}
	plannedTargets = map[quantity]limit{heldBroken: 0, failed: 0, twoMAC: 0}
)

// heldTrials: every setting gets what tells them apart, those that people have
// get all.
var (
	heldEverywhere = map[system]int{lbcHeld: 2, lbcRRSync: 1, lbcMH: 1, lbcRR: 1, kaHeld: 1}
	heldOnlyBest   = map[system]int{lbcHeld: 2, kaHeld: 1}
)

// heldEvents are events of which is counted what they do to connections that are
// held open, beside 200 new ones a second.
var heldEvents = []event{
	heldEvent("held-move", "The VIP is moved as an operator would",
		"lbcluster router move; keepalived has no such order: its master is stopped (SIGTERM)",
		plannedTargets, heldEverywhere, heldMove),
	heldEvent("held-roll", "All directors' daemons are stopped and started, one after the other",
		"the next one when all is calm again",
		plannedTargets, heldOnlyBest, heldRoll),
	heldEvent("held-kill", "The owner's daemon is killed (kill -9) and started again at once",
		"all of keepalived's processes are; nothing runs in between",
		plannedTargets, heldOnlyBest, heldKill),
	heldEvent("held-cut", "The owner's link dies: its cable is pulled", "",
		heldTargets, heldEverywhere, heldCut),
	heldEvent("held-freeze", "The owner's daemon is frozen (SIGSTOP) for 10 s, then goes on",
		"all of keepalived's processes are",
		heldTargets, heldEverywhere, heldFreeze),
	heldEvent("held-drain", "A real server is drained for 4 s, then enabled again",
		"lbcluster server drain; keepalived: its weight is set to 0 in the file, which is reloaded",
		plannedTargets, heldOnlyBest, heldDrain),
}

// heldEvent is an event that happens to held connections. do makes it happen and
// returns what mends it, if something has to.
func heldEvent(name, title, note string, targets map[quantity]limit, trials map[system]int, do func(*attempt) (mend func())) event {
	return event{
		name: name, title: title, note: note,
		pace: 5 * time.Millisecond, patience: 2 * time.Second,
		counted: heldCounted, targets: targets, trials: trials,
		try: func(a *attempt) { holding(a, do) },
	}
}

// holding opens the connections, lets the event happen, and counts who is left
// when each of them has shown whether it goes on.
func holding(a *attempt, do func(*attempt) (mend func())) {
	a.what = "connections are opened"
	c, err := hold.New(a.site.Client.Do, site.Target)
	a.must(err)
	defer c.Close()
	a.must(c.Open("held", heldMany, heldPace))
	time.Sleep(heldAge)
	if n := lost(c, "held"); n > 0 {
		a.must(fmt.Errorf("broken before anything happened: %s", c.Text()))
	}
	took := a.openYoung(c)
	mend := do(a)
	c.Settle()
	time.Sleep(time.Second) // until the last new connection was answered or given up
	a.end()
	a.values = map[quantity]float64{heldBroken: lost(c, "held"), youngBroken: lost(c, "young")}
	a.site.T.Logf("    %s; the young ones were opened in %v", c.Text(), took)
	if mend != nil {
		mend()
	}
}

// openYoung opens the young connections, again where the machine took so long that
// the first would not be young, and says how long it took.
func (a *attempt) openYoung(c *hold.Connections) time.Duration {
	for range youngTries {
		begun := time.Now()
		a.must(c.Open("young", youngMany, 0))
		if took := time.Since(begun).Round(time.Millisecond); took <= youngAge {
			return took
		}
		c.Drop("young")
		time.Sleep(time.Second)
	}
	a.must(fmt.Errorf("%d young connections are not opened within %v, in none of %d tries", youngMany, youngAge, youngTries))
	return 0
}

// lost is how many of a group were broken.
func lost(c *hold.Connections, group string) float64 {
	left, of := c.Left(group)
	return float64(of - left)
}

func heldMove(a *attempt) func() {
	a.begin("the VIP is to leave " + a.owner.Name)
	a.must(a.hand(a.owner))
	a.awaitSuccessor()
	return func() { a.back(a.owner) }
}

func heldRoll(a *attempt) func() {
	a.begin("the daemons are restarted, one after the other")
	for _, h := range a.site.Dirs {
		a.must(a.stop(h))
		a.start(h)
		time.Sleep(rollPause)
		a.calm()
	}
	return nil
}

func heldKill(a *attempt) func() {
	a.begin("the daemon of " + a.owner.Name + " is killed and started")
	a.must(a.contestant.kill(a.owner))
	a.start(a.owner)
	a.until(watched / 2)
	return nil
}

func heldCut(a *attempt) func() {
	a.begin("the cable of " + a.owner.Name + " is pulled")
	a.owner.CutLink()
	a.awaitSuccessor()
	return a.owner.RestoreLink
}

func heldFreeze(a *attempt) func() {
	a.begin("the daemon of " + a.owner.Name + " is frozen")
	a.must(a.contestant.freeze(a.owner))
	a.until(frozenFor)
	a.must(a.thaw(a.owner))
	time.Sleep(afterward)
	return nil
}

func heldDrain(a *attempt) func() {
	a.begin("a real server is drained")
	a.must(a.weigh("drain"))
	time.Sleep(drainedFor)
	if rules := a.site.Rules(a.owner); !strings.Contains(rules, "-w 0") {
		a.must(fmt.Errorf("no weight is 0 after %v:\n%s", drainedFor, rules))
	}
	a.must(a.weigh("enable"))
	time.Sleep(afterward)
	return nil
}
