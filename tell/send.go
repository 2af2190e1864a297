package tell

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
)

// ErrRefused wraps what a server refused for good (SMTP 5xx, HTTP 4xx).
var ErrRefused = errors.New("refused for good")

// Send hands a mail to its server. It ends within three of the mail's timeouts,
// whatever the server does, and at once when ctx does. TLS is used where the server
// offers it; whose certificate it is does not matter, for without TLS it would not
// either.
func Send(ctx context.Context, m Mail) error {
	msg, err := message(m)
	if err != nil {
		return err
	}
	host, portText, err := net.SplitHostPort(m.Server)
	if err != nil {
		return fmt.Errorf("smtp_server: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("smtp_server: %w", err)
	}
	var dialer net.Dialer
	stop := func() bool { return true }
	defer func() { stop() }()
	client, err := mail.NewClient(host, mail.WithPort(port), mail.WithTimeout(m.Timeout), mail.WithHELO(m.Helo),
		mail.WithoutNoop(),                                                                                                     // keepalived says none, and small servers know none
		mail.WithTLSPolicy(mail.TLSOpportunistic), mail.WithTLSConfig(&tls.Config{InsecureSkipVerify: true, ServerName: host}), //nolint:gosec // see above
		mail.WithDialContextFunc(func(dialing context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(dialing, network, address)
			if err == nil {
				stop = context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		}))
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	err = client.DialAndSendWithContext(ctx, msg)
	var refusal *mail.SendError
	switch {
	case msg.IsDelivered(): // what the server says afterwards changes nothing
		return nil
	case errors.As(err, &refusal) && refusal.ErrorCode() >= 500:
		return fmt.Errorf("%w: %s", ErrRefused, oneLine(err))
	case err != nil:
		return fmt.Errorf("mail to %s: %s", m.Server, oneLine(err))
	}
	return nil
}

// oneLine: the library joins errors by line ends.
func oneLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\nfailed to close")
	return strings.Join(strings.Fields(first), " ")
}

// message is m in the library's form.
func message(m Mail) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(m.From); err != nil {
		return nil, fmt.Errorf("notification_email_from: %w", err)
	}
	if err := msg.To(m.To...); err != nil {
		return nil, fmt.Errorf("notification_email: %w", err)
	}
	msg.SetMessageIDWithValue(m.ID)
	msg.SetDateWithValue(m.Date)
	msg.Subject(m.Subject)
	msg.SetGenHeader(mail.HeaderXMailer, "lbcluster")
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(mail.TypeTextPlain, m.Body)
	return msg, nil
}
