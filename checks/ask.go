package checks

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"strings"

	"github.com/miekg/dns"

	"lbcluster/fsm"
	"lbcluster/script"
)

// askSMTP wants 220, says HELO and wants 250, as keepalived's SMTP_CHECK does.
func askSMTP(ctx context.Context, c fsm.Check) error {
	conn, err := connect(ctx, c, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer step(ctx, conn, c)()
	talk := textproto.NewConn(conn)
	if _, _, err := talk.ReadResponse(220); err != nil {
		return explain(said("greeting", err), c)
	}
	if err := talk.PrintfLine("HELO %s", c.Helo); err != nil {
		return explain(err, c)
	}
	if _, _, err := talk.ReadResponse(250); err != nil {
		return explain(said("answer to HELO", err), c)
	}
	_ = talk.PrintfLine("QUIT") // it is up, however it says goodbye
	return nil
}

// said tells what a server said instead of what was wanted.
func said(what string, err error) error {
	var code *textproto.Error
	if errors.As(err, &code) {
		return fmt.Errorf("SMTP %s: %d %s", what, code.Code, firstLine(code.Msg))
	}
	if strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "short response") {
		return fmt.Errorf("no SMTP %s", what)
	}
	return err
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line[:min(len(line), 80)]
}

// askDNS asks its question over UDP. Every answer without an error code is good.
func askDNS(ctx context.Context, c fsm.Check) error {
	conn, err := connect(ctx, c, "udp")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer step(ctx, conn, c)()
	question := new(dns.Msg).SetQuestion(dns.Fqdn(c.DNS.Name), dns.StringToType[c.DNS.Type])
	talk := &dns.Conn{Conn: conn}
	if err := talk.WriteMsg(question); err != nil {
		return explain(err, c)
	}
	for {
		answer, err := talk.ReadMsg()
		var broken *dns.Error
		switch {
		case errors.As(err, &broken): // a lie, or somebody else's packet
			continue
		case err != nil:
			return explain(err, c)
		case answer.Id != question.Id || !answer.Response:
			continue
		case answer.Rcode != dns.RcodeSuccess:
			return fmt.Errorf("DNS answer %s", dns.RcodeToString[answer.Rcode])
		}
		return nil
	}
}

// maxPacket is the longest UDP packet.
const maxPacket = 65535

// askUDP sends a packet. Where no reply is asked for, the check passes unless the
// host says within the time that nobody is there (ICMP port unreachable).
func askUDP(ctx context.Context, c fsm.Check) error {
	conn, err := connect(ctx, c, "udp")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer step(ctx, conn, c)()
	payload, _ := hex.DecodeString(c.UDP.Payload) // the table takes nothing else
	if len(payload) == 0 {
		payload = make([]byte, 64)
	}
	if _, err := conn.Write(payload); err != nil {
		return explain(err, c)
	}
	packet := make([]byte, maxPacket)
	n, err := conn.Read(packet)
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.UDP.Reply && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return explain(err, c)
	}
	if c.UDP.Expect != "" && !expected(packet[:n], *c.UDP) {
		return fmt.Errorf("the reply of %d bytes is another one", n)
	}
	return nil
}

// expected compares as many bytes as both have, as keepalived does.
func expected(reply []byte, u fsm.UDPCheck) bool {
	if len(reply) < u.MinLength || len(reply) > u.MaxLength {
		return false
	}
	digits := hex.EncodeToString(reply)
	for i := range min(len(digits), len(u.Expect)) {
		if u.Expect[i] != 'x' && u.Expect[i] != digits[i] {
			return false
		}
	}
	return true
}

// runScript runs a program; its exit status 0 is good.
func runScript(ctx context.Context, c fsm.Check) (w fsm.Weighing, err error) {
	status, err := script.Run(ctx, script.Job{Command: c.Script.Command, User: c.Script.User, Timeout: c.Script.Timeout.D()})
	switch {
	case errors.Is(err, script.ErrTimeout):
		return w, fmt.Errorf("the script did not end within %s", c.Script.Timeout)
	case c.Script.Dynamic && status >= 2:
		return fsm.Weighing{Times: 1, Sum: status - 2}, nil
	}
	return w, err
}
