package checks

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"lbcluster/fsm"
)

// maxPage bounds what is read of an answer, in bytes.
const maxPage = 8 << 20

// askHTTP asks for each URL in turn, on a connection of its own. The request is
// keepalived's to the byte, since servers tell versions, hosts and agents apart;
// what comes back is read by net/http. Certificates are not verified, as
// keepalived does not: servers are named by their addresses.
func askHTTP(ctx context.Context, c fsm.Check) error {
	for _, u := range c.HTTP.URLs {
		if err := askURL(ctx, c, u); err != nil {
			if len(c.HTTP.URLs) > 1 {
				return fmt.Errorf("%s%s: %w", u.VirtualHost, u.Path, err)
			}
			return err
		}
	}
	return nil
}

func askURL(ctx context.Context, c fsm.Check, u fsm.HTTPURL) error {
	conn, err := connect(ctx, c, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer step(ctx, conn, c)()
	if c.Kind == fsm.CheckHTTPS {
		if conn, err = handshake(ctx, conn, c, u); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, request(c, u)); err != nil {
		return explain(err, c)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return explain(strange(err), c)
	}
	defer answer.Body.Close()
	if !fsm.Has(u.Status, answer.StatusCode) {
		return fmt.Errorf("HTTP status %d", answer.StatusCode)
	}
	if u.Digest == "" && u.Regex == "" {
		return nil // the rest would say nothing
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxPage+1))
	switch {
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF): // shorter than it said: keepalived takes what came
		return explain(err, c)
	case len(body) > maxPage:
		return fmt.Errorf("the page is longer than %d bytes", maxPage)
	}
	return judgePage(body, u)
}

// handshake makes conn a TLS connection; its errors say so.
func handshake(ctx context.Context, conn net.Conn, c fsm.Check, u fsm.HTTPURL) (net.Conn, error) {
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}
	if c.HTTP.SNI {
		config.ServerName = u.VirtualHost
	}
	t := tls.Client(conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		if err = explain(err, c); strings.HasPrefix(err.Error(), "no answer") {
			return nil, err
		}
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return t, nil
}

// request is what keepalived's HTTP_GET sends.
func request(c fsm.Check, u fsm.HTTPURL) string {
	version, closes := "1.0", ""
	if c.HTTP.Protocol == fsm.HTTPProtocol11 {
		version = "1.1"
	}
	if c.HTTP.Protocol != fsm.HTTPProtocol10 {
		closes = "Connection: close\r\n"
	}
	host := u.VirtualHost
	if host == "" {
		host = c.Dest.String()
	}
	return fmt.Sprintf("GET %s HTTP/%s\r\nUser-Agent: KeepAliveClient\r\n%sHost: %s\r\n\r\n", u.Path, version, closes, host)
}

// strange names an end that is no answer.
func strange(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed without an answer")
	case strings.Contains(err.Error(), "malformed"):
		return errors.New("the answer is not HTTP")
	}
	return err
}

func judgePage(body []byte, u fsm.HTTPURL) error {
	if sum := md5.Sum(body); u.Digest != "" && hex.EncodeToString(sum[:]) != u.Digest {
		return fmt.Errorf("the page's MD5 digest is %x", sum)
	}
	if u.Regex == "" || found(body, u) != u.NoMatch {
		return nil
	}
	if u.NoMatch {
		return errors.New("the page matches the regex")
	}
	return errors.New("the page does not match the regex")
}

// found looks for a match that begins within the offsets.
func found(body []byte, u fsm.HTTPURL) bool {
	re, err := pattern(u.Regex)
	if err != nil || u.MinOffset > len(body) {
		return false // the table takes no pattern that cannot be read
	}
	at := re.FindIndex(body[u.MinOffset:])
	return at != nil && (u.MaxOffset == 0 || u.MinOffset+at[0] <= u.MaxOffset)
}

// patterns keeps what was compiled: checks come every second.
var patterns sync.Map // of *regexp.Regexp by string

func pattern(text string) (*regexp.Regexp, error) {
	if re, ok := patterns.Load(text); ok {
		return re.(*regexp.Regexp), nil
	}
	re, err := regexp.Compile(text)
	if err == nil {
		patterns.Store(text, re)
	}
	return re, err
}
