// Package checks probes the real servers from this director and votes on them.
//
// A check is one probe of one address; a target is a real server with its
// checks, all of which must pass. The [Runner] probes every target of the table
// once, however many virtual servers use it, and keeps an opinion of each:
//
//   - [Judge] decides from one result to the next: it goes down after retry
//     failures more than the first, up after one success, and believes the very
//     first result, good or bad. Those are keepalived's rules, and so are the
//     pauses between probes.
//   - A target that comes and goes is held down, longer each time ([Flaps]), where the
//     cluster's settings say so.
//   - A failure during which this process stood still (frozen, paused with its
//     machine, starved) is no result: the probe is repeated at once.
//   - An opinion is proposed to the cluster only while the table disagrees with
//     it: when it changes, after a proposal that failed, and after the table
//     lost it. What the cluster makes of the votes is package fsm's business.
//
// What a probe of each kind does is keepalived's, to the byte where servers could tell
// the difference; [Dial] chooses. Each of its steps ends within the check's timeout,
// whatever the other side does, and no more than a bounded part of an answer is read.
// TCP checks, which most are, are made together on one goroutine (connector), each at
// most 40 ms later than by itself; a connection that was accepted and then reset passes.
// A check that hangs delays no other; targets come and go without disturbing
// those that stay. A witness checks nothing, and a member that is not present
// yet checks but does not vote.
//
// Called by: cmd/lbcluster, which runs one Runner and hands it each table.
//
// It never touches the kernel's IPVS table, never decides whether a server is
// used, and knows neither Raft nor the network between members: proposing is a
// function that it is given.
package checks
