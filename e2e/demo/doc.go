// Package demo tells on a terminal what lbcluster does: a cluster is made, a
// keepalived.conf is applied, clients are served, and then things break while a
// client and a watcher count. Every claim is followed by the command or the
// measurement that shows it, and the demo fails if one does not hold.
//
// It runs inside the lab only: `make demo`.
package demo
