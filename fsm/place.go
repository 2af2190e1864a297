package fsm

import (
	"net/netip"
)

// Unit is what one lease is for, and what moves: a sync group with all its
// routers, or a router that is in no group.
type Unit struct {
	ID      uint64   `json:"id"` // the group's, or the router's
	Name    string   `json:"name"`
	Routers []uint64 `json:"routers"` // by id
}

// Network is one address of a member with what others must know of it. Members
// tell them themselves.
type Network struct {
	Prefix netip.Prefix `json:"prefix"` // the member's address with its network's length
	MAC    string       `json:"mac"`    // of the interface: "02:1b:0c:5d:a8:52"; empty: none
}

// Place says who should hold a unit.
type Place struct {
	// Order is who stands for the unit, best first; the first is its home.
	// Invariant: present directors, each once.
	Order []MemberID `json:"order"`
	// Pin, when set, is the home that an operator chose.
	Pin MemberID `json:"pin,omitempty"`
	// Moved, when set, is where an operator moved the unit by hand; it stands
	// before the home until it is moved home or its director leaves.
	Moved MemberID `json:"moved,omitempty"`
}

// FailBack says what happens when a unit's home can hold it again.
type FailBack string

const (
	FailBackManual FailBack = "manual" // it stays where it is until somebody moves it
	FailBackAuto   FailBack = "auto"   // it goes home once the home has been well for Settings.FailBackAfter
)
