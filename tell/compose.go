package tell

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// Mail is one mail, ready to be sent.
type Mail struct {
	Server  string // host:port
	Helo    string
	Timeout time.Duration // for the connection, and again for the mail
	From    string
	To      []string
	ID      string // the Message-ID, without brackets
	Date    time.Time
	Subject string
	Body    string
}

// defaultTimeout is keepalived's smtp_connect_timeout.
const defaultTimeout = 30 * time.Second

// Compose makes the mail of a channel's batch, as the member called node sends it;
// false: nothing is left to tell. The same batch always has the same Message-ID.
func Compose(t *fsm.Table, c fsm.Channel, node string) (Mail, bool) {
	list := fold(batch(t, c))
	if len(list) == 0 {
		return Mail{}, false
	}
	m := compose(t.Globals(c.Set), list, node)
	m.ID = messageID(m.From, t.Cluster, c.Kind, c.Set, c.Told, c.Claim)
	if lost := t.NoticesLost; lost > c.Told {
		m.Body += fmt.Sprintf("\nUp to %d earlier events were too many to be kept: see lbcluster events.\n", lost-c.Told)
	}
	return m, true
}

// batch are the notices that are claimed.
func batch(t *fsm.Table, c fsm.Channel) []fsm.Notice {
	list, _ := t.Untold(c)
	return slices.DeleteFunc(list, func(n fsm.Notice) bool { return n.Seq > c.Claim })
}

// fold leaves out that nobody held a router where somebody took it afterwards: a
// planned handover is one change.
func fold(list []fsm.Notice) []fsm.Notice {
	var out []fsm.Notice
	for i, n := range list {
		taken := slices.ContainsFunc(list[i+1:], func(o fsm.Notice) bool {
			return o.Kind == fsm.NoticeOwner && o.Name == n.Name && o.Group == n.Group
		})
		if n.Kind == fsm.NoticeOwner && n.State == "FAULT" && taken {
			continue
		}
		out = append(out, n)
	}
	return out
}

func compose(g fsm.Globals, list []fsm.Notice, node string) Mail {
	host, port, err := net.SplitHostPort(g.SMTPServer)
	if err != nil {
		host, port = strings.Trim(g.SMTPServer, "[]"), "25"
	}
	m := Mail{
		Server: net.JoinHostPort(host, port), Helo: cmp.Or(g.SMTPHelo, node), Timeout: cmp.Or(g.SMTPTimeout.D(), defaultTimeout),
		From: qualified(cmp.Or(g.EmailFrom, "lbcluster"), node), Date: list[len(list)-1].At,
	}
	for _, to := range g.NotificationEmail {
		m.To = append(m.To, qualified(to, node))
	}
	first := slices.MinFunc(list, func(a, b fsm.Notice) int { return cmp.Compare(weight(a), weight(b)) })
	m.Subject = fmt.Sprintf("[%s] %s", cmp.Or(g.RouterID, first.Node, node), Headline(first))
	if more := len(list) - 1; more > 0 {
		m.Subject += fmt.Sprintf(" (and %d more)", more)
	}
	var b strings.Builder
	for _, n := range list {
		fmt.Fprintf(&b, "%s  %s\n    %s\n", n.At.Format("2006-01-02 15:04:05 MST"), Headline(n), n.Text)
	}
	fmt.Fprintf(&b, "\nSent by lbcluster on %s. Look at it with: lbcluster status; lbcluster events\n", node)
	m.Body = b.String()
	return m
}

// weight says which of the notices of a mail gives it its subject: the least. People
// filter for changes of an owner.
func weight(n fsm.Notice) int {
	return slices.Index([]fsm.NoticeKind{"gate", "quorum", fsm.NoticeOwner, fsm.NoticePool, fsm.NoticeServer, fsm.NoticeMember, fsm.NoticeMore}, n.Kind)
}

// qualified is an address with a domain: keepalived takes a bare "root", too.
func qualified(address, node string) string {
	if strings.Contains(address, "@") {
		return address
	}
	return address + "@" + node
}

// Headline is a notice in few words: keepalived's where it has some (core/smtp.c,
// vrrp_notify.c), so that filters go on working.
func Headline(n fsm.Notice) string {
	switch n.Kind {
	case fsm.NoticeOwner:
		what := "Instance"
		if n.Group {
			what = "Group"
		}
		return fmt.Sprintf("VRRP %s %s - Entering %s state", what, n.Name, n.State)
	case fsm.NoticeServer:
		return fmt.Sprintf("Realserver %s of virtual server %s - %s", n.Service.ServerText(n.Server), n.Service.Text(), n.State)
	case fsm.NoticePool:
		return fmt.Sprintf("Virtualserver %s - %s", n.Service.Text(), n.State)
	case fsm.NoticeMember:
		return fmt.Sprintf("Member %s - %s", n.Name, n.State)
	case fsm.NoticeMore:
		return "More changes"
	}
	return n.Name + " - " + n.State
}

func messageID(from string, parts ...any) string {
	_, domain, _ := strings.Cut(strings.TrimRight(from, ">"), "@")
	return hookID(parts...) + "@" + cmp.Or(domain, "lbcluster")
}

// hookID is the same for the same parts.
func hookID(parts ...any) string {
	var text []byte
	for _, p := range parts {
		text = fmt.Appendf(text, "%v\x00", p)
	}
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%x", sum[:16])
}
