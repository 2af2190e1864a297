package bench

import "time"

// event is something that happens, and what is counted of it.
type event struct {
	name, title string
	note        string        // on how it is measured, for the reader of the table
	pace        time.Duration // of the client; 0: nobody asks
	patience    time.Duration // of the client; 0: a second
	counted     []quantity
	targets     map[quantity]limit // of lbcluster, in every profile
	fast        map[quantity]limit // where the fast profile's are others
	trials      map[system]int
	// try makes it happen: it calls begin, breaks something, waits, calls end,
	// and mends what it broke.
	try func(*attempt)
}

// target is what a system should reach, if there is something.
func (e *event) target(s system, q quantity) (limit, bool) {
	if !s.ours() || s.compared() && !q.invariant() {
		return 0, false
	}
	if l, ok := e.fast[q]; ok && s.fast() {
		return l, true
	}
	l, ok := e.targets[q]
	return l, ok
}

// missed says whether the trial missed a target of the system.
func (e *event) missed(s system, t trial) bool {
	for _, q := range e.counted {
		if l, ok := e.target(s, q); ok && t.counts(q) && !l.met(t.values[q]) {
			return true
		}
	}
	return false
}

// pace is how often the client asks where an event says nothing else.
const pace = 10 * time.Millisecond

// events are the rows of the table, in its order.
var events = append(ownerEvents, heldEvents...)

// ownerEvents are about the owner and its clients.
var ownerEvents = []event{
	{
		name: "cut", title: "The owner's link dies: its cable is pulled",
		pace: pace, counted: []quantity{outage, twoMAC},
		targets: map[quantity]limit{outage: 900, twoMAC: 0}, fast: map[quantity]limit{outage: 300},
		trials: map[system]int{lbcDefault: 10, lbcFast: 10, ka2: 3, ka3: 4, ka3fast: 4},
		try:    cut,
	},
	{
		name: "fenced", title: "The owner's daemon is killed (kill -9); its unit's ExecStopPost runs",
		note: "keepalived's unit has none; what the end of its process leaves is below",
		pace: pace, counted: []quantity{outage, twoMAC}, targets: map[quantity]limit{outage: 100, twoMAC: 0},
		trials: map[system]int{lbcDefault: 3, lbcFast: 2},
		try:    killFenced,
	},
	{
		name: "killed", title: "The owner's daemon is killed (kill -9), and nothing runs after it",
		note: "watched for 5 s, and then cleaned up by hand where the VIP stays in the dead one's kernel",
		pace: pace, counted: []quantity{outage, twoMAC}, targets: map[quantity]limit{outage: 200, twoMAC: 0},
		trials: map[system]int{lbcDefault: 2, lbcFast: 1, ka2: 1, ka3: 1},
		try:    kill,
	},
	{
		name: "frozen", title: "The owner's daemon is frozen (SIGSTOP) for 10 s, then goes on",
		pace: pace, counted: []quantity{outage, twoMAC}, targets: map[quantity]limit{outage: 200, twoMAC: 0},
		trials: map[system]int{lbcDefault: 2, lbcFast: 2, ka2: 1, ka3: 1, ka3fast: 1},
		try:    freeze,
	},
	{
		name: "vrrp", title: "VRRP, and only VRRP, is lost between the directors for 20 s",
		pace: pace, counted: []quantity{outage, failed, reset, twoMAC},
		targets: map[quantity]limit{outage: 100, failed: 0, reset: 0, twoMAC: 0},
		trials:  map[system]int{lbcDefault: 1, ka2: 1, ka3: 1},
		try:     loseVRRP,
	},
	{
		name: "reattach", title: "An owner whose switch port was silently dead comes back",
		note: "from the moment it is back; its carrier was there all the time",
		pace: pace, counted: []quantity{outage, twoMAC}, targets: map[quantity]limit{twoMAC: 0},
		trials: map[system]int{lbcDefault: 2, lbcFast: 1, ka2: 1, ka3: 2},
		try:    reattach,
	},
	{
		name: "move", title: "Planned handover under 200 new connections a second",
		note: "lbcluster router move; keepalived has no such order: its master is stopped (SIGTERM); the client waits for 2 s",
		pace: 5 * time.Millisecond, patience: 2 * time.Second, counted: []quantity{outage, failed, reset, twoMAC},
		targets: map[quantity]limit{outage: 50, failed: 0, twoMAC: 0},
		trials:  map[system]int{lbcDefault: 5, lbcFast: 3, ka2: 1, ka3: 2},
		try:     move,
	},
	{
		name: "leader", title: "Raft's leader, not the owner, is killed (kill -9)",
		pace: pace, counted: []quantity{outage, failed, reset, twoMAC},
		targets: map[quantity]limit{outage: 100, failed: 0, reset: 0, twoMAC: 0},
		trials:  map[system]int{lbcDisks: 2},
		try:     killLeader,
	},
	{
		name: "disk", title: "The disk of Raft's leader hangs for 10 s",
		pace: pace, counted: []quantity{outage, failed, reset, twoMAC},
		targets: map[quantity]limit{outage: 100, failed: 0, reset: 0, twoMAC: 0},
		trials:  map[system]int{lbcDisks: 2},
		try:     stallLeader,
	},
	{
		name: "rest", title: "At rest with 64 virtual routers",
		note:    "lbcluster spreads them over three directors; keepalived's master has them all; see the busiest and all together",
		counted: []quantity{served, sent, heard, pktAll, cpu, cpuAll, rss},
		trials:  map[system]int{lbcRest: 3, lbcRestFast: 3, ka2Rest: 3, ka3Rest: 3},
		try:     rest,
	},
}
