// Package api is how people and programs on one machine talk to its lbcluster
// daemon: HTTP and JSON over a unix socket, and a Go client for it.
//
// A [Server] serves a [Backend], which the daemon implements; the command line
// uses the [Client]. [BuildReport] turns what every director says about itself
// into conclusions for a person: who owns what, until when, why the others do
// not, and how many failures the cluster survives.
//
// Paths start with /v1. Bodies are JSON with snake_case names; times are RFC
// 3339; a field that ends in _ms is in milliseconds. An error is a [Problem]
// (after RFC 9457): a code for programs, a sentence for people, every single
// fault in one answer, and what to do next. Try it:
//
//	curl --unix-socket /run/lbcluster/lbcluster.sock http://lbcluster/v1/status
//
// openapi.json describes it all; it is generated from the routes and their types
// (go test ./cluster/api -run TestDocument -update), and docs/api.md shows how to use
// it. GET /v1/watch streams. Answers that follow from the table alone carry its
// revision as ETag, and changes take If-Match.
//
// Who may connect is the file mode of the socket: root, and the group
// "lbcluster" where there is one. Who asked is read from the kernel
// (SO_PEERCRED) and goes into the history of the table.
//
// The package knows fsm's vocabulary but not package cluster. It never decides
// anything about leases or the kernel, and keeps no state of its own.
package api
