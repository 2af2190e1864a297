package vrrp

import (
	"crypto/subtle"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Keys of rejections: stable, for counters and metrics.
const (
	RejectLength       = "length"
	RejectVersion      = "version"
	RejectType         = "type"
	RejectVRID         = "vrid"
	RejectTTL          = "ttl"
	RejectChecksum     = "checksum"
	RejectFamily       = "family"
	RejectAuthType     = "auth_type"
	RejectAuthPass     = "auth_pass"
	RejectInterval     = "advert_int"
	RejectUnknownVRID  = "unknown_vrid"
	RejectPlain        = "checksum_without_pseudo_header"
	RejectKind         = "multicast_or_unicast"
	RejectMoreSpeakers = "too_many_sources" // heard, but no more room to list them
)

// Reject says why an advert is not accepted.
type Reject struct {
	Key    string // one of the Reject constants
	Reason string // for people
}

// Error makes a Reject an error.
func (r *Reject) Error() string { return r.Reason }

func reject(key, format string, args ...any) *Reject {
	return &Reject{Key: key, Reason: fmt.Sprintf(format, args...)}
}

// Expect is the part of a router's configuration that adverts must match.
type Expect struct {
	Version  uint8
	Interval time.Duration
	AuthPass string // empty: none
	Addrs    []netip.Addr
	// AnyChecksum: version 3 with or without the pseudo-header (v3_checksum_as_v2).
	AnyChecksum bool
	// AnyAddrs: other addresses are not worth a warning (skip_check_adv_addr).
	AnyAddrs bool
}

// Check says whether a keepalived configured like e accepts a, in the order of
// its own checks. Warnings are differences that it logs and accepts: a version 3
// interval, and since 2.3.3 the list of addresses (older ones reject the latter,
// which is how two half-updated directors both become MASTER).
func (e Expect) Check(a Advert) (warnings []string, r *Reject) {
	if a.Version != e.Version {
		return nil, reject(RejectVersion, "version %d, ours is %d", a.Version, e.Version)
	}
	if r := e.checkVersion(a); r != nil {
		return nil, r
	}
	if a.Version == 3 && a.Interval != e.Interval {
		warnings = append(warnings, fmt.Sprintf("advert interval %v, ours is %v", a.Interval, e.Interval))
	}
	if !e.AnyAddrs && !sameAddrs(a.Addrs, e.Addrs) {
		warnings = append(warnings, fmt.Sprintf("lists %v, we list %v", a.Addrs, e.Addrs))
	}
	return warnings, nil
}

func (e Expect) checkVersion(a Advert) *Reject {
	if a.Version == 3 {
		if a.PlainChecksum && !e.AnyChecksum {
			return reject(RejectPlain, "checksum without the pseudo-header (keepalived: v3_checksum_as_v2)")
		}
		return nil
	}
	want := uint8(AuthNone)
	if e.AuthPass != "" {
		want = AuthPass
	}
	if a.AuthType != want {
		return reject(RejectAuthType, "authentication type %d, ours is %d", a.AuthType, want)
	}
	if want == AuthPass && subtle.ConstantTimeCompare([]byte(a.AuthPass), []byte(e.AuthPass)) != 1 {
		return reject(RejectAuthPass, "another password than ours")
	}
	if a.Interval != e.Interval {
		return reject(RejectInterval, "advert interval %v, ours is %v", a.Interval, e.Interval)
	}
	return nil
}

// sameAddrs compares the lists without their order.
func sameAddrs(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(a, b)
}
