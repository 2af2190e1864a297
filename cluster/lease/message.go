package lease

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"

	"lbcluster/fsm"
)

// Nonce names one start of one process (R4): 128 random bits.
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
	reasons             // how many there are
)

var reasonNames = [...]string{"free", "embargo", "long ttl", "old configuration", "taken", "address taken", "table full"}

// String is the reason's name.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// Message is one message about one router. From and Boot come from the sealed
// packet's header; a candidate's or holder's identity is (From, Boot) of what
// it sends, never a field of its own.
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
}

// Out is a message and whom it is for.
type Out struct {
	To  fsm.MemberID
	Msg Message
}
