package lease

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Params are the timers of a lease. All members of a cluster use the same.
// They are fixed for the life of a process: see the package comment on R3.
type Params struct {
	TTL        time.Duration // how long a Grant binds a voter after it read the Ask
	TTLMax     time.Duration // the longest TTL a voter accepts; a voter that forgot waits it out
	Guard      time.Duration // G: longest tolerated pause of a virtual machine, added by voters
	Acquire    time.Duration // TTL of the first round of a tenure
	Renew      time.Duration // P: a holder starts a round this often
	Round      time.Duration // R: a round without a majority is given up after it
	Repeat     time.Duration // an Ask is repeated to silent voters this long after it
	Stagger    time.Duration // s: a candidate of rank k waits k times this
	Eps        float64       // part of the TTL that the holder does not use, for clock rates
	RemoveWait time.Duration // longest wait for the owner to remove its addresses before Release
	Settle     time.Duration // shortest wait between closing the gate and Release
}

// minEps covers a holder whose clock is slewed by chrony's default maximum
// (83333 ppm) against a voter on CLOCK_MONOTONIC_RAW: 1-(1-rho_h)/(1+rho_v).
const minEps = 0.084

// ttlMax is the same for all profiles (R3), and no shorter than the longest of
// their TTLs: after a change of the profile members run different ones until
// each has restarted, so that a voter may have promised, and be asked for, what
// another profile than its present one says.
const ttlMax = 3 * time.Second

// maxGuard is more than any pause that a virtual machine should be in service
// after: each failover waits for it.
const maxGuard = 10 * time.Second

// Profile returns the timers of a named profile: "default", "fast" or "robust".
func Profile(name string) (Params, error) {
	p := Params{Eps: 0.10, TTLMax: ttlMax, RemoveWait: 20 * time.Millisecond, Settle: time.Millisecond}
	switch name {
	case "default":
		p.TTL, p.Renew, p.Round, p.Stagger = ms(800), ms(160), ms(60), ms(25)
	case "fast":
		p.TTL, p.Renew, p.Round, p.Stagger = ms(240), ms(50), ms(20), ms(8)
	case "robust":
		p.TTL, p.Renew, p.Round, p.Stagger = ms(3000), ms(600), ms(200), ms(100)
	default:
		return Params{}, fmt.Errorf("lease profile %q: not one of default, fast, robust", name)
	}
	p.Acquire, p.Repeat = 4*p.Round, p.Round/2
	return p, nil
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// Validate checks every relation between the timers and names those broken.
func (p Params) Validate() error {
	var errs []error
	for _, c := range []struct {
		ok   bool
		rule string
	}{
		{p.TTL > 0 && p.Renew > 0 && p.Round > 0 && p.Settle >= 0 && p.RemoveWait >= 0 && p.Guard >= 0, "timers are positive"},
		{p.Guard <= maxGuard, fmt.Sprintf("guard <= %v: a failover takes as much longer", maxGuard)},
		{p.TTL <= p.TTLMax, "ttl <= ttl max, or voters refuse every Ask"},
		{p.Eps >= minEps && p.Eps < 0.5, fmt.Sprintf("eps in [%v, 0.5): the rate of a slewed clock", minEps)},
		{p.Stagger > 0 && p.Stagger <= p.Round, "0 < stagger <= round"},
		{p.Repeat > 0 && p.Repeat < p.Round, "0 < repeat < round"},
		{p.Acquire == 4*p.Round, "acquire ttl = 4 x round"},
		{p.Acquire <= p.TTL, "acquire ttl <= ttl"},
		{4*int64(p.Renew) <= p.usable(int64(p.TTL)), "renew <= ttl(1-eps)/4"},
		{p.Stall() > 0, "ttl(1-eps) > renew + round, or no stall of the holder is tolerated"},
		{p.Settle <= p.RemoveWait, "settle <= removal wait"},
		{p.RemoveWait <= p.Round, "removal wait <= round, or a release is slower than a failed round"},
	} {
		if !c.ok {
			errs = append(errs, errors.New(c.rule))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("lease timers: %w", errors.Join(errs...))
	}
	return nil
}

// Usable is how long a holder may use a grant that it has just got: the whole
// deadline.
func (p Params) Usable() time.Duration { return time.Duration(p.usable(int64(p.TTL))) }

// usable is the part of a ttl (ns) that the holder may use: ttl(1-eps),
// rounded down. R7.
func (p Params) usable(ttl int64) int64 { return int64(float64(ttl) * (1 - p.Eps)) }

// Embargo is how long a voter that forgot its promises grants nothing.
func (p Params) Embargo() time.Duration { return p.TTLMax + p.Guard }

// Spacing is a generous wait between two configuration changes. One Embargo,
// stretched by what clocks may differ, is enough (R16); package cluster keeps
// its own.
func (p Params) Spacing() time.Duration { return 2 * p.Embargo() }

// reserve is how long a voter keeps a router that was handed over for whom it
// was handed to.
func (p Params) reserve() time.Duration { return 2 * p.Round }

// tenure is the shortest time between winning a router and handing it over: no
// rule of who should hold what can make it go to and fro faster.
func (p Params) tenure() time.Duration { return 5 * p.TTL }

// Stall is how long a holder may stand still without losing the lease.
func (p Params) Stall() time.Duration {
	return time.Duration(p.usable(int64(p.TTL))) - p.Renew - p.Round
}

// Failover bounds how long a router has no owner after its owner's machine
// died: from the death to the first candidate's Ask, best and worst.
func (p Params) Failover() (best, worst time.Duration) {
	return p.TTL + p.Guard - p.Renew, p.TTL + p.Guard + p.Stagger
}

// majority is the smallest number of n voters that any other majority meets.
func majority(n int) int { return n/2 + 1 }

// sortedKeys returns m's keys in ascending order.
func sortedKeys[V any](m map[uint64]V) []uint64 { return slices.Sorted(maps.Keys(m)) }

// with returns set with x in it.
func with[T comparable](set []T, x T) []T {
	if slices.Contains(set, x) {
		return set
	}
	return append(set, x)
}

// without returns the members of a that are not in b, in a's order.
func without[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(x T) bool { return slices.Contains(b, x) })
}

// overlap reports whether a and b have a member in common.
func overlap[T comparable](a, b []T) bool {
	return slices.ContainsFunc(a, func(x T) bool { return slices.Contains(b, x) })
}

// both returns the members of a that are in b, in a's order.
func both[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(x T) bool { return !slices.Contains(b, x) })
}

// never and forever are times before and after all others.
const (
	never   = int64(-1 << 62)
	forever = int64(1 << 62)
)
