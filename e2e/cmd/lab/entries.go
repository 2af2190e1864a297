package main

import (
	"lbcluster/e2e/bench"
	"lbcluster/e2e/demo"
	"lbcluster/e2e/lab/guest"
)

// entries are what "lab NAME" runs inside the guest.
var entries = map[string]guest.Entry{
	"bench": bench.Run,
	"demo":  demo.Run,
	"shell": demo.Shell,
}

// interactive entries get the terminal itself: keys go to the guest one by one.
// The others only print, and Ctrl-C stops the whole guest.
var interactive = map[string]bool{"shell": true}
