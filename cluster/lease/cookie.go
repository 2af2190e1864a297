package lease

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"lbcluster/fsm"
)

// cookies are what a voter wants to see in Asks: a random number for each
// process that asks, drawn by this voter since it started. An Ask that was
// recorded before the voter forgot what it knew, or that is from a process
// whose cookie was given up since, carries another number and plants nothing.
type cookies struct {
	secret   Nonce
	drawn    uint64
	byMember map[fsm.MemberID][]cookie // the latest used last
}

type cookie struct {
	boot  Nonce
	value uint64
}

// maxCookies are kept for each member: its process now, and a few before.
const maxCookies = 4

func newCookies() cookies { return cookies{secret: NewNonce(), byMember: map[fsm.MemberID][]cookie{}} }

// of returns the cookie of a process, and draws one if it has none.
func (c *cookies) of(who identity) uint64 {
	for _, k := range c.byMember[who.node] {
		if k.boot == who.boot {
			return k.value
		}
	}
	ks := append(c.byMember[who.node], cookie{who.boot, c.draw()})
	if len(ks) > maxCookies {
		ks = slices.Delete(ks, 0, 1)
	}
	c.byMember[who.node] = ks
	return ks[len(ks)-1].value
}

// good reports whether an Ask carries its cookie, and keeps that of who proves
// to know it longest.
func (c *cookies) good(who identity, value uint64) bool {
	ks := c.byMember[who.node]
	i := slices.Index(ks, cookie{who.boot, value})
	if i < 0 || value == 0 {
		return false
	}
	k := ks[i]
	c.byMember[who.node] = append(slices.Delete(ks, i, i+1), k)
	return true
}

// draw returns a number that cannot be guessed, never 0.
func (c *cookies) draw() uint64 {
	for {
		c.drawn++
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(c.secret[:], c.drawn))
		if v := binary.BigEndian.Uint64(sum[:8]); v != 0 {
			return v
		}
	}
}
