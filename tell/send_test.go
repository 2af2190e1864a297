package tell

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// smtpServer is a mail server that may misbehave. say changes an answer by the
// command's first word; "" says nothing more and keeps the connection, "drop"
// closes it.
type smtpServer struct {
	net.Listener
	mu    sync.Mutex
	mails []string
	rcpts []string
}

func serve(t *testing.T, say map[string]string) *smtpServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpServer{Listener: ln}
	var wg sync.WaitGroup
	conns := map[net.Conn]bool{}
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		for c := range conns {
			c.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			conns[c] = true
			s.mu.Unlock()
			wg.Go(func() { defer c.Close(); s.talk(c, say) })
		}
	})
	return s
}

func (s *smtpServer) talk(c net.Conn, say map[string]string) {
	r := bufio.NewReader(c)
	answer := func(word, usual string) bool {
		a, ok := say[word]
		if !ok {
			a = usual
		}
		switch a {
		case "drop":
			return false
		case "":
			_, _ = r.ReadByte() // until the other side gives up
			return false
		}
		_, err := c.Write([]byte(a + "\r\n"))
		return err == nil
	}
	if !answer("hello", "220 lab ESMTP") {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		word, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word = strings.ToUpper(word); word {
		case "DATA":
			if !answer("DATA", "354 go on") {
				return
			}
			if say["DATA"] != "" {
				continue
			}
			if say["mid"] == "drop" {
				_, _ = r.ReadString('\n')
				return
			}
			var text strings.Builder
			for line := ""; line != ".\r\n"; text.WriteString(line) {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			s.mu.Lock()
			s.mails = append(s.mails, text.String())
			s.mu.Unlock()
			if !answer(".", "250 queued") {
				return
			}
		case "RCPT":
			s.mu.Lock()
			s.rcpts = append(s.rcpts, arg)
			s.mu.Unlock()
			if !answer("RCPT", "250 ok") {
				return
			}
		case "QUIT":
			answer("QUIT", "221 bye")
			return
		default:
			if !answer(word, "250 ok") {
				return
			}
		}
	}
}

func sample(server string) Mail {
	return Mail{
		Server: server, Helo: "dir1", Timeout: 300 * time.Millisecond, From: "lb@lab", To: []string{"a@lab", "b@lab"}, ID: "1@lab",
		Date: epoch, Subject: master, Body: "one line\n.\nétat\n",
	}
}

func TestSend(t *testing.T) {
	s := serve(t, nil)
	if err := Send(t.Context(), sample(s.Addr().String())); err != nil {
		t.Fatal(err)
	}
	if len(s.mails) != 1 || len(s.rcpts) != 2 {
		t.Fatalf("%d mails to %q", len(s.mails), s.rcpts)
	}
	for _, line := range []string{"Message-ID: <1@lab>", "Date: Tue, 24 Nov 2026 03:00:00 +0000", "Subject: " + master, "From: <lb@lab>",
		"To: <a@lab>, <b@lab>", "Auto-Submitted: auto-generated", "X-Mailer: lbcluster", "=C3=A9tat", "\r\n..\r\n"} {
		if !strings.Contains(s.mails[0], line) {
			t.Errorf("no %q in\n%s", line, s.mails[0])
		}
	}
}

func TestSendToServersThatMisbehave(t *testing.T) {
	for name, c := range map[string]struct {
		say      map[string]string
		accepted bool // by our judgement
		refused  bool
		mails    int // that the server has
	}{
		"says nothing":                {say: map[string]string{"hello": ""}},
		"closes at once":              {say: map[string]string{"hello": "drop"}},
		"says 554 at once":            {say: map[string]string{"hello": "554 go away"}},
		"hangs at MAIL":               {say: map[string]string{"MAIL": ""}},
		"451 at MAIL":                 {say: map[string]string{"MAIL": "451 later"}},
		"550 at RCPT":                 {say: map[string]string{"RCPT": "550 who?"}, refused: true},
		"450 at RCPT":                 {say: map[string]string{"RCPT": "450 greylisted"}},
		"552 at DATA":                 {say: map[string]string{"DATA": "552 full"}, refused: true},
		"drops in DATA":               {say: map[string]string{"mid": "drop"}},
		"hangs after DATA":            {say: map[string]string{".": ""}, mails: 1},
		"drops after DATA":            {say: map[string]string{".": "drop"}, mails: 1},
		"554 after DATA":              {say: map[string]string{".": "554 spam"}, mails: 1, refused: true},
		"drops after it has accepted": {say: map[string]string{"RSET": "drop", "QUIT": "drop"}, accepted: true, mails: 1},
		"hangs after it has accepted": {say: map[string]string{"RSET": "", "QUIT": ""}, accepted: true, mails: 1},
		"knows neither NOOP nor RSET": {say: map[string]string{"NOOP": "drop", "RSET": "drop"}, accepted: true, mails: 1},
		"speaks no SMTP":              {say: map[string]string{"hello": "HTTP/1.1 400 Bad Request"}},
		"offers TLS and has none":     {say: map[string]string{"EHLO": "250-lab\r\n250 STARTTLS", "STARTTLS": "drop"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.say)
			err := Send(t.Context(), sample(s.Addr().String()))
			if (err == nil) != c.accepted || errors.Is(err, ErrRefused) != c.refused {
				t.Errorf("%v", err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.mails) != c.mails {
				t.Errorf("the server has %d mails", len(s.mails))
			}
		})
	}
}

func TestSendNobodyListens(t *testing.T) {
	s := serve(t, nil)
	s.Close()
	err := Send(t.Context(), sample(s.Addr().String()))
	if err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	s := serve(t, map[string]string{"MAIL": ""})
	ctx, cancel := context.WithCancel(t.Context())
	m := sample(s.Addr().String())
	m.Timeout = time.Hour
	ended := make(chan error)
	go func() { ended <- Send(ctx, m) }()
	cancel()
	if err := <-ended; err == nil {
		t.Error("sent")
	}
}

func TestBadAddressesAreNamed(t *testing.T) {
	for _, c := range []struct {
		change func(*Mail)
		want   string
	}{
		{func(m *Mail) { m.From = "a b@c" }, "notification_email_from"},
		{func(m *Mail) { m.To = []string{"a@b", "@"} }, "notification_email"},
		{func(m *Mail) { m.Server = "host:smtp" }, "smtp_server"},
	} {
		m := sample("127.0.0.1:1")
		c.change(&m)
		if err := Send(t.Context(), m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Error(err)
		}
	}
}
