// Package vrrp speaks VRRP on behalf of the owner of a virtual router: version 2
// (RFC 3768) over IPv4 and version 3 (RFC 9568, 5798) over IPv4 and IPv6, as
// keepalived practises them.
//
// Inside the cluster VRRP decides nothing: the lease does. The owner's adverts
// keep VRRP speakers outside the cluster (a keepalived that serves as BACKUP)
// quiet and tell people's tools who is MASTER. Adverts of others are parsed,
// counted and shown; obeyed are those of listed peers alone, so that a test box
// with the copied VRID 51 and password 1111 cannot take a VIP away.
//
// Toward its peers the cluster is one VRRP router. Each director runs an [Elect]
// by what it hears and stands for the lease only while that is Master: the caller
// hears of it by Config.OnBarred. VRRP can take a router from the cluster and
// never give it one. An owner whose Elect is not Master falls silent at once.
//
// The parts: [Advert] with [Advert.Marshal] and [Parse] is the wire;
// [Expect.Check] is what a keepalived configured like us would make of an
// advert; [Speaker] is the pure machine of one router; [Conn] is a raw socket on
// one interface for one family, which demands a fence.Permit for everything with a priority
// above 0; [Listener] drives them all and is what dataplane uses.
//
// Order and farewell. The owner adverts after its address is in place. When it
// gives up, the caller closes the gate and removes the address first and only
// then calls [Listener.Lost], whose priority-0 advert (a BACKUP obeys it from
// anyone, within its skew time) is bound by a rule of the lease: it may leave
// only within half a skew time of the lease's end on CLOCK_BOOTTIME, never when
// another's advert was heard since, so never after a thaw. See [Farewell].
//
// Log lines use keepalived's words ("VI_1: Entering MASTER STATE"), because
// people alert on them.
package vrrp
