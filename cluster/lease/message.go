package lease

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"

	"lbcluster/fsm"
)

// Nonce is 128 random bits. One names a holder or a voter to the others (R4);
// another, new with each process, names the keys of its packets: see sealer.
type Nonce [16]byte

// NewNonce draws a nonce.
func NewNonce() Nonce {
	var n Nonce
	rand.Read(n[:]) // never fails: crypto/rand ends the program instead
	return n
}

// String is the first four bytes in hex: enough for people.
func (n Nonce) String() string { return hex.EncodeToString(n[:4]) }

// Kind is a kind of message.
type Kind uint8

// The messages, requests by candidates and holders and answers by voters.
const (
	Probe      Kind = iota + 1 // would you grant? changes nothing
	ProbeReply                 // Reason Free: yes
	Ask
	Grant
	Deny
	Release
	ReleaseAck
)

var kindNames = [...]string{"?", "probe", "probe-reply", "ask", "grant", "deny", "release", "release-ack"}

// String is the kind's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Reason says why a voter refuses.
type Reason uint8

// Reasons. Free in a ProbeReply means that the voter would grant.
const (
	Free         Reason = iota
	Embargoed           // the voter forgot what it promised and waits it out (R2)
	LongTTL             // the ttl is above the voter's TTLMax (R3)
	OldConfig           // the configuration is older than the voter's (R15)
	Taken               // the router is promised to another process (R1)
	AddressTaken        // an address is promised to another process, under another router (R18)
	TableFull           // the voter knows too many routers
	Reserved            // it was handed over to another, who gets the first chance
	NoCookie            // the Ask does not carry this voter's cookie, which is in the answer
	Unsaved             // the voter could not write its promise down (R2)
	reasons             // how many there are
)

var reasonNames = [...]string{"free", "embargo", "long ttl", "old configuration", "taken", "address taken", "table full", "reserved", "no cookie", "unsaved"}

// String is the reason's name.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// Message is one message about one router. From comes from the sealed packet's
// header, all else from its body. A candidate's or holder's identity is (From,
// Boot) of what it sends: Boot outlives the process if the next one continues
// the same identity.
type Message struct {
	Kind   Kind
	Router uint64
	From   fsm.MemberID
	Boot   Nonce
	Tag    fsm.ConfigTag // requests: the configuration whose majority counts
	// Seq is the round of an Ask, Grant, Deny, Release or ReleaseAck, and the
	// probe's number in Probe and ProbeReply.
	Seq   uint64
	TTL   int64        // Ask: ns
	Addrs []netip.Addr // Probe, Ask: what the lease is for (R18)
	// Echo is, in answers, the Boot of the request.
	Echo Nonce
	// Reason, Holder and Remaining (ns) explain a Deny or a ProbeReply that is not free.
	Reason    Reason
	Holder    fsm.MemberID
	Remaining int64
	// Cookie is, in Deny and ProbeReply, the voter's for whom it answers; an Ask
	// has to carry it. Never 0 in an answer.
	Cookie uint64
	// Hint is, in a Release, whom the router is handed over to; empty: nobody.
	Hint fsm.MemberID
}

// Out is a message and whom it is for.
type Out struct {
	To  fsm.MemberID
	Msg Message
}
