// Package fence holds what a valid lease yields: a [Permit], without which
// nothing may speak for a virtual router.
//
// cluster/lease makes a [Term] when it wins a router, extends it with each
// majority and ends it; dataplane, dataplane/vip and dataplane/vrrp demand the
// Term's Permit and check it against the clock at the moment they send. A
// Permit cannot be made any other way, so code that announces an address
// without a lease does not compile or is refused. The kernel's gate
// (dataplane/gate) enforces the same deadline when the process cannot.
//
// It imports nothing of this project, starts nothing and reads no clock but
// the one it was given.
package fence
