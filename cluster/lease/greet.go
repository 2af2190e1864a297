package lease

import "time"

// learned is a voter's cookie for this holder.
type learned struct {
	value uint64
	at    int64 // when it was last confirmed, or asked for
}

// greetEvery is how old a cookie may be before a member that stands for
// something asks for it again, by a Probe about no router.
const greetEvery = time.Second

// learn keeps a voter's cookie, and reports whether it is another than before.
func (h *Holder) learn(now int64, m Message) (fresh bool) {
	if m.Kind != Deny && m.Kind != ProbeReply || m.Cookie == 0 {
		return false
	}
	fresh = h.cookies[m.From].value != m.Cookie
	h.cookies[m.From] = learned{m.Cookie, now}
	return fresh
}

// greet keeps the cookies of all voters known, so that no round, and least of
// all the first one of a takeover, loses a round trip over them.
func (h *Holder) greet(now int64) {
	if now < h.greetDue() {
		return
	}
	for _, v := range h.quorum.voters() {
		if k := h.cookies[v]; k.value == 0 && k.at == 0 || now-k.at >= int64(greetEvery) {
			h.cookies[v] = learned{k.value, now}
			h.send(v, Message{Kind: Probe})
		}
	}
}

// greetDue is when the next voter has to be greeted.
func (h *Holder) greetDue() int64 {
	standing := false
	for _, c := range h.routers {
		if h.barred(c) == "" {
			standing = true
			break
		}
	}
	if !standing {
		return forever
	}
	t := forever
	for _, v := range h.quorum.voters() {
		if k, ok := h.cookies[v]; ok {
			t = min(t, k.at+int64(greetEvery))
		} else {
			t = never
		}
	}
	return t
}
