package fsm

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// NoticeKind says what a notice is about.
type NoticeKind string

// The kinds, with the states that they have.
const (
	NoticeOwner  NoticeKind = "owner"  // a router or sync group: MASTER of Member, or FAULT: nobody holds it
	NoticeMember NoticeKind = "member" // LOST, BACK
	NoticeServer NoticeKind = "server" // a real server of one virtual server: UP, DOWN
	NoticePool   NoticeKind = "pool"   // a virtual server: UP, DOWN (too few real servers)
	NoticeMore   NoticeKind = "more"   // only counts what was too much
)

// Notice is something that people, or their programs, are to be told of. It is kept
// until every [Channel] that hears it has told it.
type Notice struct {
	Seq      uint64         `json:"seq"` // from 1; never reused
	Revision Revision       `json:"revision"`
	At       time.Time      `json:"at"` // the proposer's clock
	Kind     NoticeKind     `json:"kind"`
	State    string         `json:"state,omitempty"`
	Set      string         `json:"set,omitempty"`  // whose it is; empty: the cluster's
	Name     string         `json:"name,omitempty"` // of the router, sync group or member
	Group    bool           `json:"group,omitempty"`
	Service  ServiceKey     `json:"service,omitzero"`
	Server   netip.AddrPort `json:"server,omitzero"`
	Node     string         `json:"node,omitempty"` // the name of the director that took a router
	Mail     bool           `json:"mail,omitempty"` // by mail too: see smtp_alert
	Run      bool           `json:"run,omitempty"`  // to programs and pipes too
	Text     string         `json:"text"`           // a sentence for people
}

// Bounds: a storm must not fill the table.
const (
	NoticesKept       = 2000
	noticesPerCommand = 500
)

// ChannelKind is a way of telling.
type ChannelKind string

// The kinds: the first two by the settings of one set.
const (
	ChannelMail ChannelKind = "mail"
	ChannelRun  ChannelKind = "scripts" // notify_up, quorum_down and their like, and lines of pipes
	// ChannelWeb is a webhook, which is of no set.
	ChannelWeb ChannelKind = "webhook"
)

// Channel is one way out for notices, and how far it has come. There is one for each
// set whose globals have mail settings, and one for each that has programs for
// changes of servers: or, where each director runs them, one for each of those.
//
// Invariant: Told <= Claim <= Table.LastNotice.
type Channel struct {
	Kind ChannelKind `json:"kind"`
	Set  string      `json:"set"`
	To   string      `json:"to,omitempty"` // a webhook's URL
	// Of is the director that alone tells, if it does: what happens while it is
	// silent it does not hear.
	Of MemberID `json:"of,omitempty"`
	// Teller is the director that tells; it stays so while it is present and not
	// silent, unless it passes the duty on. Empty: there is none.
	Teller MemberID `json:"teller,omitempty"`
	// Told is the last notice that was told. Those up to Claim are a batch that a
	// teller began to tell: whoever tells it (again) tells the same batch.
	Told  uint64 `json:"told"`
	Claim uint64 `json:"claim"`
}

// String is "mail of set default".
func (c Channel) String() string {
	if c.Kind == ChannelWeb {
		return "webhook at " + webhookHost(c.To)
	}
	if c.Of != "" {
		return fmt.Sprintf("%s of set %s on %s", c.Kind, c.Set, c.Of)
	}
	return string(c.Kind) + " of set " + c.Set
}

// same reports whether c and o are one channel.
func (c Channel) same(o Channel) bool { return c.compare(o) == 0 }

func (c Channel) compare(o Channel) int {
	return cmp.Or(cmp.Compare(c.Kind, o.Kind), cmp.Compare(c.Set, o.Set), cmp.Compare(c.To, o.To), cmp.Compare(c.Of, o.Of))
}

// Tell records how far a channel has come. Exactly one of Claim, Told and Pass.
type Tell struct {
	Kind   ChannelKind `json:"kind"`
	Set    string      `json:"set"`
	To     string      `json:"to,omitempty"`
	Of     MemberID    `json:"of,omitempty"`
	Member MemberID    `json:"member"`          // must be the teller
	Claim  uint64      `json:"claim,omitempty"` // it is about to tell the notices up to this
	Told   uint64      `json:"told,omitempty"`  // it has told the batch
	// GaveUp says why the batch counts as told and was not; with Told.
	GaveUp string `json:"gave_up,omitempty"`
	Pass   bool   `json:"pass,omitempty"` // it cannot: another director shall try
}

// mails reports whether a set's settings are enough to send mail (keepalived asks
// for the same two).
func (g Globals) mails() bool { return len(g.NotificationEmail) > 0 && g.SMTPServer != "" }

// Globals of a set; the zero Globals if there is no such set.
func (t *Table) Globals(set string) Globals {
	s, _ := find(t.Sets, func(s Set) bool { return s.Name == set })
	return s.Globals
}

// Hears reports whether a channel tells a notice: of its set's, those for mail. What
// is nobody's is told by each, but by one only where sets have the same recipients.
func (t *Table) Hears(c Channel, n Notice) bool {
	if c.Kind == ChannelWeb {
		return true
	}
	if c.Kind == ChannelRun {
		return n.Run && n.Set == c.Set
	}
	if !n.Mail {
		return false
	}
	if n.Set != "" {
		return n.Set == c.Set
	}
	return t.firstOf(c)
}

// firstOf reports whether no channel before c tells the same people.
func (t *Table) firstOf(c Channel) bool {
	mine := t.Globals(c.Set)
	for _, o := range t.Channels {
		if o.same(c) {
			break
		}
		other := t.Globals(o.Set)
		if o.Kind == c.Kind && other.SMTPServer == mine.SMTPServer && slices.Equal(other.NotificationEmail, mine.NotificationEmail) {
			return false
		}
	}
	return true
}

// Untold are the notices that a channel has yet to tell, oldest first, and how many
// more there were that are not kept.
func (t *Table) Untold(c Channel) (list []Notice, lost uint64) {
	for _, n := range t.Notices {
		if n.Seq > c.Told && t.Hears(c, n) {
			list = append(list, n)
		}
	}
	if t.NoticesLost > c.Told {
		lost = t.NoticesLost - c.Told
	}
	return list, lost
}

// Channel finds a channel as it is now.
func (t *Table) Channel(was Channel) (Channel, bool) { return find(t.Channels, was.same) }

// notice tells the channels, if there are any.
func (e *edit) notice(n Notice) {
	if !slices.ContainsFunc(e.Channels, func(c Channel) bool { return e.Hears(c, n) }) {
		return
	}
	n.Revision, n.At = e.rev, e.cmd.At
	e.fresh = append(e.fresh, n)
}

// settleNotices numbers the new notices, brings the channels in line with sets and
// members, and forgets what is told.
func (e *edit) settleNotices() {
	if e.cmd.Version < 3 && len(e.Channels) == 0 {
		return // no older command may begin with it
	}
	if more := len(e.fresh) - noticesPerCommand; more > 0 {
		last := e.fresh[noticesPerCommand]
		e.fresh = append(e.fresh[:noticesPerCommand], Notice{
			Revision: last.Revision, At: last.At, Kind: NoticeMore, Set: last.Set, Mail: true,
			Text: fmt.Sprintf("and %d more changes at the same time: see lbcluster server list", more),
		})
	}
	all := e.Notices
	for _, n := range e.fresh {
		e.LastNotice++
		n.Seq = e.LastNotice
		all = append(slices.Clip(all), n)
	}
	e.settleChannels()
	all = slices.DeleteFunc(slices.Clone(all), func(n Notice) bool {
		return !slices.ContainsFunc(e.Channels, func(c Channel) bool { return n.Seq > c.Told && e.Hears(c, n) })
	})
	if over := len(all) - NoticesKept; over > 0 {
		e.NoticesLost = all[over-1].Seq
		all = all[over:]
	}
	if e.Notices = nil; len(all) > 0 {
		e.Notices = all
	}
}

// settleChannels makes the channels that the sets ask for, each with a teller.
func (e *edit) settleChannels() {
	var all []Channel
	for _, want := range e.wantedChannels() {
		c, ok := e.Channel(want)
		if !ok && e.cmd.Version < 3 {
			continue
		}
		if !ok { // what was before concerns it not
			c = want
			c.Told, c.Claim = e.LastNotice, e.LastNotice
		}
		all = append(all, e.withTeller(c))
	}
	slices.SortFunc(all, Channel.compare)
	if !slices.Equal(all, e.Channels) {
		e.Channels = all
	}
}

// wantedChannels are those that sets and settings ask for.
func (e *edit) wantedChannels() []Channel {
	var all []Channel
	for _, to := range e.Settings.WebhookURLs() {
		all = append(all, Channel{Kind: ChannelWeb, To: to})
	}
	for _, s := range e.Sets {
		if s.Globals.mails() {
			all = append(all, Channel{Kind: ChannelMail, Set: s.Name})
		}
		// Services are many: they are looked through only if they changed.
		runs := slices.ContainsFunc(e.Channels, func(c Channel) bool { return c.Kind == ChannelRun && c.Set == s.Name })
		if !same(e.Services, e.old.Services) || !same(e.Sets, e.old.Sets) {
			runs = e.runs(s)
		}
		if !runs {
			continue
		}
		if e.Settings.Scripts != ScriptsEach {
			all = append(all, Channel{Kind: ChannelRun, Set: s.Name})
			continue
		}
		for _, m := range e.Members {
			if m.presentDirector() {
				all = append(all, Channel{Kind: ChannelRun, Set: s.Name, Of: m.ID})
			}
		}
	}
	return all
}

// withTeller gives c a teller who can.
func (e *edit) withTeller(c Channel) Channel {
	m, ok := e.Member(cmp.Or(c.Of, c.Teller))
	switch able := ok && m.tells(); {
	case able:
		c.Teller = m.ID
	case c.Of != "":
		c.Teller, c.Told, c.Claim = "", e.LastNotice, e.LastNotice
	default:
		c.Teller = e.nextTeller(c.Teller)
	}
	return c
}

// tells: a witness has neither the scripts nor, often, the way to a mail server.
func (m Member) tells() bool { return m.presentDirector() && !m.Silent }

// nextTeller is the first who can tell after a member, in turn; empty: nobody.
func (t *Table) nextTeller(after MemberID) MemberID {
	at := slices.IndexFunc(t.Members, func(m Member) bool { return m.ID == after })
	for i := range t.Members {
		if m := t.Members[(at+1+i)%len(t.Members)]; m.tells() {
			return m.ID
		}
	}
	return ""
}

func (e *edit) tell(w Tell) error {
	if e.cmd.Version < 3 {
		return oldVersion("nobody is told of anything")
	}
	asked := Channel{Kind: w.Kind, Set: w.Set, To: w.To, Of: w.Of}
	i := slices.IndexFunc(e.Channels, asked.same)
	if i < 0 {
		return notFound("%s", asked)
	}
	c := e.Channels[i]
	if c.Teller != w.Member {
		return invalid("%s is told by %s, not by %s", c, e.name(c.Teller), w.Member)
	}
	switch {
	case w.Pass && c.Of != "": // nobody else may
	case w.Pass:
		c.Teller = e.nextTeller(c.Teller)
	case w.Told > c.Claim:
		return invalid("%s: notice %d was not claimed", c, w.Told)
	case w.Told > c.Told:
		e.tellTold(c, w)
		c.Told = w.Told
	case w.Claim > e.LastNotice:
		return invalid("%s: there is no notice %d yet", c, w.Claim)
	case w.Claim > c.Claim && c.Claim > c.Told:
		return invalid("%s: the notices up to %d are not told yet", c, c.Claim)
	case w.Claim > c.Claim:
		c.Claim = w.Claim
	}
	if c == e.Channels[i] {
		return nil
	}
	e.Channels = slices.Clone(e.Channels)
	e.Channels[i] = c
	e.quiet = true
	return nil
}

func (e *edit) tellTold(c Channel, w Tell) {
	n := 0
	for _, o := range e.Notices {
		if o.Seq > c.Told && o.Seq <= w.Told && e.Hears(c, o) {
			n++
		}
	}
	if w.GaveUp != "" {
		e.event("told", "%s gave up telling %s (%s): %s", e.name(w.Member), count(n, "event"), c, clean(w.GaveUp, maxDetail))
		return
	}
	e.event("told", "%s told %s (%s)", e.name(w.Member), count(n, "event"), c)
}

// The notices of each kind of change.

func (e *edit) noticeOwner(u Unit, state, node, text string) {
	n := Notice{Kind: NoticeOwner, State: state, Name: u.Name, Node: node, Text: text}
	for _, g := range e.Groups {
		if g.ID == u.ID {
			n.Group, n.Set, n.Mail = true, g.Set, g.Alert
		}
	}
	for _, r := range e.Routers {
		if slices.Contains(u.Routers, r.ID) {
			n.Set, n.Mail = r.Set, n.Mail || r.Alert
		}
	}
	n.Mail = n.Mail && (state != "FAULT" || !e.Globals(n.Set).NoEmailFaults)
	e.notice(n)
}

func (e *edit) noticeMember(m Member, state, text string) {
	e.notice(Notice{Kind: NoticeMember, State: state, Name: m.Name, Mail: true, Text: text})
}

// noticeServers tells of each real server whose target has turned.
func (e *edit) noticeServers(turned map[Target]string) {
	if len(turned) == 0 || len(e.Channels) == 0 {
		return
	}
	for i, v := range e.Services {
		for j, target := range e.idx.of[i] {
			text, yes := turned[target]
			if !yes {
				continue
			}
			r := v.RealServers[j]
			e.notice(Notice{
				Kind: NoticeServer, State: upOrDown(!e.Health[target].Down), Set: v.Set,
				Service: v.ServiceKey, Server: r.AddrPort(), Mail: !r.NoAlert, Text: text,
				Run: e.runsFor(v.Set, r.Notify),
			})
		}
	}
}

func (e *edit) noticePool(v VirtualServer, short bool, text string) {
	e.notice(Notice{Kind: NoticePool, State: upOrDown(!short), Set: v.Set, Service: v.ServiceKey, Mail: v.Alert, Run: e.runsFor(v.Set, v.Notify), Text: text})
}

// runsFor reports whether a program or a pipe wants to hear of a change.
func (e *edit) runsFor(set string, u UpDown) bool {
	return u != UpDown{} || len(e.Globals(set).FIFOs.Paths(false)) > 0
}

func upOrDown(up bool) string {
	if up {
		return "UP"
	}
	return "DOWN"
}

func (c *checker) checkNotices() {
	t := c.t
	c.must(len(t.Notices) <= NoticesKept, "%d notices are kept", len(t.Notices))
	for i, n := range t.Notices {
		c.must(n.Seq > 0 && n.Seq <= t.LastNotice && (i == 0 || t.Notices[i-1].Seq < n.Seq), "notice %d is out of order", n.Seq)
		c.must(slices.ContainsFunc(t.Channels, func(ch Channel) bool { return n.Seq > ch.Told && t.Hears(ch, n) }), "notice %d is told, and kept", n.Seq)
	}
	for i, ch := range t.Channels {
		c.must(ch.Told <= ch.Claim && ch.Claim <= t.LastNotice, "%s: told %d, claimed %d of %d", ch, ch.Told, ch.Claim, t.LastNotice)
		set, _ := find(t.Sets, func(s Set) bool { return s.Name == ch.Set })
		c.must(ch.Kind == ChannelWeb && slices.Contains(t.Settings.WebhookURLs(), ch.To) || ch.Kind == ChannelMail && set.Globals.mails() || ch.Kind == ChannelRun && t.runs(set), "%s: nobody asks for it", ch)
		c.must(i == 0 || t.Channels[i-1].compare(ch) < 0, "%s is out of order", ch)
		m, ok := t.Member(ch.Teller)
		c.must(ch.Teller == "" && (ch.Of != "" || t.nextTeller("") == "") || ok && m.tells() && (ch.Of == "" || ch.Of == m.ID), "%s: %q tells it", ch, ch.Teller)
	}
}
