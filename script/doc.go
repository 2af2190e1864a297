// Package script runs operators' programs: those that track something, those that
// check a real server and those that are told of a change.
//
// A command is split into words as keepalived does it (man keepalived.conf(5),
// "Quoted strings") and executed without a shell, in a process group of its
// own, as the user it names. When its time is over the whole group is killed,
// so that a child that a script left in the background does not outlive it. Its
// output goes nowhere: what a script wants to tell, it tells by its status.
//
// Called by: track, checks and notify. It decides nothing and never retries.
package script
