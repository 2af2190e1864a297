package lease

import (
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// The published numbers of each profile.
func TestProfiles(t *testing.T) {
	for _, c := range []struct {
		name                                           string
		ttl, renew, round, repeat, stagger, max, stall time.Duration
	}{
		{"default", ms(800), ms(160), ms(60), ms(30), ms(25), ms(3000), ms(500)},
		{"fast", ms(240), ms(50), ms(20), ms(10), ms(8), ms(3000), ms(146)},
		{"robust", ms(3000), ms(600), ms(200), ms(100), ms(100), ms(3000), ms(1900)},
	} {
		p, err := Profile(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if p.TTL != c.ttl || p.Renew != c.renew || p.Round != c.round || p.Repeat != c.repeat ||
			p.Stagger != c.stagger || p.TTLMax != c.max || p.Stall() != c.stall || p.Acquire != 4*c.round {
			t.Errorf("%s: %+v, stall %v", c.name, p, p.Stall())
		}
		if p.Spacing() != 2*p.TTLMax || p.Embargo() != p.TTLMax {
			t.Errorf("%s: spacing %v, embargo %v", c.name, p.Spacing(), p.Embargo())
		}
	}
	if _, err := Profile("quick"); err == nil {
		t.Error("an unknown profile is taken")
	}
	p, _ := Profile("default")
	if best, worst := p.Failover(); best != ms(640) || worst != ms(825) {
		t.Errorf("failover of default: %v to %v", best, worst)
	}
}

// Members take their profile when they start, so that after a change of it some
// run the old and some the new one. A voter that promised by one and restarts
// with another must not grant before that promise has run out, and accepts what
// the others still ask for (R3).
func TestRestartWithAnotherProfile(t *testing.T) {
	names := []string{"default", "fast", "robust"}
	for _, before := range names {
		for _, after := range names {
			p, q := profile(t, before), profile(t, after)
			ask := func(v *Voter, from string, ttl time.Duration) Message {
				m := Message{Kind: Ask, Router: 1, From: fsm.MemberID(from), Boot: Nonce{1}, Seq: 1, TTL: int64(ttl), Addrs: one.Addrs}
				m.Cookie = v.cookies.of(identity{m.From, m.Boot})
				return m
			}
			v := NewVoter("m1", Nonce{1}, p, 0, true)
			if out := v.Step(0, ask(v, "m2", p.TTL)); out[0].Msg.Kind != Grant {
				t.Fatalf("%s: %+v", before, out)
			}
			_, _, left := v.Promise(0, 1)
			v = NewVoter("m1", Nonce{2}, q, 0, false)
			if out := v.Step(left-1, ask(v, "m3", q.Acquire)); out[0].Msg.Kind == Grant {
				t.Errorf("%s, then %s: granted to m3 while m2 may hold it yet", before, after)
			}
			if out := v.Step(int64(q.Embargo()), ask(v, "m2", p.TTL)); out[0].Msg.Kind != Grant {
				t.Errorf("%s asks %s: %v", before, after, out[0].Msg.Reason)
			}
		}
	}
}

func TestValidateNamesTheBrokenRelation(t *testing.T) {
	for _, c := range []struct {
		change func(p *Params)
		want   string
	}{
		{func(p *Params) { p.Guard = -1 }, "positive"},
		{func(p *Params) { p.Guard = 11 * time.Second }, "guard <= 10s"},
		{func(p *Params) { p.TTLMax = ms(799) }, "ttl <= ttl max"},
		{func(p *Params) { p.Eps = 0.08 }, "eps"},
		{func(p *Params) { p.Eps = 0.5 }, "eps"},
		{func(p *Params) { p.Stagger = ms(61) }, "stagger"},
		{func(p *Params) { p.Repeat = ms(60) }, "repeat"},
		{func(p *Params) { p.Acquire = ms(239) }, "acquire ttl = "},
		{func(p *Params) { p.TTL = ms(200) }, "acquire ttl <= ttl"},
		{func(p *Params) { p.Renew = ms(181) }, "renew <="},
		{func(p *Params) { p.Renew = ms(700) }, "no stall"},
		{func(p *Params) { p.Settle = ms(21) }, "settle"},
		{func(p *Params) { p.RemoveWait = ms(61) }, "removal wait <= round"},
	} {
		p, _ := Profile("default")
		c.change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error about %q, got %v", c.want, err)
		}
	}
}

// Package fsm, which knows no lease, checks with its own numbers whether a
// failover fits into the patience of VRRP peers.
func TestTableKnowsTheLeaseTimes(t *testing.T) {
	for _, name := range fsm.Profiles {
		p, err := Profile(name)
		if err != nil {
			t.Fatal(err)
		}
		if ttl, stagger := fsm.LeaseTimes(name); ttl != p.TTL || stagger != p.Stagger {
			t.Errorf("profile %s: fsm has ttl %v and stagger %v, the lease %v and %v", name, ttl, stagger, p.TTL, p.Stagger)
		}
	}
}
