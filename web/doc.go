// Package web is the page that shows a cluster in a browser.
//
// [Handler] serves it: one HTML file, its script and its style, embedded as they are
// written. The page asks nothing but GET /v1/watch of the server it came from, a
// stream of reports (see package cluster/api), draws them anew as they come, and
// can change nothing. It loads nothing from elsewhere, and the policy it is sent
// with forbids that. All that comes from the cluster is put in as text.
//
// Called by: cmd/lbcluster, on the daemon's socket and, where an operator wants it,
// over TLS.
//
// It never decides who may look: whoever mounts the handler does.
package web
