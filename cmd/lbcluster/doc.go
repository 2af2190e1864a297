// Command lbcluster is the load balancer's one binary: the daemon (the verb
// run) and everything a person does with it.
//
// main.go is the table of contents; each verb_*.go has one group of verbs; each
// render_*.go turns an answer of the daemon into text and is pure; run.go
// builds the daemon. The verbs talk to the daemon of their own machine through
// package api's client, except check, which needs none. Every verb writes text
// for people or, with -o json, one JSON value for programs, on standard output;
// errors and prompts go to standard error with a hint what to do next, and the
// exit status says which kind of error it was (lbcluster help exit-codes).
//
// Only main calls os.Exit.
package main
