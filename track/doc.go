// Package track watches what virtual routers depend on beside their own
// interface: interfaces, scripts, files and processes (keepalived's
// track_interface, track_script, track_file and track_process). For each unit it
// says whether this director is at FAULT for it, and how it scores.
//
// [Runner] is run by the daemon of a director. A FAULT makes the director unfit
// for the unit at once; a score is compared with the other directors', and a
// better one is handed the unit (package cluster/handover). What a condition
// means for a unit is decided by pure functions, as keepalived does:
//
//   - weight 0: a failure is a FAULT;
//   - a positive weight counts while the tracker is well, a negative one while
//     it fails; reverse turns the sign round, or with weight 0 what is a failure;
//   - a file's number is multiplied by the weight; below -253, or anything but 0
//     with weight 0, is a FAULT;
//   - a script has to fail "fall" times in a row to fail and to succeed "rise"
//     times to be well again; its first result counts at once. Until then a
//     script without weight is a FAULT: nobody takes a VIP before he knows
//     whether he can serve it.
//
// Equal trackers of several routers are watched once. A watcher that hangs delays
// no other. It never touches a lease, an address or the table.
package track
