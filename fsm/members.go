package fsm

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
)

// Profiles are the names of the lease's timings.
var Profiles = []string{"default", "fast", "robust"}

// MaxTokenUses bounds Token.Uses.
const MaxTokenUses = 1000

func (e *edit) found(f Found) error {
	if e.Cluster != "" {
		return invalid("cluster %s is founded already: join it instead", e.Cluster)
	}
	if bad := nameProblem(f.Cluster); bad != "" {
		return invalid("cluster id: %s", bad)
	}
	if bad := e.newMemberProblem(f.Name, Director, f.Addr); bad != "" {
		return invalid("%s", bad)
	}
	profile := cmp.Or(f.Profile, Profiles[0])
	if !slices.Contains(Profiles, profile) {
		return invalid("profile %q: known are %s", profile, someOf(Profiles, 9))
	}
	if bad := guardProblem(f.Guard); bad != "" {
		return invalid("%s", bad)
	}
	e.Cluster, e.Settings.Profile, e.Settings.Guard = f.Cluster, profile, f.Guard
	m := e.addMember(Member{Name: f.Name, Role: Director, State: Present, Addr: f.Addr, Reads: f.Reads})
	e.event("member", "%s (%s) founds cluster %s with profile %s", m.Name, m.ID, f.Cluster, profile)
	return nil
}

func (e *edit) enrol(n Enrol) error {
	if n.Request == "" || !isClean(n.Request, maxBy) {
		return invalid("enrolment of %q: it needs a request of up to %d printable characters", n.Name, maxBy)
	}
	if m, ok := find(e.Members, func(m Member) bool { return m.Request == n.Request }); ok {
		return e.enrolAgain(m, n)
	}
	i, err := e.admit(n)
	if err != nil {
		return err
	}
	if n.Role == Reader && e.cmd.Version >= 3 {
		return e.enrolReader(n, i)
	}
	if bad := e.newMemberProblem(n.Name, n.Role, n.Addr); bad != "" {
		return invalid("%s", bad)
	}
	if err := e.enrolAsV1(n); err != nil {
		return err
	}
	if err := e.mayRead(n.Name, n.Reads); err != nil && n.Reads != 0 {
		return err
	}
	e.useToken(i)
	m := e.addMember(Member{
		Name: n.Name, Role: n.Role, State: Joining, Addr: n.Addr, Request: n.Request, Token: n.TokenHash, Reads: n.Reads,
	})
	e.event("member", "%s (%s) enrols as %s at %s", m.Name, m.ID, m.Role, m.Addr)
	return nil
}

// enrolReader uses a token up for a reader's certificate. The table keeps nothing
// else of readers.
func (e *edit) enrolReader(n Enrol, token int) error {
	if bad := hostNameProblem(n.Name); bad != "" {
		return invalid("%s", bad)
	}
	e.useToken(token)
	e.event("member", "%s gets a reader's certificate", n.Name)
	return nil
}

// useToken takes one use off a token.
func (e *edit) useToken(i int) {
	e.Tokens = slices.Clone(e.Tokens)
	if e.Tokens[i].Uses--; e.Tokens[i].Uses == 0 {
		e.Tokens = slices.Delete(e.Tokens, i, i+1)
	}
}

// enrolAgain answers a joiner that lost the answer.
func (e *edit) enrolAgain(m Member, n Enrol) error {
	if m.Token != n.TokenHash {
		return fmt.Errorf("%w: member %s enrolled with another token", ErrDenied, m.Name)
	}
	if m.Name != n.Name || m.Role != n.Role || m.Addr != n.Addr {
		return invalid("this request enrolled %s as %s at %s: use a new request for anything else", m.Name, m.Role, m.Addr)
	}
	e.member = m.ID
	return nil
}

// admit finds the token that allows n.
func (e *edit) admit(n Enrol) (int, error) {
	i := slices.IndexFunc(e.Tokens, func(t Token) bool { return t.Hash == n.TokenHash })
	if i < 0 {
		return 0, fmt.Errorf("%w: the token is unknown or used up: make one with lbcluster token", ErrDenied)
	}
	t := e.Tokens[i]
	if !e.cmd.At.Before(t.Expires) {
		return 0, fmt.Errorf("%w: the token expired at %s: make one with lbcluster token", ErrDenied,
			t.Expires.Format("2006-01-02 15:04:05 MST"))
	}
	if t.Role != "" && t.Role != n.Role {
		return 0, fmt.Errorf("%w: the token is for a %s, not for a %s", ErrDenied, t.Role, n.Role)
	}
	return i, nil
}

// addMember gives m the next id and leaves it in the Result.
func (e *edit) addMember(m Member) Member {
	m.ID, m.Joined = memberID(e.NextMember), e.rev
	e.NextMember++
	e.Members = append(slices.Clip(slices.Clone(e.Members)), m)
	e.member = m.ID
	return m
}

// newMemberProblem says why a member can't be added; "" if it can.
func (t *Table) newMemberProblem(name string, role Role, addr netip.AddrPort) string {
	if bad := hostNameProblem(name); bad != "" {
		return bad
	}
	if role != Director && role != Witness {
		return fmt.Sprintf("member %s: role %q is neither %s nor %s", name, role, Director, Witness)
	}
	if bad := memberAddrProblem(addr); bad != "" {
		return fmt.Sprintf("member %s: address %s: %s", name, addr, bad)
	}
	for _, m := range t.Members {
		if m.Name == name {
			return fmt.Sprintf("there is a member %s (%s) already: choose another name, or remove it first", name, m.ID)
		}
		if portsClash(m.Addr, addr) {
			return fmt.Sprintf("member %s: address %s (with the port after it, for gossip) is %s's (%s)", name, addr, m.Name, m.Addr)
		}
	}
	return t.placeProblem(Member{Name: name, Role: role, Addr: addr})
}

// placeProblem says why a member can't live at an address that is in use in
// the configuration. A member may be a real server.
func (t *Table) placeProblem(m Member) string {
	name, addr := m.Name, m.Addr.Addr()
	for _, r := range t.Routers {
		for _, a := range r.Addresses {
			if a.Prefix.Addr() == addr {
				return fmt.Sprintf("member %s: its address %s is a VIP of virtual router %s", name, addr, r.Name)
			}
		}
	}
	for _, v := range t.Services {
		if v.Addr == addr {
			return fmt.Sprintf("member %s: its address %s is that of virtual server %s", name, addr, v.ServiceKey)
		}
		if bad := v.placeProblem(m); bad != "" {
			return fmt.Sprintf("%s: %s", servicePath(v.ServiceKey), bad)
		}
	}
	return ""
}

// memberAddrProblem says why nobody could serve the members at a.
func memberAddrProblem(a netip.AddrPort) string {
	switch ip := a.Addr(); {
	case !ip.IsValid():
		return "it is missing"
	case ip.Is4In6():
		return "write it as IPv4"
	case ip.IsUnspecified(), ip.IsMulticast():
		return "it must be an address of this machine that the other members reach"
	case a.Port() == 0 || a.Port() == 65535:
		return "the port must be 1 to 65534: the one after it is needed too"
	}
	return ""
}

// portsClash reports whether members at a and b want a common port: each has
// its own and the next.
func portsClash(a, b netip.AddrPort) bool {
	d := int(a.Port()) - int(b.Port())
	return a.Addr() == b.Addr() && -1 <= d && d <= 1
}

func (e *edit) setMember(s SetMember) error {
	i := slices.IndexFunc(e.Members, func(m Member) bool { return m.ID == s.ID })
	if i < 0 {
		return notFound("member %s", s.ID)
	}
	was := e.Members[i]
	is := was
	if s.State != nil {
		if err := e.mayBecome(was, *s.State); err != nil {
			return err
		}
		is.State = *s.State
	}
	if s.Silent != nil {
		is.Silent = *s.Silent
	}
	if s.Drained != nil {
		if err := e.mayDrain(was, *s.Drained); err != nil {
			return err
		}
		is.Drained = *s.Drained
	}
	if s.Networks != nil {
		networks, bad := canonicalNetworks(*s.Networks)
		if bad != "" {
			return invalid("member %s: %s", was.Name, bad)
		}
		is.Networks = networks
	}
	if s.Reads != 0 {
		if err := e.mayRead(was.Name, s.Reads); err != nil {
			return err
		}
		is.Reads = s.Reads
	}
	if reflect.DeepEqual(is, was) {
		return nil
	}
	e.Members = slices.Clone(e.Members)
	e.Members[i] = is
	e.tellMember(was, is)
	if !is.presentDirector() || is.Silent && !was.Silent {
		e.dropVotes(is.ID)
	}
	e.judgeAll()
	return nil
}

func (e *edit) tellMember(was, is Member) {
	if is.State != was.State {
		e.event("member", "%s (%s) is %s (was %s)", is.Name, is.ID, is.State, was.State)
	}
	if is.Silent && !was.Silent {
		e.event("member", "%s (%s) is silent: its votes do not count", is.Name, is.ID)
		e.noticeMember(is, "LOST", "the cluster has no contact with "+is.Name)
	}
	if !is.Silent && was.Silent {
		e.event("member", "%s (%s) is back", is.Name, is.ID)
		e.noticeMember(is, "BACK", is.Name+" is back")
	}
	if is.Drained && !was.Drained {
		e.event("member", "%s (%s) is drained: it hands over what it holds and takes nothing", is.Name, is.ID)
	}
	if !is.Drained && was.Drained {
		e.event("member", "%s (%s) is fit again: it stands for virtual routers", is.Name, is.ID)
	}
	if is.Reads != was.Reads {
		e.event("member", "%s (%s) reads version %d of the table's commands (was %d)", is.Name, is.ID, is.Reads, was.reads())
	}
	if !slices.Equal(is.Networks, was.Networks) {
		e.event("member", "%s (%s) has %s", is.Name, is.ID, networksText(is.Networks))
	}
}

// mayDrain refuses to leave the VIPs to nobody.
func (e *edit) mayDrain(m Member, drained bool) error {
	if !drained || m.Drained {
		return nil
	}
	if m.Role != Director {
		return invalid("member %s is a %s: it holds nothing that could be handed over", m.Name, m.Role)
	}
	if last := e.lastDirector(m); last != "" {
		return invalid("member %s is %s: it can't be drained", m.Name, last)
	}
	return nil
}

// mayBecome checks a member's way: joining, present, leaving.
func (e *edit) mayBecome(m Member, to MemberState) error {
	last := e.lastDirector(m)
	switch {
	case to == m.State:
		return nil
	case to == Present:
		return nil
	case to == Leaving && last != "":
		return invalid("member %s is %s: it can't leave", m.Name, last)
	case to == Leaving:
		return nil
	case to == Joining:
		return invalid("member %s is %s: it can't become joining again: remove it and let it join", m.Name, m.State)
	}
	return invalid("member %s: state %q: known are %s, %s, %s", m.Name, to, Joining, Present, Leaving)
}

// lastDirector is "the last director" if there would be no present director
// without m, "the last director in contact" if there would be silent ones only,
// "the last director that is not drained": m would leave its VIPs to nobody.
// Otherwise "". A silent or drained member may go.
func (t *Table) lastDirector(m Member) string {
	if !m.presentDirector() {
		return ""
	}
	last := "the last director"
	for _, o := range t.Members {
		switch {
		case o.ID == m.ID || !o.presentDirector():
		case (m.Silent || !o.Silent) && (m.Drained || !o.Drained):
			return ""
		case o.Drained && !m.Drained:
			last = "the last director that is not drained"
		default:
			last = "the last director in contact"
		}
	}
	return last
}

func (e *edit) remove(id MemberID) error {
	m, ok := e.Member(id)
	if !ok {
		return notFound("member %s", id)
	}
	if last := e.lastDirector(m); last != "" {
		return invalid("member %s is %s: it can't be removed", m.Name, last)
	}
	e.event("member", "%s (%s) is removed", m.Name, m.ID)
	e.Members = slices.DeleteFunc(slices.Clone(e.Members), func(o Member) bool { return o.ID == id })
	e.dropVotes(id)
	e.Owners = keep(e.Owners, func(_ uint64, owner MemberID) bool { return owner != id })
	e.judgeAll()
	return nil
}

// keep is the part of m for which f is true.
func keep[K comparable, V any](m map[K]V, f func(K, V) bool) map[K]V {
	kept := make(map[K]V, len(m))
	for k, v := range m {
		if f(k, v) {
			kept[k] = v
		}
	}
	return kept
}

func (e *edit) addToken(t Token) error {
	if bad := t.problem(); bad != "" {
		return invalid("token: %s", bad)
	}
	if t.Role == Reader && e.cmd.Version < 3 {
		return oldVersion("the token is for a %s", t.Role)
	}
	if !e.cmd.At.Before(t.Expires) {
		return invalid("token: it has expired before it is made")
	}
	if old, ok := find(e.Tokens, func(o Token) bool { return o.Hash == t.Hash }); ok {
		if old == t {
			return nil
		}
		return invalid("token: there is one with this hash already")
	}
	unexpired := slices.DeleteFunc(slices.Clone(e.Tokens), func(o Token) bool { return !e.cmd.At.Before(o.Expires) })
	e.Tokens = append(unexpired, t)
	e.event("token", "a token for %s (%s) is made, valid until %s", count(t.Uses, "enrolment"),
		cmp.Or(string(t.Role), "any role"), t.Expires.Format("2006-01-02 15:04:05 MST"))
	return nil
}

// problem says what is wrong with t itself; "" if nothing is.
func (t Token) problem() string {
	if raw, err := hex.DecodeString(t.Hash); err != nil || len(raw) != 32 || hex.EncodeToString(raw) != t.Hash {
		return "its hash is no SHA-256 in lower-case hexadecimal"
	}
	if t.Role != "" && t.Role != Director && t.Role != Witness && t.Role != Reader {
		return fmt.Sprintf("role %q is neither %s, %s nor %s", t.Role, Director, Witness, Reader)
	}
	if t.Uses < 1 || t.Uses > MaxTokenUses {
		return fmt.Sprintf("it must be good for 1 to %d uses", MaxTokenUses)
	}
	return ""
}
