package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

const mailGlobals = `
global_defs {
    notification_email {
        root@lab.example
        ops@lab.example
    }
    notification_email_from lb@lab.example
    smtp_server 172.25.88.70
    smtp_connect_timeout 5
    router_id LVS_LAB
    smtp_alert_vrrp
}
`

// mailbox is a host with msmtpd, which pipes each mail into a file.
type mailbox struct {
	*lab.Host
	*lab.Proc
	said []string // what mails were waited for
}

func newMailbox(t *testing.T, s *site.Site) *mailbox {
	t.Helper()
	b := &mailbox{Host: s.AddHost("mail", "172.25.88.70/24")}
	b.WriteFile("/etc/keep", "#!/bin/sh\n(echo \"for $*\"; cat) >/run/mail.$$\n")
	b.MustRun("chmod", "755", "/etc/keep")
	b.start(t)
	return b
}

func (b *mailbox) start(t *testing.T) {
	t.Helper()
	b.Proc = b.Start("msmtpd", "msmtpd", "--interface=0.0.0.0", "--port=25", "--command=/etc/keep")
}

func (b *mailbox) stop(t *testing.T) {
	t.Helper()
	if err := b.Proc.Stop(); err != nil {
		t.Fatal(err)
	}
}

var (
	mailSubject = regexp.MustCompile(`(?m)^Subject: (.*)$`)
	mailID      = regexp.MustCompile(`(?m)^Message-ID: (.*)$`)
)

// mails are all that arrived, with their lines as they were.
func (b *mailbox) mails() []string {
	out, _ := b.Run(context.Background(), "sh", "-c", `for f in /run/mail.*; do [ -e "$f" ] && cat "$f" && echo "%%end%%"; done`)
	// What quoted-printable and the folding of headers broke is put together.
	out = strings.NewReplacer("\r", "", "=\r\n", "", "=\n", "", "=3D", "=", "\r\n ", " ", "\n ", " ").Replace(out)
	all := strings.Split(out, "%%end%%\n")
	return all[:len(all)-1]
}

// count is how many times the mails say something.
func (b *mailbox) count(what string) int { return strings.Count(strings.Join(b.mails(), ""), what) }

// await waits until the mails say something.
func (b *mailbox) await(t *testing.T, e *eyes, what string) {
	t.Helper()
	e.Eventually(40*time.Second, "a mail says "+what, func() error {
		if b.count(what) == 0 {
			return fmt.Errorf("the mails:\n%s", strings.Join(b.mails(), "\n"))
		}
		return nil
	})
	b.said = append(b.said, what)
}

// wantOnce checks that nothing was said twice, or is in a mail a second time.
func (b *mailbox) wantOnce(t *testing.T) {
	t.Helper()
	for _, what := range b.said {
		if n := b.count(what); n != 1 {
			t.Errorf("%d mails say %s:\n%s", n, what, strings.Join(b.mails(), "\n"))
		}
	}
}

// What happens to the cluster is told by one mail, whoever sees it, through a server
// from Debian; what no log can take, by each that sees it.
func TestMail(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	box := newMailbox(t, s)
	s.Form()
	e := open(s)
	e.applied(t, mailGlobals+poolRouter+strings.ReplaceAll(poolConf, "%POOL%", ""))
	owner := e.AwaitOwner()
	box.await(t, e, owner.Name+" took virtual router VI_1")

	e.Daemons[owner].PowerOff()
	delete(e.Daemons, owner)
	next := e.AwaitSuccessor(owner)
	box.await(t, e, next.Name+" took virtual router VI_1")
	box.await(t, e, "the cluster has no contact with "+owner.Name)
	if box.count("Subject: [LVS_LAB] VRRP Instance VI_1 - Entering MASTER state") != 2 {
		t.Errorf("the mails:\n%s", strings.Join(box.mails(), "\n"))
	}

	e.stopped(t, s.Web1)
	box.await(t, e, "real server 172.25.88.2:80 is down")
	if got := box.count("Subject: [LVS_LAB] Realserver [172.25.88.2]:tcp:80 of virtual server [172.25.88.100]:tcp:80 - DOWN"); got != 1 {
		t.Errorf("%d mails tell of it in their subject", got)
	}

	box.stop(t)
	s.Web1.StartNginx()
	e.Eventually(30*time.Second, "status says that mail waits", func() error {
		out, _ := e.Command(next, "status")
		if !strings.Contains(out, "cannot be delivered") || !strings.Contains(out, "events wait") && !strings.Contains(out, "1 event waits") {
			return fmt.Errorf("it says\n%s", out)
		}
		return nil
	})
	out, _ := e.Command(next, "status")
	t.Logf("while the mail server is away:\n%s", out)
	box.start(t)
	box.await(t, e, "real server 172.25.88.2:80 is up")
	if out, _ := e.Command(next, "status"); strings.Contains(out, "cannot be delivered") {
		t.Errorf("status still says\n%s", out)
	}

	var last *lab.Host
	for h := range e.Daemons {
		if h != next {
			last = h
		}
	}
	e.Daemons[next].PowerOff()
	delete(e.Daemons, next)
	box.await(t, e, last.Name+" has had no leader")
	time.Sleep(5 * time.Second)
	box.wantOnce(t)
	ids := map[string]bool{}
	for _, m := range box.mails() {
		ids[mailID.FindString(m)] = true
		t.Log(mailSubject.FindString(m))
		if !strings.HasPrefix(m, "for root@lab.example ops@lab.example") && !strings.HasPrefix(m, "for ops@lab.example root@lab.example") {
			t.Errorf("not for both:\n%s", m)
		}
	}
	if len(ids) != len(box.mails()) {
		t.Errorf("%d mails have %d Message-IDs", len(box.mails()), len(ids))
	}
	e.wantNoOverlap(t)
}
