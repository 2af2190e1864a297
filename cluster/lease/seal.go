package lease

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"lbcluster/fsm"
)

// The packet: a header in clear, authenticated, then the sealed body.
//
//	kind       1 byte: what the body is, see below
//	cluster    8 bytes: start of SHA-256 of the cluster's id, to tell a stranger from a wrong key
//	sender     1 byte length, id
//	receiver   1 byte length, id
//	boot      16 bytes: the sending process's nonce, never that of an earlier one
//	counter    8 bytes, big endian: never used twice with this boot and receiver
//	body       AES-256-GCM, 16 bytes longer than the plain text
const (
	// Kinds of packets. A change of what a kind's body looks like is a new kind:
	// who does not know it drops the packet and counts it.
	packetStanding = 2 // what the sender says of itself: see appendStanding
	packetMessages = 3 // messages of the lease: see appendBody

	wireVersion = 1 // of the key derivation
	keySize     = 32
	tagSize     = 16
	minKey      = 16 // bytes of a lease key
)

// Reasons to drop a packet, as counted in Status.
var (
	errVersion  = errors.New("version")  // not a lease packet, or of a kind that is not known here
	errCluster  = errors.New("cluster")  // of another cluster
	errReceiver = errors.New("receiver") // for another member
	errSender   = errors.New("sender")   // of nobody in the configuration
	errKey      = errors.New("key")      // does not open: wrong key, or changed on its way
	errReplay   = errors.New("replay")   // seen before, or too old to tell
	errBody     = errors.New("body")     // opens, but is no list of messages
)

// sealer seals and opens the packets of one member. Each direction of each
// pair has a key of its own, derived from the cluster's, and a fresh one with
// each start of the sender, so a counter from 0 never repeats a nonce. That is
// why boot is drawn anew by each process, also by one that continues the
// holder's identity of the one before it (which is in the body). Not safe for
// concurrent use.
type sealer struct {
	self    fsm.MemberID
	boot    Nonce
	key     []byte
	cluster string
	hash    [8]byte
	out     map[fsm.MemberID]*outgoing
	in      map[fsm.MemberID][]*incoming
}

type outgoing struct {
	aead    cipher.AEAD
	counter uint64
}

// incoming is one start of one sender. The last maxBoots of a sender are kept;
// a replay of an older one is caught by the rules of the lease themselves.
type incoming struct {
	boot   Nonce
	aead   cipher.AEAD
	window window
}

const maxBoots = 4

func newSealer(self fsm.MemberID, boot Nonce, cluster string, key []byte) (*sealer, error) {
	if len(key) < minKey {
		return nil, fmt.Errorf("lease key: %d bytes, at least %d wanted", len(key), minKey)
	}
	if len(self) == 0 || len(self) > maxID {
		return nil, fmt.Errorf("member id %q: 1 to %d bytes wanted", self, maxID)
	}
	return &sealer{
		self: self, boot: boot, key: key, cluster: cluster, hash: clusterHash(cluster),
		out: map[fsm.MemberID]*outgoing{}, in: map[fsm.MemberID][]*incoming{},
	}, nil
}

// aead derives the key of one direction and one start of the sender.
func (s *sealer) aead(from, to fsm.MemberID, boot Nonce) (cipher.AEAD, error) {
	info := fmt.Sprintf("lbcluster lease v%d|%q|%q|%q|%x", wireVersion, s.cluster, from, to, boot[:])
	key, err := hkdf.Key(sha256.New, s.key, nil, info, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive lease key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("lease cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

func (s *sealer) header(b []byte, kind byte, to fsm.MemberID, counter uint64) []byte {
	b = append(b, kind)
	b = append(b, s.hash[:]...)
	b = append(b, byte(len(s.self)))
	b = append(b, s.self...)
	b = append(b, byte(len(to)))
	b = append(b, to...)
	b = append(b, s.boot[:]...)
	return binary.BigEndian.AppendUint64(b, counter)
}

func counterNonce(counter uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), counter)
}

// seal makes a packet of lease messages for a member.
func (s *sealer) seal(to fsm.MemberID, body []byte) ([]byte, error) {
	return s.sealAs(packetMessages, to, body)
}

// sealAs makes a packet for a member. The same packet may go out on several
// ways: it has one counter, so the receiver takes one copy.
func (s *sealer) sealAs(kind byte, to fsm.MemberID, body []byte) ([]byte, error) {
	o := s.out[to]
	if o == nil {
		if len(to) == 0 || len(to) > maxID {
			return nil, fmt.Errorf("seal for %q: no member id", to)
		}
		aead, err := s.aead(s.self, to, s.boot)
		if err != nil {
			return nil, err
		}
		o = &outgoing{aead: aead}
		s.out[to] = o
	}
	o.counter++
	head := s.header(make([]byte, 0, 64+len(body)+tagSize), kind, to, o.counter)
	return o.aead.Seal(head, counterNonce(o.counter), body, head), nil
}

// opened is a packet that is authentic: its sender holds the cluster's key.
type opened struct {
	kind    byte
	from    fsm.MemberID
	boot    Nonce
	counter uint64
	body    []byte
}

// unseal checks a packet. known says who may send. With errReplay the packet is
// authentic, but not new: what it says must not count, only that it came.
func (s *sealer) unseal(p []byte, known func(fsm.MemberID) bool) (opened, error) {
	d := decoder{b: p}
	kind, cluster := d.byte(), d.take(8)
	sender, receiver := fsm.MemberID(d.id()), fsm.MemberID(d.id())
	boot, counter := d.take(16), d.take(8)
	switch {
	case d.err != nil || kind != packetMessages && kind != packetStanding:
		return opened{}, errVersion
	case [8]byte(cluster) != s.hash:
		return opened{}, errCluster
	case receiver != s.self:
		return opened{}, errReceiver
	case sender == s.self || !known(sender):
		return opened{}, errSender
	}
	head := p[:len(p)-len(d.b)]
	in, err := s.incoming(sender, Nonce(boot))
	if err != nil {
		return opened{}, errKey
	}
	n := binary.BigEndian.Uint64(counter)
	body, err := in.aead.Open(nil, counterNonce(n), d.b, head)
	if err != nil {
		return opened{}, errKey
	}
	s.keep(sender, in)
	o := opened{kind, sender, in.boot, n, body}
	if !in.window.accept(n) {
		return o, errReplay
	}
	return o, nil
}

// open checks a packet of lease messages and returns them.
func (s *sealer) open(p []byte, known func(fsm.MemberID) bool) ([]Message, error) {
	o, err := s.unseal(p, known)
	if err != nil {
		return nil, err
	}
	return o.messages()
}

// messages reads the body of a packet of lease messages.
func (o opened) messages() ([]Message, error) {
	ms, err := parseBody(o.body)
	if err != nil {
		return nil, errBody
	}
	for i := range ms {
		ms[i].From = o.from
	}
	return ms, nil
}

func (s *sealer) incoming(from fsm.MemberID, boot Nonce) (*incoming, error) {
	for _, in := range s.in[from] {
		if in.boot == boot {
			return in, nil
		}
	}
	aead, err := s.aead(from, s.self, boot)
	if err != nil {
		return nil, err
	}
	return &incoming{boot: boot, aead: aead}, nil
}

// keep moves a start that proved its key to the front and forgets the oldest.
func (s *sealer) keep(from fsm.MemberID, in *incoming) {
	ins := s.in[from]
	if len(ins) > 0 && ins[0] == in {
		return
	}
	ins = append([]*incoming{in}, without(ins, []*incoming{in})...)
	s.in[from] = ins[:min(len(ins), maxBoots)]
}

// forget drops the keys of members that are no more.
func (s *sealer) forget(known func(fsm.MemberID) bool) {
	for id := range s.in {
		if !known(id) {
			delete(s.in, id)
		}
	}
	// Outgoing counters stay: a member that comes back must not see one again.
}

// window remembers which of the last 256 counters were seen.
type window struct {
	top  uint64 // highest seen
	bits [4]uint64
}

const windowSize = 256

// accept reports whether n is new, and notes it.
func (w *window) accept(n uint64) bool {
	switch {
	case n == 0 || n+windowSize <= w.top:
		return false
	case n > w.top:
		for i := w.top + 1; i < n && i <= w.top+windowSize; i++ {
			w.clear(i)
		}
		w.top = n
	case w.bits[n/64%4]&(1<<(n%64)) != 0:
		return false
	}
	w.bits[n/64%4] |= 1 << (n % 64)
	return true
}

func (w *window) clear(n uint64) { w.bits[n/64%4] &^= 1 << (n % 64) }
