// Package ipvs reads and writes the kernel's IPVS table in lbcluster's own
// types.
//
// A [Handle] lists the table as [Service] values with their [Dest]s and carries
// out one [Op] at a time; an Op prints as the ipvsadm arguments that would do
// the same, so that logs and status speak the operator's language. It speaks the
// kernel's generic netlink itself, because the libraries that do lack what it
// needs (persistence engines when reading, destinations of the other address
// family), with one caller at a time, a socket that is opened when first needed
// and again after a failure, and errors that say what to do ([ErrModule],
// [ErrPermission], [ErrScheduler]).
//
// It also lists, starts and stops the kernel's connection synchronisation daemons
// ([Daemon]), and sets the timeouts of connections.
//
// Called by: package dataplane, which decides the operations, and status.
//
// It never decides what the table should hold, never flushes, and knows nothing
// of fsm. Tunnels are plain IP in IP.
//
// Traps of the kernel that shape it: even reads need CAP_NET_ADMIN; a
// destination is refused with EINVAL until lo was up once in the network
// namespace; there is no transaction; listing takes one request and one more
// for each service; a scheduler is a module that loads when first used; no sync
// daemon starts while a tunnel leads to the other address family ([ErrMixed]).
package ipvs
