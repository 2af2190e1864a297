package conf

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"lbcluster/fsm"
)

// maxTimer bounds every timer: keepalived's 32-bit count of microseconds.
const maxTimer = 4294 * time.Second

// timer reads keepalived's TIMER: decimal seconds, microseconds at the finest.
func timer(s string) (time.Duration, error) {
	whole, frac, _ := strings.Cut(s, ".")
	if whole+frac == "" || !digits(whole) || !digits(frac) {
		return 0, fmt.Errorf("%q is not a number of seconds", s)
	}
	if len(frac) > 6 {
		return 0, fmt.Errorf("%q is finer than a microsecond", s)
	}
	micros, err := strconv.ParseInt(whole+frac+strings.Repeat("0", 6-len(frac)), 10, 64)
	if d := time.Duration(micros) * time.Microsecond; err == nil && micros <= int64(maxTimer/time.Microsecond) {
		return d, nil
	}
	return 0, fmt.Errorf("%q is more than %d seconds", s, int(maxTimer.Seconds()))
}

// seconds writes d, which is not negative, as timer reads it.
func seconds(d fsm.Duration) string {
	text := fmt.Sprintf("%d.%09d", d/1e9, d%1e9)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// number reads a decimal integer within bounds.
func number(s string, low, high uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", s, low, high)
	}
	return n, nil
}

// boolean reads keepalived's BOOL.
func boolean(s string) (bool, error) {
	switch s {
	case "on", "true", "yes":
		return true, nil
	case "off", "false", "no":
		return false, nil
	}
	return false, fmt.Errorf("%q is not one of on, off, true, false, yes, no", s)
}

// address reads an IPv4 or IPv6 address.
func address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	}
	if a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%q is not a plain IPv4 or IPv6 address", s)
	}
	return a, nil
}

// prefix reads an address with or without a length; without: /32 or /128.
func prefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := address(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an IP address with a prefix length", s)
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q: write it as IPv4", s)
	}
	return p, nil
}

// mask reads a dotted netmask and returns its length.
func mask(s string) (uint8, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("%q is not a netmask such as 255.255.255.0", s)
	}
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	ones := bits.LeadingZeros32(^v)
	if v == 0 || v<<ones != 0 {
		return 0, fmt.Errorf("%q is not a netmask: its ones must stand together, from the left", s)
	}
	return uint8(ones), nil
}

// dotted writes a mask's length as mask reads it.
func dotted(length uint8) string {
	v := uint32(0xffffffff) << (32 - min(length, 32))
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}).String()
}

// granularityOf reads persistence_granularity: a netmask, and for IPv6 a length.
// Which of them it is shows the family where nothing else does.
func granularityOf(s string, of fsm.VirtualServer) (uint8, error) {
	if of.Addr.Is4() || !of.Is6() && strings.Contains(s, ".") {
		return mask(s)
	}
	length, err := number(s, 1, 128)
	return uint8(length), err
}

// granularity writes what granularityOf reads.
func granularity(of fsm.ServiceKey, length uint8) string {
	if of.Is6() {
		return strconv.Itoa(int(length))
	}
	return dotted(length)
}
