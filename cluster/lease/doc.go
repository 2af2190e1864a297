// Package lease decides which member may speak for a virtual router now.
//
// Raft says what the routers are and who stands for them in which order. This
// package says who holds each at this moment: a lease among the Raft voters
// that needs no leader, no disk and no wall clock. The daemon runs one
// [Driver] a member. [Voter] grants and [Holder] wants; both are pure machines
// over (now, event), and the simulator in the tests drives these very machines
// through any order of messages, crashes, freezes and clock rates.
//
// It never adds an address, never announces one and never asks Raft. What it
// gives out is a [fence.Permit] and a deadline in the kernel's gate.
//
// # The rules, and why each is there
//
// In code and tests they go by these names. Identity is (member, boot nonce)
// throughout: H and bootH of a holder.
//
// R1 (Voter.refuse, Voter.ask). A voter refuses an Ask while it is embargoed,
// while the ttl is above TTLMax, while the configuration is below its floor
// (R15), and while an unexpired promise to another identity stands: also to
// the same member with another nonce, whose predecessor's gate may be open. A
// round that is not later than the last one seen of this identity changes
// nothing; if it is the very round that the promise is for, the Grant is sent
// again, which is no more than a duplicate on the wire, so that a lost Grant
// does not cost the round. The clock is read after the message was taken from
// the queue, and expiry is a comparison of clocks, never a timer.
//
// R2 (recall, embargoAt, keepSeats). A voter that forgot its promises grants
// nothing for TTLMax+G. It need not forget: each promise is written to a file in
// memory (Config.StateFile) before its Grant leaves, under the kernel's boot_id;
// what cannot be written is not granted. With a file of this boot there is no
// embargo but the rest of one that was running. After a reboot it runs from the
// kernel's start, if Config.LastBootID says that the last start was in another
// boot: only then can no file of this boot have been lost. A boot_id that is
// mounted over the kernel's, as containers have it, proves no reboot. A file that does not
// check, or none in the boot of the last start, is amnesia. A process that cannot
// use the file removes it, or grants nothing: what is in it must not speak of a
// time that it does not know. An identity that never voted has promised nothing
// and is exempt: Config.FreshIdentity, which the caller consumes durably. A data
// folder must not be carried to another machine within TTLMax+G of its last use:
// that looks like a reboot.
//
// R3 (Voter.promise). A promise to the same identity only grows: until =
// max(until, now+ttl+G). A matching Release alone shortens it, or a lease in
// use would lose its voters by a renewal with a shorter ttl. TTLMax is one for
// all profiles, since members change their profile one by one; it must not
// shrink while promises of a larger one may live: a member that restarts with
// a smaller one would end its embargo too early.
// Before its process is replaced (Driver.Stretch) a holder asks for TTLMax, so
// that its promises outlast the replacement.
//
// R4 (Holder.next, Holder.receive, stateFile.reserve). An identity is a nonce,
// each of its rounds has a number, and the pair is never used twice. An answer
// counts only if it echoes both of what is out now, and votes are a set of
// voters: late, repeated and old Grants are nothing. A process that finds the
// state file continues the identity in it, above the numbers that were reserved
// there before they were used; any other draws a new one.
//
// R5 (Voter.release). A Release clears a promise of exactly that identity and
// of no later round. The round is remembered, so that its Ask, arriving after
// its Release, plants nothing. That memory is bounded; losing it costs time,
// not safety.
//
// R6 (Holder.startRound, failRound). t0 is read before the Ask is handed out.
// A round ends by majority, timeout or Release, and is dead then, first of
// all. A tenure begins with a short ttl (four rounds) that a whole renewal
// follows at once, so that a lost first round blocks nobody for long.
//
// R7 (Holder.win, keeper). The gate's deadline is t0+ttl(1-eps), absolute. One
// goroutine writes it; it never moves back but to 0; and a write decided
// before a close is void after it, by the number of its round.
//
// R8 (Holder.giveUp, leave, release, resume). The way out is always: gate written to 0
// and read back -> owner told -> its addresses removed (20 ms at most, 1 ms at
// least, for packets in flight) -> Release. A candidate whose round failed
// closes too, though it never opened. The first thing that happens to an
// address is that its gate is closed: a predecessor may have left it open. If
// the gate cannot be read back there is no Release; the promises run out.
// A process that continues an identity goes on as the holder of what its
// predecessor's gate still lets pass (Config.Inherited), until that deadline
// unless it renews; everything else that the predecessor asked for is closed,
// read back and released. ErrKeep ends a process for such a successor: gate and
// promises stay. [ReleaseDead] is for the unit's stop job: it releases in a dead
// process's identity, once its caller has closed the gate and read it back.
//
// R10 (Clocks). The holder's clock is the gate's, CLOCK_BOOTTIME; the voter's
// is CLOCK_MONOTONIC_RAW, which nobody slews. Params.Validate keeps eps above
// what the holder's clock may be slewed by: promises outlast leases. The two
// rates of one machine are compared each second (rateMonitor): above eps/2 more
// is kept back from then on, and beyond what that covers nothing is held.
//
// R11 (Params.Guard). A paused virtual machine keeps its gate open for as long
// as it was paused. Voters promise for ttl+G, so that a pause up to G does no
// harm; each failover takes G longer. A member that lowers G lowers what it
// tolerates from then on; if it also forgets what it promised, its embargo is the
// shorter one, which covers every lease but not a pause between the two.
//
// R12 (loop). The lease's goroutine touches no disk and waits for nobody: its
// log lines go through a buffer that drops, its sends do not wait, it has a
// thread of its own with raised priority. Fitness comes from outside (SetFit):
// a member that cannot use a lease does not renew it. A driver starts unfit. What
// was adopted is spared for five seconds, or until nothing speaks against it for
// the first time (spared, confirm): while a process starts its parts have not
// looked yet, and the predecessor could use it a moment ago.
//
// R13 (Holder.failRound, expire). A holder whose renewals fail holds on until
// its deadline and then leaves as in R8. Nobody takes a lease from it by
// asking.
//
// R14 (joint, quorum). It takes a majority of the latest configuration known to
// be committed and of every later one in the holder's log, all frozen when the
// Ask is sent. The appended alone may be on a branch that dies, and two such may
// have disjoint majorities. The committed alone is safe too, but voters that have
// appended the next one refuse it (R15), so that a lease would hang on how soon
// the commit is heard of; the joint one carries the latest tag.
//
// R15 (Voter.SetFloor). A voter answers no configuration older than the latest
// appended to its log, committed or not: a removed member that does not know
// it is removed finds no majority.
//
// R16 (Params.Spacing) is the leader's: one voter a change, and the next one
// only when every promise made before has run out. The tests show what happens
// otherwise.
//
// R18 (Voter.claimed, Holder.target, narrow). An Ask names its addresses. A
// voter refuses one while another identity's unexpired promise names it, on
// any router, each address until its own end. The gate opens only what the
// round named. An address that a router loses is closed at once; one that it
// gains is closed first, then asked for together with the rest, and a refusal
// of the new is followed by a round for the old alone. Within one member, an
// address is named by one tenure at a time.
//
// # Cookies
//
// A voter draws a random cookie for each process that asks and tells it in
// every Deny and ProbeReply; an Ask that does not carry it changes nothing
// (cookies, Voter.refuse). So an Ask recorded before the voter forgot, or of an
// old process, plants no promise. A candidate knows the cookies beforehand: it
// greets the voters once a second with a Probe about no router (greet). A voter
// that started anew costs one round trip within the round, not the round.
//
// # Planned handover
//
// (yieldNow, passOn, offered.) With Router.Yield the holder of a router goes the
// way out of R8 once the other member's standing says ready and its own tenure
// has lasted five ttls, so that nothing goes to and fro by itself; what an
// operator orders (Yield.AtOnce) does not wait for that. The Release names the
// next one. Voters keep the router for it for two rounds and deny others, which
// is for availability alone and is forgotten by a restart. The next one hears
// the Release too, voter or not, and asks at once, without probe and stagger;
// a refusal then only means that the voter's copy is late, so it asks again
// until the round is over. If it does not take it, whoever stands does after
// the reserve.
//
// A holder that gives up by itself, because its process ends or it became unfit,
// names the first of Router.Next that says it is ready in the same way (heirs).
//
// # Force
//
// (Driver.Force, quorum.absent.) When a majority of the voters is gone for good,
// an operator may name those that are dead, for one router and a time. All other
// voters must grant then, not a majority. Why two gates do not open: a lease of
// others needs a majority of the voters, each of which is named or not. Those not
// named promise to one at a time, and the forced holder needs all of them; so the
// other lease would rest on the named alone. What those promised before is over
// when the first forced round starts, TTLMax+G after the word (force.from); what
// they promise after it they promise only if they live, and that is the
// operator's word. If he errs, the first authentic packet of one of them ends the
// force and closes the gate before anything else (alive). He who errs about a
// member that lives but cannot be heard has two owners: hence it has an end, is
// shown in Status, and does not outlive the process.
//
// # Standing
//
// A candidate of rank k waits k staggers after its own voter's promise ends,
// then probes, which changes nothing, and asks only if a majority would grant.
// A refused probe sleeps until the first known promise ends and k staggers
// more; a failed round or an unanswered probe pauses at random between half a
// round and two. So candidates that started together part, and nobody asks
// against a live lease.
//
// # The wire
//
// Sealed packets, AES-256-GCM, one key for each direction and process of the
// sender, derived from the cluster's lease key and a nonce that no other process
// ever uses; a window of counters refuses replays. The identity that speaks is
// another nonce, in the body, and may outlive the process. All routers' messages
// for one member share a packet. Whatever does not open, or is not for this
// member, is dropped and counted.
//
// A packet goes every way there is: as a datagram from the main address to the
// main address, and in each further network that two members share, and through
// Config.Relay, the members' TLS connection. It has one counter, so that the copy
// that comes first counts and the others do not; but each copy shows that its way
// is alive. No way waits for another, and none is chosen. While two members hear
// each other by datagrams, what would be repeated within the same round anyway
// (the first Ask, the first Grant), and every second unchanged standing, is
// spared the TLS connection: the repetition goes every way.
//
// Once a renew period, and when something changed, each member tells each other
// one what units it could hold at once, how well, and which addresses of members
// it hears ([Standing]). It decides nothing here, but for what a planned handover
// waits: that the next holder is ready. Package handover reads the rest.
//
// # What people learn
//
// Config.Journal gets what is worth a record: tenures, lost rounds, refusals,
// closings, ways that die or come back, clocks. [Driver.Status] says how much of
// the deadline was left at each renewal: a cluster that is close to losing shows
// there first.
package lease
